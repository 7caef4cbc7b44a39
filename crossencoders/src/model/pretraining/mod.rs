//! Pre-training: hidden words, hidden regions and whether image and text belong together, with VOLTA's losses.
//!
//! Only what is to be predicted goes through the heads: of a vocabulary of 30,522 that saves most of their work, and
//! changes no loss.

mod visual;

use tch::nn;
use tch::{Device, Kind, Reduction, Tensor};

use super::dropout::dropout;
use super::heads::{AlignmentHead, PretrainingHeads};
use super::{CrossEncoder, Text, Vision};
use crate::config::{ConfigError, FusionMethod, ModelConfig};
pub use visual::{Classes, RegionTargets, VisualTarget};

/// VOLTA's heads drop a tenth of the fused vector, whatever the configuration says.
const FUSED_DROPOUT: f64 = 0.1;

/// What is to be predicted of pairs of a text and an image.
#[derive(Debug)]
pub struct Targets {
    /// Word pieces, i64 `[images, tokens]`, negative where nothing is to be predicted.
    pub words: Tensor,
    /// What is to be predicted of regions.
    pub regions: RegionTargets,
    /// 0 for pairs that belong together, 1 for others, i64 `[images]`; `None` if that is not to be learnt.
    pub alignment: Option<Tensor>,
}

impl Targets {
    /// The same on a device.
    pub fn to_device(self, device: Device) -> Targets {
        let RegionTargets { labels, features, class_probabilities, objects, attributes, negatives } =
            self.regions;
        let to = |tensor: Tensor| tensor.to_device(device);
        let classes = |classes: Classes| Classes {
            ids: to(classes.ids),
            confidences: to(classes.confidences),
        };
        Targets {
            words: to(self.words),
            regions: RegionTargets {
                labels: to(labels),
                features: features.map(to),
                class_probabilities: class_probabilities.map(to),
                objects: objects.map(classes),
                attributes: attributes.map(classes),
                negatives: negatives.map(to),
            },
            alignment: self.alignment.map(to),
        }
    }
}

/// The losses of a batch, scalars.
#[derive(Debug)]
pub struct Losses {
    /// Mean cross-entropy of the words to be predicted; 0 if there are none.
    pub words: Tensor,
    /// By visual target: its loss without its weight.
    pub regions: Vec<(VisualTarget, Tensor)>,
    /// Mean cross-entropy of the alignment, if it is learnt.
    pub alignment: Option<Tensor>,
    /// What is minimised: words + weights · regions + alignment.
    pub total: Tensor,
}

/// Why a batch has no loss.
#[derive(Debug, thiserror::Error)]
pub enum PretrainingError {
    /// The features' source does not have what a visual target is learnt from.
    #[error(
        "visual target {target} is learnt from {what}, which these features lack; convert them with labels, or leave it \
         out of `visual_target_weights`"
    )]
    Missing {
        /// VOLTA's number of the target.
        target: &'static str,
        /// What is missing.
        what: &'static str,
    },
    /// Labels of another detector.
    #[error(
        "visual target {target} predicts {outputs} numbers, but the features' source has {found}"
    )]
    Outputs {
        /// VOLTA's number of the target.
        target: &'static str,
        /// What the head predicts.
        outputs: i64,
        /// What is to be predicted.
        found: i64,
    },
}

/// An encoder with the heads of pre-training.
#[derive(Debug)]
pub struct PretrainingModel {
    encoder: CrossEncoder,
    heads: PretrainingHeads,
    /// Missing where VOLTA's configuration pools nothing, or pools for question answering.
    alignment: Option<AlignmentHead>,
    weights: Vec<(VisualTarget, f64)>,
}

impl PretrainingModel {
    /// Creates all parameters, `bert.*` and `cls.*`. Visual targets and their weights are the configuration's
    /// `visual_target_weights`.
    ///
    /// # Errors
    /// A configuration that makes no encoder, or with a visual target that VOLTA has not.
    pub fn new(root: &nn::Path, config: &ModelConfig) -> Result<PretrainingModel, ConfigError> {
        let weights = VisualTarget::of(config)?;
        let outputs = weights
            .iter()
            .map(|(target, _)| (target.key().to_owned(), target.outputs(config)))
            .collect();
        let aligns = !matches!(config.fusion_method, FusionMethod::None | FusionMethod::VlBertVqa);
        Ok(PretrainingModel {
            encoder: CrossEncoder::new(root, config)?,
            heads: PretrainingHeads::new(root, config, &outputs),
            alignment: aligns.then(|| AlignmentHead::new(root, config)),
            weights,
        })
    }

