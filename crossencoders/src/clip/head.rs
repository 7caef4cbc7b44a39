//! ImageCoDe's head on CLIP: embeddings fused, and the contextual module over the candidates.

use serde::{Deserialize, Serialize};
use tch::Tensor;
use tch::nn;

use super::normalised;
use crate::model::{ContextConfig, ContextInit, ContextModule, ContextSizes};

/// Of ImageCoDe's BERT configuration, whatever the sizes of CLIP are.
const INTERMEDIATE: i64 = 3072;
const DROPOUT: f64 = 0.1;

/// How the embeddings of a picture and of a description become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fusion {
    /// Value by value multiplied.
    #[default]
    Mult,
    /// One behind the other: picture, description.
    Concat,
}

/// The head's shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ContextualHeadConfig {
    /// The contextual module.
    pub context: ContextConfig,
    /// How embeddings are fused.
    pub fusion: Fusion,
    /// What multiplied vectors are multiplied by; products of normalised values are small.
    pub logit_scale: f64,
}

/// Fused embeddings through the contextual module.
#[derive(Debug)]
pub struct ContextualHead {
    module: ContextModule,
    fusion: Fusion,
    logit_scale: f64,
}

impl Fusion {
    /// Values of a fused vector.
    pub fn width(self, embed: i64) -> i64 {
        match self {
            Fusion::Mult => embed,
            Fusion::Concat => 2 * embed,
        }
    }
}

impl ContextualHead {
    /// Creates the parameters for embeddings of so many values, with ImageCoDe's other sizes.
    pub fn new(root: &nn::Path, embed: i64, config: ContextualHeadConfig) -> ContextualHead {
        ContextualHead::with_intermediate(root, embed, INTERMEDIATE, config)
    }

    /// The same with another size of the layers' feed-forward part.
    pub fn with_intermediate(
        root: &nn::Path,
        embed: i64,
        intermediate: i64,
        config: ContextualHeadConfig,
    ) -> ContextualHead {
        let ContextualHeadConfig { context, fusion, logit_scale } = config;
        let sizes = ContextSizes {
            width: fusion.width(embed),
            intermediate,
            attention_dropout: DROPOUT,
            hidden_dropout: DROPOUT,
            init: ContextInit::Pytorch,
        };
        ContextualHead { module: ContextModule::new(root, sizes, context), fusion, logit_scale }
    }

    /// Fused vectors `[sets, candidates, width]` of embeddings of pictures `[sets, candidates, embed]` and descriptions
    /// `[sets, embed]`, which need not be normalised.
    pub fn fuse(&self, images: &Tensor, texts: &Tensor) -> Tensor {
        let (images, texts) = (normalised(images), normalised(texts).unsqueeze(1));
        match self.fusion {
            Fusion::Mult => images * self.logit_scale * texts,
            Fusion::Concat => Tensor::cat(&[&images, &texts.expand_as(&images)], 2),
        }
    }

    /// Scores `[sets, candidates]`; `video` is bool `[sets]`. Dropout acts if `train` is set; `observe` sees every layer's
    /// output.
    pub fn forward(
        &self,
        images: &Tensor,
        texts: &Tensor,
        video: &Tensor,
        train: bool,
        observe: &mut dyn FnMut(&Tensor),
    ) -> Tensor {
        self.module.forward(&self.fuse(images, texts), video, train, observe)
    }
}
