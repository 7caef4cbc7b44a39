//! ResNet to the fourth stage, and the stage that the region head ends with.

use onnx::{ConvOptions, PoolOptions, Value};

use super::Parts;
use crate::network::{NetworkError, folded_conv};

/// How a stage differs from the plain one.
#[derive(Clone, Copy)]
struct Stage {
    /// Stride of the first block, in its first convolution (as in Caffe).
    stride: usize,
    /// Padding and dilation of the 3x3 convolutions.
    spread: usize,
}

impl Parts<'_, '_, '_> {
    /// `[1, 3, height, width]` to `[1, channels, height/16, width/16]`.
    pub(super) fn backbone(&mut self, image: Value) -> Result<Value, NetworkError> {
        let options = ConvOptions { stride: 2, padding: 3, dilation: 1 };
        let x = self.conv("backbone.stem.conv1", image, options)?;
        let x = self.graph.scope("backbone.stem", |graph| graph.relu(x))?;
        self.tap("stem_conv", x)?;
        // Caffe's: no padding, and the last window may reach over the border.
        let pool = PoolOptions { window: [3, 3], stride: 2, padding_end: [0, 0], ceil: true };
        let mut x = self.graph.scope("backbone.stem", |graph| graph.max_pool(x, pool))?;
        self.tap("stem", x)?;
        for (name, stride) in [("res2", 1), ("res3", 2), ("res4", 2)] {
            x = self.stage(&format!("backbone.{name}"), x, Stage { stride, spread: 1 })?;
            self.tap(name, x)?;
        }
        Ok(x)
    }

    /// The last stage keeps the map's size: no stride, and 3x3 kernels spread by 2.
    pub(super) fn last_stage(&mut self, pooled: Value) -> Result<Value, NetworkError> {
        self.stage("roi_heads.res5", pooled, Stage { stride: 1, spread: 2 })
    }

    fn stage(&mut self, prefix: &str, x: Value, stage: Stage) -> Result<Value, NetworkError> {
        let blocks = self.weights.count(&format!("{prefix}."), ".conv1.weight");
        if blocks == 0 {
            return Err(NetworkError::Missing(format!("{prefix}.0.conv1.weight")));
        }
        let mut x = x;
        for block in 0..blocks {
            let stride = if block == 0 { stage.stride } else { 1 };
            x = self.block(&format!("{prefix}.{block}"), x, stride, stage.spread)?;
        }
        Ok(x)
    }

    fn block(
        &mut self,
        prefix: &str,
        x: Value,
        stride: usize,
        spread: usize,
    ) -> Result<Value, NetworkError> {
        let pointwise = ConvOptions { stride, ..ConvOptions::default() };
        let inner = self.conv_relu(&format!("{prefix}.conv1"), x, pointwise)?;
        let middle = ConvOptions { padding: spread, dilation: spread, stride: 1 };
        let inner = self.conv_relu(&format!("{prefix}.conv2"), inner, middle)?;
        let inner = self.conv(&format!("{prefix}.conv3"), inner, ConvOptions::default())?;
        let shortcut = format!("{prefix}.shortcut");
        let x = if self.weights.has(&format!("{shortcut}.weight")) {
            self.conv(&shortcut, x, pointwise)?
        } else {
            x
        };
        Ok(self.graph.scope(prefix, |graph| {
            let sum = graph.add(inner, x)?;
            graph.relu(sum)
        })?)
    }

    fn conv(&mut self, name: &str, x: Value, options: ConvOptions) -> Result<Value, NetworkError> {
        let weights = self.weights;
        self.graph.scope(name, |graph| {
            folded_conv(graph, weights, x, [name, &format!("{name}.norm")], options)
        })
    }

    fn conv_relu(
        &mut self,
        name: &str,
        x: Value,
        options: ConvOptions,
    ) -> Result<Value, NetworkError> {
        let x = self.conv(name, x, options)?;
        Ok(self.graph.scope(name, |graph| graph.relu(x))?)
    }
}