    /// The losses of a batch in which image `i` goes with text `i`. Dropout acts if `train` is set. An alignment that the
    /// model has no head for is not learnt.
    ///
    /// # Errors
    /// [`PretrainingError`].
    pub fn losses(
        &self,
        text: &Text,
        vision: &Vision,
        targets: &Targets,
        train: bool,
    ) -> Result<Losses, PretrainingError> {
        let encoded = self.encoder.forward(text, vision, train, &mut |_, _, _| {});

        let labels = targets.words.flatten(0, 1);
        let chosen = labels.ge(0).nonzero().squeeze_dim(1);
        let states = encoded.text.flatten(0, 1).index_select(0, &chosen);
        let scores = self.heads.words_of(&self.encoder, &states);
        let words = mean_cross_entropy(&scores, &labels.index_select(0, &chosen));

        let chosen = targets.regions.chosen();
        let states = encoded.vision.flatten(0, 1).index_select(0, &chosen);
        let predictions = self.heads.regions_of(&states);
        let mut parts = vec![words.shallow_clone()];
        let mut regions = Vec::new();
        for &(target, weight) in &self.weights {
            let Some(predicted) = predictions.get(target.key()) else { continue };
            let loss = target.loss(predicted, &chosen, &targets.regions)?;
            parts.push(&loss * weight);
            regions.push((target, loss));
        }

        let fused = self.encoder.fuse(&encoded).map(|fused| dropout(&fused, FUSED_DROPOUT, train));
        let alignment = match (&self.alignment, fused, &targets.alignment) {
            (Some(head), Some(fused), Some(labels)) => {
                Some(mean_cross_entropy(&head.forward(&fused), labels))
            }
            _ => None,
        };
        parts.extend(alignment.as_ref().map(Tensor::shallow_clone));
        let total = Tensor::stack(&parts, 0).sum(words.kind());
        Ok(Losses { words, regions, alignment, total })
    }

    /// Chooses what the sublayers compute in: f32 or bf16; see [`CrossEncoder::set_kind`].
    pub fn set_kind(&mut self, kind: Kind) {
        self.encoder.set_kind(kind);
    }

    /// What is predicted of regions.
    pub fn visual_targets(&self) -> Vec<VisualTarget> {
        self.weights.iter().map(|(target, _)| *target).collect()
    }

    /// What is predicted of regions, with the weights of its losses.
    pub fn weights(&self) -> &[(VisualTarget, f64)] {
        &self.weights
    }

    /// Whether there is a head for the alignment.
    pub fn aligns(&self) -> bool {
        self.alignment.is_some()
    }

    /// The encoder.
    pub fn encoder(&self) -> &CrossEncoder {
        &self.encoder
    }
}

