//! OpenAI's CLIP in libtorch: both kinds of image tower, the text tower, and ImageCoDe's heads on their embeddings.
//!
//! Parameter names are OpenAI's with `clip.` before them, as in ImageCoDe's `ContextualCLIP`. Sizes, preprocessing,
//! tokens and containers of weights are those of the crate `vision`, which has the same networks as ONNX graphs.

mod blocks;
mod config;
mod head;
mod ranking;
mod resnet;
mod text;
mod vision_tower;
mod vit;
mod weights;

use tch::nn;
use tch::{Kind, Tensor};

pub use config::{ClipConfig, Layers, TextConfig, VisionConfig};
pub use head::{ContextualHead, ContextualHeadConfig, Fusion};
pub use ranking::{ClipHead, ClipImages, ClipRanking};
pub use text::TextTower;
pub use vision_tower::ImageTower;
pub use weights::{fill, initialise, load};

/// The parameters' first name.
pub(crate) const ROOT: &str = "clip";

/// What sees values inside the towers, by the names of the reference's fixtures (`visual.ln_pre`, `text.block0`, …).
pub type Observe<'a> = &'a mut dyn FnMut(&str, &Tensor);

/// Both towers.
#[derive(Debug)]
pub struct Clip {
    /// Pictures to embeddings.
    pub image: ImageTower,
    /// Descriptions to embeddings.
    pub text: TextTower,
    logit_scale: Tensor,
}

impl Clip {
    /// Creates all parameters, which are 0: [`load`] and [`initialise`] fill them.
    pub fn new(root: &nn::Path, config: &ClipConfig) -> Clip {
        let path = root / ROOT;
        Clip {
            image: ImageTower::new(&(&path / "visual"), config),
            text: TextTower::new(&path, config),
            logit_scale: path.zeros("logit_scale", &[]),
        }
    }

    /// Chooses what the towers compute in. Their parameters stay in f32, and so do normalisations and embeddings.
    pub fn set_kind(&mut self, kind: Kind) {
        self.image.kind = kind;
        self.text.kind = kind;
    }

    /// What cosines are multiplied by: the exponential of the parameter `logit_scale`, f32 `[]`.
    pub fn scale(&self) -> Tensor {
        self.logit_scale.exp()
    }
}

/// Embeddings divided by their lengths, along the last axis.
pub fn normalised(embeddings: &Tensor) -> Tensor {
    embeddings / embeddings.square().sum_dim_intlist([-1].as_slice(), true, Kind::Float).sqrt()
}
