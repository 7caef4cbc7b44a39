//! Ranking the candidates of a set.

use tch::nn;
use tch::{Kind, Tensor};

use super::contextual::{ContextConfig, ContextModule};
use super::dropout::dropout;
use super::heads::AlignmentHead;
use super::layers::{Linear, linear};
use super::{Candidates, CrossEncoder, Encoded, Text, Vision};
use crate::config::{ConfigError, FusionMethod, ModelConfig};

/// ImageCoDe's task model drops a tenth of the fused vector, whatever the configuration says.
const FUSED_DROPOUT: f64 = 0.1;

/// What turns fused vectors into scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankingHead {
    /// The pre-trained alignment head: zero-shot.
    Alignment,
    /// One linear layer per pair, `clfs_dict.TASK3`: non-contrastive and contrastive.
    Linear,
    /// The contextual module.
    Contextual(ContextConfig),
}

/// An encoder with a head that scores candidates.
#[derive(Debug)]
pub struct RankingModel {
    encoder: CrossEncoder,
    head: Head,
}

#[derive(Debug)]
enum Head {
    Alignment(AlignmentHead),
    Linear(Linear),
    Contextual(ContextModule),
}

impl RankingModel {
    /// Creates all parameters.
    ///
    /// # Errors
    /// A configuration that makes no encoder, that pools nothing to rank by, or whose `pooler_size` the contextual
    /// module's 8 heads do not divide.
    pub fn new(
        root: &nn::Path,
        config: &ModelConfig,
        head: &RankingHead,
    ) -> Result<RankingModel, ConfigError> {
        check_fusion(config, head)?;
        let encoder = CrossEncoder::new(root, config)?;
        let head = match *head {
            RankingHead::Alignment => Head::Alignment(AlignmentHead::new(root, config)),
            RankingHead::Linear => {
                Head::Linear(linear(root / "clfs_dict" / "TASK3", config, config.pooler_size, 1))
            }
            RankingHead::Contextual(_) if !ContextConfig::fits(config.pooler_size) => {
                let (key, value) = ("pooler_size", config.pooler_size);
                return Err(ConfigError::Size { key, value, what: "8 heads do not divide it" });
            }
            RankingHead::Contextual(context) => {
                Head::Contextual(ContextModule::new(root, config, context))
            }
        };
        Ok(RankingModel { encoder, head })
    }

    /// Chooses what the encoder's sublayers compute in; see [`CrossEncoder::set_kind`].
    pub fn set_kind(&mut self, kind: Kind) {
        self.encoder.set_kind(kind);
    }

    /// The encoder.
    pub fn encoder(&self) -> &CrossEncoder {
        &self.encoder
    }

    /// Scores `[sets, candidates]`, higher is better; `video` is bool `[sets]`. Dropout acts if `train` is set.
    pub fn forward(
        &self,
        text: &Text,
        candidates: &Candidates,
        video: &Tensor,
        train: bool,
    ) -> Tensor {
        let encoded = self.encoder.forward_pooled(text, &candidates.flatten(), train);
        self.head(&encoded, candidates.features.size()[0], video, train)
    }

    /// Scores `[sets, candidates]` of what the encoder makes of all pairs.
    pub(super) fn head(&self, encoded: &Encoded, sets: i64, video: &Tensor, train: bool) -> Tensor {
        let Some(fused) = self.encoder.fuse(encoded) else {
            unreachable!("`new` refuses configurations that pool nothing");
        };
        let fused = dropout(&fused, FUSED_DROPOUT, train);
        match &self.head {
            Head::Alignment(head) => head.probability(&fused).view([sets, -1]),
            Head::Linear(linear) => linear.forward(&fused).view([sets, -1]),
            Head::Contextual(context) => {
                let width = fused.size()[1];
                context.forward(&fused.view([sets, -1, width]), video, train, &mut |_| {})
            }
        }
    }

    /// How much every word attends to every region of every candidate, f32 `[sets, candidates, tokens, regions]`; see
    /// [`CrossEncoder::words_to_regions`].
    pub fn words_to_regions(&self, text: &Text, candidates: &Candidates) -> Option<Tensor> {
        let size = candidates.features.size();
        let attention = self.encoder.words_to_regions(text, &candidates.flatten())?;
        let (_, tokens, regions) = attention.size3().ok()?;
        Some(attention.view([size[0], size[1], tokens, regions]))
    }
}

impl Candidates {
    /// `[sets, candidates, …]` to `[sets * candidates, …]`.
    pub(super) fn flatten(&self) -> Vision {
        Vision {
            features: self.features.flatten(0, 1),
            locations: self.locations.flatten(0, 1),
            mask: self.mask.flatten(0, 1),
        }
    }
}

/// VOLTA's models without pooler have nothing to rank by, those for question answering no alignment head.
fn check_fusion(config: &ModelConfig, head: &RankingHead) -> Result<(), ConfigError> {
    let (value, what) = match (config.fusion_method, head) {
        (FusionMethod::None, _) => {
            ("none", "nothing is pooled to rank by; set `mul`, `sum` or `text`")
        }
        (FusionMethod::VlBertVqa, RankingHead::Alignment) => {
            ("vl-bert_vqa", "it has no alignment head; set `mul`, `sum` or `text`")
        }
        _ => return Ok(()),
    };
    Err(ConfigError::Unsupported { key: "fusion_method", value: format!("{value:?}"), what })
}