/// Over scores `[n, classes]` and labels i64 `[n]`; 0 without any, where PyTorch's mean is no number.
fn mean_cross_entropy(scores: &Tensor, labels: &Tensor) -> Tensor {
    let unweighted: Option<&Tensor> = None;
    let sum = scores.cross_entropy_loss(labels, unweighted, Reduction::Sum, -100, 0.0);
    sum / labels.size()[0].max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::nn::OptimizerConfig;

    fn config(change: impl FnOnce(&mut serde_json::Value)) -> ModelConfig {
        let mut json = serde_json::json!({
            "vocab_size": 30, "hidden_size": 16, "v_hidden_size": 16, "num_attention_heads": 2,
            "v_num_attention_heads": 2, "intermediate_size": 32, "v_intermediate_size": 32,
            "v_feature_size": 8, "max_position_embeddings": 20, "pooler_size": 8,
            "image_embeddings": "vilbert", "visual_target_weights": {"1": 0.5, "4": 2.0, "2": 0.0},
            "tt_attn_sublayers": [0], "tv_attn_sublayers": [0], "vt_attn_sublayers": [0],
            "vv_attn_sublayers": [0], "t_ff_sublayers": [1], "v_ff_sublayers": [1]
        });
        change(&mut json);
        serde_json::from_value(json).unwrap()
    }

    fn inputs() -> (Text, Vision) {
        tch::manual_seed(3);
        let input_ids = Tensor::from_slice(&[1i64, 7, 8, 2, 1, 9, 2, 0]).view([2, 4]);
        let text = Text {
            token_type_ids: input_ids.zeros_like(),
            mask: input_ids.ne(0).to_kind(Kind::Int64),
            input_ids,
        };
        let real = (Kind::Float, Device::Cpu);
        let vision = Vision {
            features: Tensor::rand([2, 3, 8], real),
            locations: Tensor::rand([2, 3, 5], real),
            mask: Tensor::ones([2, 3], (Kind::Int64, Device::Cpu)),
        };
        (text, vision)
    }

    fn targets(words: &[i64], regions: &[i64], features: &Tensor) -> Targets {
        let ids = Tensor::from_slice(&[3i64, 399, 0, 5, 5, 17]).view([2, 3]);
        Targets {
            words: Tensor::from_slice(words).view([2, 4]),
            regions: RegionTargets {
                labels: Tensor::from_slice(regions).view([2, 3]),
                features: Some(features.shallow_clone()),
                class_probabilities: None,
                objects: None,
                attributes: Some(Classes {
                    confidences: Tensor::ones([2, 3], (Kind::Float, Device::Cpu)),
                    ids,
                }),
                negatives: None,
            },
            alignment: Some(Tensor::from_slice(&[0i64, 1])),
        }
    }

    #[test]
    fn the_total_is_the_weighted_sum_and_it_can_be_minimised() {
        let variables = nn::VarStore::new(Device::Cpu);
        let model = PretrainingModel::new(&variables.root(), &config(|_| ())).unwrap();
        let (text, vision) = inputs();
        let targets =
            targets(&[-1, 7, -1, -1, -1, 9, -1, -1], &[-1, 1, -1, -1, -1, 1], &vision.features);
        let losses = model.losses(&text, &vision, &targets, false).unwrap();
        let value = |x: &Tensor| x.double_value(&[]);
        let [(first, features), (second, attributes)] = &losses.regions[..] else { panic!() };
        assert_eq!([*first, *second], [VisualTarget::FeatureMse, VisualTarget::Attribute]);
        let sum = value(&losses.words)
            + 0.5 * value(features)
            + 2.0 * value(attributes)
            + value(losses.alignment.as_ref().unwrap());
        assert!((value(&losses.total) - sum).abs() < 1e-5, "{} {sum}", value(&losses.total));

        let mut optimizer = nn::Adam::default().build(&variables, 1e-2).unwrap();
        for _ in 0..60 {
            optimizer.backward_step(&model.losses(&text, &vision, &targets, true).unwrap().total);
        }
        let after = value(&model.losses(&text, &vision, &targets, false).unwrap().total);
        assert!(after < 0.3 * sum, "{after} of {sum}");
    }

    #[test]
    fn a_batch_without_anything_hidden_has_no_loss_of_it_but_can_be_learnt_from() {
        let variables = nn::VarStore::new(Device::Cpu);
        let model = PretrainingModel::new(&variables.root(), &config(|_| ())).unwrap();
        let (text, vision) = inputs();
        let mut targets = targets(&[-1; 8], &[-1; 6], &vision.features);
        // One label only: the gradients of a pair and of no pair can cancel.
        targets.alignment = Some(Tensor::from_slice(&[0i64, 0]));
        let losses = model.losses(&text, &vision, &targets, true).unwrap();
        assert_eq!(losses.words.double_value(&[]), 0.0);
        assert!(losses.regions.iter().all(|(_, loss)| loss.double_value(&[]) == 0.0));
        losses.total.backward();
        let gradient = variables.variables()["cls.bi_seq_relationship.bias"].grad();
        assert!(gradient.abs().max().double_value(&[]) > 0.0);
    }

    #[test]
    fn what_a_target_needs_and_the_batch_lacks_is_named() {
        let variables = nn::VarStore::new(Device::Cpu);
        let config = config(|json| json["visual_target_weights"] = serde_json::json!({"0": 1.0}));
        let model = PretrainingModel::new(&variables.root(), &config).unwrap();
        let (text, vision) = inputs();
        let targets = targets(&[-1; 8], &[1; 6], &vision.features);
        let error = model.losses(&text, &vision, &targets, false).unwrap_err().to_string();
        assert!(
            error.contains("visual target 0") && error.contains("class probabilities"),
            "{error}"
        );
    }

    #[test]
    fn unknown_visual_targets_are_refused() {
        let config = config(|json| json["visual_target_weights"] = serde_json::json!({"7": 1.0}));
        let variables = nn::VarStore::new(Device::Cpu);
        let error = PretrainingModel::new(&variables.root(), &config).unwrap_err().to_string();
        assert!(error.contains("`visual_target_weights` is \"7\""), "{error}");
    }

    #[test]
    fn a_model_that_pools_nothing_learns_words_and_regions() {
        let config = config(|json| json["fusion_method"] = "none".into());
        let variables = nn::VarStore::new(Device::Cpu);
        let model = PretrainingModel::new(&variables.root(), &config).unwrap();
        let (text, vision) = inputs();
        let targets = targets(&[-1, 7, -1, -1, -1, 9, -1, -1], &[1; 6], &vision.features);
        let losses = model.losses(&text, &vision, &targets, false).unwrap();
        assert!(losses.alignment.is_none());
        assert!(losses.total.double_value(&[]) > losses.words.double_value(&[]));
    }

    /// Expected by math.log and math.exp over the same numbers in Python, in double precision.
    #[test]
    fn mean_cross_entropy_of_words_and_of_the_alignment() {
        let words = Tensor::from_slice(&[0.2, 0.4, 0.6, 0.8, 2.0, -2.0, 0.0, 1.0]).view([2, 4]);
        let loss = mean_cross_entropy(&words, &Tensor::from_slice(&[3i64, 0])).double_value(&[]);
        assert!((loss - 0.765_435_384_048_442).abs() < 1e-12, "{loss}");
        let pairs = Tensor::from_slice(&[2.0, 0.5, 0.3, -0.7]).view([2, 2]);
        let loss = mean_cross_entropy(&pairs, &Tensor::from_slice(&[0i64, 1])).double_value(&[]);
        assert!((loss - 0.757_337_482_750_487_6).abs() < 1e-12, "{loss}");
    }
}
