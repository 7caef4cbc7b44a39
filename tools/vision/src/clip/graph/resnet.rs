//! The changed ResNet: three convolutions in the stem, average pooling for strides, and attention instead of the last mean.

use onnx::{ConvOptions, Value};

use super::Parts;
use super::architecture::ResNet;
use super::blocks::{attend, scaled};
use crate::network::{NetworkError, folded_conv};

/// Channels of a block's result are this many times those inside.
const EXPANSION: usize = 4;

impl Parts<'_, '_, '_> {
    /// `[N, 3, n, n]` to `[N, embed]`.
    pub(super) fn resnet(&mut self, resnet: &ResNet, image: Value) -> Result<Value, NetworkError> {
        let mut x = self.stem(image)?;
        self.tap("visual.stem", x)?;
        for (stage, blocks) in (1..).zip(resnet.blocks) {
            for block in 0..blocks {
                let stride = if stage > 1 && block == 0 { 2 } else { 1 };
                x = self.bottleneck(
                    &format!("visual.layer{stage}.{block}"),
                    x,
                    stride,
                    block == 0,
                )?;
            }
            self.tap(&format!("visual.layer{stage}"), x)?;
        }
        self.attention_pool(resnet.grid, resnet.width * 8 * EXPANSION, x)
    }

    fn stem(&mut self, image: Value) -> Result<Value, NetworkError> {
        let mut x = image;
        for (number, stride) in [(1, 2), (2, 1), (3, 1)] {
            let names = [format!("visual.conv{number}"), format!("visual.bn{number}")];
            x = self.conv_relu(&names, x, ConvOptions { stride, padding: 1, dilation: 1 })?;
        }
        Ok(self.graph.scope("visual.stem", |graph| graph.average_pool(x, 2))?)
    }

    fn bottleneck(
        &mut self,
        prefix: &str,
        x: Value,
        stride: usize,
        first: bool,
    ) -> Result<Value, NetworkError> {
        let names = |number| [format!("{prefix}.conv{number}"), format!("{prefix}.bn{number}")];
        let inner = self.conv_relu(&names(1), x, ConvOptions::default())?;
        let inner =
            self.conv_relu(&names(2), inner, ConvOptions { padding: 1, ..ConvOptions::default() })?;
        let inner = self.shrink(prefix, inner, stride)?;
        let inner = self.conv(&names(3), inner, ConvOptions::default())?;
        let shortcut = if first {
            let x = self.shrink(prefix, x, stride)?;
            let names = [format!("{prefix}.downsample.0"), format!("{prefix}.downsample.1")];
            self.conv(&names, x, ConvOptions::default())?
        } else {
            x
        };
        Ok(self.graph.scope(prefix, |graph| {
            let sum = graph.add(inner, shortcut)?;
            graph.relu(sum)
        })?)
    }

    /// One query, the mean over all positions, looks at itself and all positions.
    fn attention_pool(
        &mut self,
        grid: usize,
        width: usize,
        map: Value,
    ) -> Result<Value, NetworkError> {
        const PREFIX: &str = "visual.attnpool";
        let positions = grid * grid + 1;
        let places =
            self.weights.get(&format!("{PREFIX}.positional_embedding"), &[positions, width])?;
        let (x, first) = self.graph.scope(PREFIX, |graph| {
            let rows = graph.reshape(map, &[0, 0, -1])?;
            let rows = graph.transpose(rows, &[0, 2, 1])?; // [N, h·w, width]
            let mean = graph.reduce_mean(rows, &[1], true)?;
            let all = graph.concat(&[mean, rows], 1)?;
            let places = graph.constant(&format!("{PREFIX}.positional_embedding"), places)?;
            let x = graph.add(all, places)?;
            let first = graph.slice(x, 1, 0, 1)?;
            Ok::<_, NetworkError>((x, first))
        })?;
        let query = self.query(&format!("{PREFIX}.q_proj"), width, first)?;
        let key = self.linear(&format!("{PREFIX}.k_proj"), [width, width], x)?;
        let value = self.linear(&format!("{PREFIX}.v_proj"), [width, width], x)?;
        let context = self.graph.scope(PREFIX, |graph| {
            let context = attend(graph, [query, key, value], width, None)?;
            graph.squeeze(context, &[1])
        })?;
        self.linear(&format!("{PREFIX}.c_proj"), [self.embed, width], context)
    }

    /// The query, scaled.
    fn query(&mut self, prefix: &str, width: usize, x: Value) -> Result<Value, NetworkError> {
        let weight = self.weights.numbers(&format!("{prefix}.weight"), &[width, width])?;
        let bias = self.weights.numbers(&format!("{prefix}.bias"), &[width])?;
        let tensor = |shape: Vec<usize>, numbers: Vec<f32>| {
            let count = numbers.len();
            onnx::TensorData::new(shape, scaled(numbers, count))
                .map_err(|source| NetworkError::Tensor { name: prefix.to_owned(), source })
        };
        let (weight, bias) = (tensor(vec![width, width], weight)?, tensor(vec![width], bias)?);
        Ok(self.graph.scope(prefix, |graph| graph.linear(x, &weight, Some(&bias)))?)
    }

    fn shrink(&mut self, prefix: &str, x: Value, stride: usize) -> Result<Value, NetworkError> {
        if stride == 1 {
            return Ok(x);
        }
        Ok(self.graph.scope(prefix, |graph| graph.average_pool(x, stride))?)
    }

    fn conv(
        &mut self,
        names: &[String; 2],
        x: Value,
        options: ConvOptions,
    ) -> Result<Value, NetworkError> {
        let weights = self.weights;
        self.graph.scope(&names[0], |graph| {
            folded_conv(graph, weights, x, [&names[0], &names[1]], options)
        })
    }

    fn conv_relu(
        &mut self,
        names: &[String; 2],
        x: Value,
        options: ConvOptions,
    ) -> Result<Value, NetworkError> {
        let x = self.conv(names, x, options)?;
        Ok(self.graph.scope(&names[0], |graph| graph.relu(x))?)
    }
}
