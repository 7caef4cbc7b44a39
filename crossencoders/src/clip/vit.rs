//! The transformer over patches.

use tch::Tensor;
use tch::nn;

use super::Observe;
use super::blocks::{LayerNorm, ResidualBlock, Rows};
use super::config::ClipConfig;

#[derive(Debug)]
pub(super) struct Vit {
    /// `[width, 3, patch, patch]`
    patches: Tensor,
    class: Tensor,
    /// `[grid² + 1, width]`
    positions: Tensor,
    before: LayerNorm,
    blocks: Vec<ResidualBlock>,
    after: LayerNorm,
    /// `[width, embed]`
    projection: Tensor,
}

impl Vit {
    pub fn new(path: &nn::Path, config: &ClipConfig, layers: i64) -> Vit {
        let vision = &config.vision_cfg;
        let (width, patch) = (vision.width, vision.patch_size.unwrap_or(1));
        let grid = vision.image_size / patch;
        let blocks = path / "transformer" / "resblocks";
        Vit {
            patches: (path / "conv1").zeros("weight", &[width, 3, patch, patch]),
            class: path.zeros("class_embedding", &[width]),
            positions: path.zeros("positional_embedding", &[grid * grid + 1, width]),
            before: LayerNorm::new(path / "ln_pre", width),
            blocks: (0..layers).map(|n| ResidualBlock::new(&(&blocks / n), width)).collect(),
            after: LayerNorm::new(path / "ln_post", width),
            projection: path.zeros("proj", &[width, config.embed_dim]),
        }
    }

    /// `[N, 3, n, n]` to `[N, embed]`. Without an observer the last block computes position 0 only.
    pub fn forward(&self, pictures: &Tensor, mut observe: Option<Observe>) -> Tensor {
        let mut see = |name: &str, x: &Tensor| {
            if let Some(observe) = &mut observe {
                observe(name, x);
            }
        };
        let kind = pictures.kind();
        let (images, patch) = (pictures.size()[0], self.patches.size()[2]);
        let no_bias: Option<&Tensor> = None;
        let map =
            pictures.conv2d(&self.patches.to_kind(kind), no_bias, [patch; 2], [0; 2], [1; 2], 1);
        see("visual.patch_conv", &map);
        // [N, width, grid, grid] to [N, grid², width]
        let rows = map.flatten(2, 3).transpose(1, 2);
        let class = self.class.to_kind(kind).expand([images, 1, -1], false);
        let x = Tensor::cat(&[class, rows], 1) + self.positions.to_kind(kind);
        let mut x = self.before.forward(&x);
        see("visual.ln_pre", &x);
        let observed = observe.is_some();
        for (number, block) in self.blocks.iter().enumerate() {
            let is_last = number + 1 == self.blocks.len();
            let rows = if is_last && !observed { Rows::First } else { Rows::All };
            x = block.forward(&x, rows, false);
            if let (0, Some(observe)) = (number, &mut observe) {
                observe("visual.block0", &x);
            }
        }
        let class = self.after.forward(&x.select(1, 0));
        if let Some(observe) = observe {
            observe("visual.transformer", &x);
            observe("visual.ln_post_cls", &class);
        }
        class.matmul(&self.projection.to_kind(kind))
    }
}
