//! The changed ResNet: three convolutions in the stem, average pooling for strides, attention instead of the last mean.
//!
//! Batch normalisation keeps the statistics of the weights, also in training: ImageCoDe's scripts leave CLIP in evaluation
//! mode. It is folded into the convolution before it, so that its result needs no memory of its own.

use tch::Tensor;
use tch::nn;

use super::Observe;
use super::blocks::{attend, linear};
use super::config::ClipConfig;
use crate::model::layers::Linear;

const BATCH_NORM_EPS: f64 = 1e-5;
/// Channels of a block's result are this many times those inside.
const EXPANSION: i64 = 4;

/// A convolution and the batch normalisation behind it.
#[derive(Debug)]
struct Conv {
    kernel: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    stride: i64,
}

impl Conv {
    fn new(conv: nn::Path, norm: nn::Path, size: [i64; 3], stride: i64) -> Conv {
        let [inputs, outputs, side] = size;
        Conv {
            kernel: conv.zeros("weight", &[outputs, inputs, side, side]),
            weight: norm.zeros("weight", &[outputs]),
            bias: norm.zeros("bias", &[outputs]),
            mean: norm.zeros_no_train("running_mean", &[outputs]),
            variance: norm.zeros_no_train("running_var", &[outputs]),
            stride,
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let factor = &self.weight / (&self.variance + BATCH_NORM_EPS).sqrt();
        let kernel = (&self.kernel * factor.view([-1, 1, 1, 1])).to_kind(x.kind());
        let bias = (&self.bias - &self.mean * factor).to_kind(x.kind());
        let padding = self.kernel.size()[2] / 2;
        x.conv2d(&kernel, Some(bias), [self.stride; 2], [padding; 2], [1; 2], 1)
    }
}

#[derive(Debug)]
struct Bottleneck {
    convs: [Conv; 3],
    /// In the first block of a stage.
    shortcut: Option<Conv>,
    stride: i64,
}

impl Bottleneck {
    fn new(path: &nn::Path, inputs: i64, planes: i64, first_stride: Option<i64>) -> Bottleneck {
        let conv =
            |n: usize, size| Conv::new(path / format!("conv{n}"), path / format!("bn{n}"), size, 1);
        let outputs = EXPANSION * planes;
        let shortcut = path / "downsample";
        Bottleneck {
            convs: [
                conv(1, [inputs, planes, 1]),
                conv(2, [planes, planes, 3]),
                conv(3, [planes, outputs, 1]),
            ],
            shortcut: first_stride
                .map(|_| Conv::new(&shortcut / 0, &shortcut / 1, [inputs, outputs, 1], 1)),
            stride: first_stride.unwrap_or(1),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let inner = self.convs[0].forward(x).relu();
        let inner = self.convs[1].forward(&inner).relu();
        let inner = self.convs[2].forward(&shrunk(&inner, self.stride));
        let outer = match &self.shortcut {
            Some(conv) => conv.forward(&shrunk(x, self.stride)),
            None => x.shallow_clone(),
        };
        (inner + outer).relu()
    }
}

/// The means of squares.
fn shrunk(x: &Tensor, side: i64) -> Tensor {
    match side {
        1 => x.shallow_clone(),
        side => x.avg_pool2d([side; 2], [side; 2], [0; 2], false, true, None),
    }
}

/// One query, the mean over all positions, looks at itself and all positions.
#[derive(Debug)]
struct AttentionPool {
    /// `[grid² + 1, width]`
    positions: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
}

impl AttentionPool {
    fn new(path: &nn::Path, width: i64, grid: i64, embed: i64) -> AttentionPool {
        AttentionPool {
            positions: path.zeros("positional_embedding", &[grid * grid + 1, width]),
            query: linear(path / "q_proj", width, width),
            key: linear(path / "k_proj", width, width),
            value: linear(path / "v_proj", width, width),
            output: linear(path / "c_proj", width, embed),
        }
    }

    fn forward(&self, map: &Tensor) -> Tensor {
        // [N, width, grid, grid] to [N, grid², width]
        let rows = map.flatten(2, 3).transpose(1, 2);
        let mean = rows.mean_dim([1].as_slice(), true, rows.kind());
        let x = Tensor::cat(&[mean, rows], 1) + self.positions.to_kind(map.kind());
        let query = self.query.forward(&x.narrow(1, 0, 1));
        let (key, value) = (self.key.forward(&x), self.value.forward(&x));
        self.output.forward(&attend(&query, &key, &value, None, false).squeeze_dim(1))
    }
}

#[derive(Debug)]
pub(super) struct ResNet {
    stem: [Conv; 3],
    stages: [Vec<Bottleneck>; 4],
    pool: AttentionPool,
}

impl ResNet {
    pub fn new(path: &nn::Path, config: &ClipConfig, blocks: [i64; 4]) -> ResNet {
        let (width, grid) = (config.vision_cfg.width, config.vision_cfg.image_size / 32);
        let conv = |n: usize, inputs, outputs, stride| {
            let size = [inputs, outputs, 3];
            Conv::new(path / format!("conv{n}"), path / format!("bn{n}"), size, stride)
        };
        let half = width / 2;
        let stem = [conv(1, 3, half, 2), conv(2, half, half, 1), conv(3, half, width, 1)];
        let stages = std::array::from_fn(|stage| {
            let (planes, path) = (width << stage, path / format!("layer{}", stage + 1));
            let before = if stage == 0 { width } else { EXPANSION * planes / 2 };
            let block = |number| {
                let inputs = if number == 0 { before } else { EXPANSION * planes };
                let stride = (number == 0).then_some(if stage == 0 { 1 } else { 2 });
                Bottleneck::new(&(&path / number), inputs, planes, stride)
            };
            (0..blocks[stage]).map(block).collect()
        });
        let pool =
            AttentionPool::new(&(path / "attnpool"), 8 * EXPANSION * width, grid, config.embed_dim);
        ResNet { stem, stages, pool }
    }

    /// `[N, 3, n, n]` to `[N, embed]`.
    pub fn forward(&self, pictures: &Tensor, mut observe: Option<Observe>) -> Tensor {
        let mut see = |name: &str, x: &Tensor| {
            if let Some(observe) = &mut observe {
                observe(name, x);
            }
        };
        let mut x = pictures.shallow_clone();
        for conv in &self.stem {
            x = conv.forward(&x).relu();
        }
        x = shrunk(&x, 2);
        see("visual.stem", &x);
        for (number, stage) in (1..).zip(&self.stages) {
            for block in stage {
                x = block.forward(&x);
            }
            see(&format!("visual.layer{number}"), &x);
        }
        self.pool.forward(&x)
    }
}
