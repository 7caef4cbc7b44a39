//! VOLTA's seven numbered visual targets: what is predicted of a hidden region, and the loss of it.

use tch::{Kind, Reduction, Tensor};

use super::{PretrainingError, mean_cross_entropy};
use crate::config::{ConfigError, ModelConfig};

/// What is predicted of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VisualTarget {
    /// "0": the detector's probabilities of 1601 classes (Kullback-Leibler divergence).
    ClassProbabilities,
    /// "1": the feature (mean squared error).
    FeatureMse,
    /// "2": which of several features is the region's own, by dot products (noise-contrastive estimation).
    FeatureNce,
    /// "3": the object's class out of 1600, weighted with the detector's confidence (cross-entropy).
    Object,
    /// "4": the attribute's class out of 400, weighted with the detector's confidence (cross-entropy).
    Attribute,
    /// "5": the feature (Huber's loss).
    FeatureHuber,
    /// "6": the object's class out of 1601 (cross-entropy).
    ObjectOrBackground,
}

/// Classes of regions with the detector's confidence in them.
#[derive(Debug)]
pub struct Classes {
    /// i64 `[images, rows]`, from 0 up to the number of classes of the target.
    pub ids: Tensor,
    /// f32 `[images, rows]`.
    pub confidences: Tensor,
}

/// What is known of the regions of a batch. Rows are those of the features that the model sees, the global feature's
/// and padding included.
#[derive(Debug)]
pub struct RegionTargets {
    /// 1 where the region is to be predicted, else -1 (as for the global feature and padding), i64 `[images, rows]`.
    pub labels: Tensor,
    /// Features, f32 `[images, rows, dim]`, as they were before regions were hidden. (VOLTA's own loader hands over those
    /// in which hidden regions are zero, so that its targets 1, 2 and 5 learn mostly zeros.)
    pub features: Option<Tensor>,
    /// f32 `[images, rows, classes]`.
    pub class_probabilities: Option<Tensor>,
    /// Objects.
    pub objects: Option<Classes>,
    /// Attributes.
    pub attributes: Option<Classes>,
    /// For each region to be predicted, in order, other rows (`image * rows + row`) to tell it from:
    /// i64 `[predicted, negatives]`.
    pub negatives: Option<Tensor>,
}

impl RegionTargets {
    /// Rows that are to be predicted, i64, counted through the batch.
    pub(super) fn chosen(&self) -> Tensor {
        self.labels.flatten(0, 1).eq(1).nonzero().squeeze_dim(1)
    }
}

impl VisualTarget {
    /// All, in the order of VOLTA's numbers.
    pub const ALL: [VisualTarget; 7] = [
        VisualTarget::ClassProbabilities,
        VisualTarget::FeatureMse,
        VisualTarget::FeatureNce,
        VisualTarget::Object,
        VisualTarget::Attribute,
        VisualTarget::FeatureHuber,
        VisualTarget::ObjectOrBackground,
    ];

    /// VOLTA's number, the key in `visual_target_weights`.
    pub fn key(self) -> &'static str {
        ["0", "1", "2", "3", "4", "5", "6"][self as usize]
    }

    /// How many classes it knows; `None` if features are predicted.
    pub fn classes(self) -> Option<i64> {
        match self {
            VisualTarget::ClassProbabilities | VisualTarget::ObjectOrBackground => Some(1601),
            VisualTarget::Object => Some(1600),
            VisualTarget::Attribute => Some(400),
            VisualTarget::FeatureMse | VisualTarget::FeatureNce | VisualTarget::FeatureHuber => {
                None
            }
        }
    }

    /// How many numbers are predicted of a region.
    pub fn outputs(self, config: &ModelConfig) -> i64 {
        self.classes().unwrap_or(config.v_feature_size)
    }

    /// The targets of a configuration with their weights; those with weight 0 have no head and are left out.
    pub(super) fn of(config: &ModelConfig) -> Result<Vec<(VisualTarget, f64)>, ConfigError> {
        let weights = config.visual_target_weights.iter().filter(|(_, weight)| **weight > 0.0);
        let known = |key: &str| VisualTarget::ALL.into_iter().find(|target| target.key() == key);
        weights
            .map(|(key, &weight)| match known(key) {
                Some(target) => Ok((target, weight)),
                None => Err(ConfigError::Unsupported {
                    key: "visual_target_weights",
                    value: format!("{key:?}"),
                    what: "targets are numbered \"0\" to \"6\"",
                }),
            })
            .collect()
    }

    /// The loss of what is predicted (`[predicted, outputs]`) of the rows `chosen` (i64 `[predicted]`): the mean over
    /// them, 0 without any.
    pub(super) fn loss(
        self,
        predicted: &Tensor,
        chosen: &Tensor,
        known: &RegionTargets,
    ) -> Result<Tensor, PretrainingError> {
        let count = chosen.size()[0].max(1) as f64;
        match self {
            VisualTarget::ClassProbabilities => {
                let all = self.need(&known.class_probabilities, "class probabilities")?;
                let wanted = self.of_chosen(all, chosen, predicted)?;
                let scores = predicted.log_softmax(-1, predicted.kind());
                Ok(scores.kl_div(&wanted, Reduction::Sum, false) / count)
            }
            VisualTarget::FeatureMse | VisualTarget::FeatureHuber => {
                let all = self.need(&known.features, "features")?;
                let wanted = self.of_chosen(all, chosen, predicted)?;
                let sum = match self {
                    VisualTarget::FeatureMse => predicted.mse_loss(&wanted, Reduction::Sum),
                    _ => predicted.smooth_l1_loss(&wanted, Reduction::Sum, 1.0),
                };
                Ok(sum / (count * predicted.size()[1] as f64))
            }
            VisualTarget::FeatureNce => {
                let all = self.need(&known.features, "features")?;
                let negatives = self.need(&known.negatives, "features of other regions")?;
                let own = self.of_chosen(all, chosen, predicted)?.unsqueeze(1);
                let rows = all.flatten(0, 1).index_select(0, &negatives.flatten(0, 1));
                // All three are named: of a batch in which no region is hidden there is nothing to infer one from.
                let shape = [chosen.size()[0], negatives.size()[1], predicted.size()[1]];
                let others = rows.view(shape);
                // [predicted, 1 + negatives, dim] · [predicted, dim, 1]: the region's own comes first.
                let scores = Tensor::cat(&[own, others], 1).bmm(&predicted.unsqueeze(2));
                let own = Tensor::zeros([chosen.size()[0]], (Kind::Int64, chosen.device()));
                Ok(mean_cross_entropy(&scores.squeeze_dim(2), &own))
            }
            VisualTarget::Object => {
                let classes = self.need(&known.objects, "object classes")?;
                Ok(confident(predicted, chosen, classes) / count)
            }
            VisualTarget::Attribute => {
                let classes = self.need(&known.attributes, "attribute classes")?;
                Ok(confident(predicted, chosen, classes) / count)
            }
            VisualTarget::ObjectOrBackground => {
                let classes = self.need(&known.objects, "object classes")?;
                let ids = classes.ids.flatten(0, 1).index_select(0, chosen);
                Ok(mean_cross_entropy(predicted, &ids))
            }
        }
    }

    fn need<'a, T>(
        self,
        known: &'a Option<T>,
        what: &'static str,
    ) -> Result<&'a T, PretrainingError> {
        known.as_ref().ok_or(PretrainingError::Missing { target: self.key(), what })
    }

    /// Rows `[predicted, values]` of `[images, rows, values]`, which must have as many values as are predicted.
    fn of_chosen(
        self,
        all: &Tensor,
        chosen: &Tensor,
        predicted: &Tensor,
    ) -> Result<Tensor, PretrainingError> {
        let (outputs, found) = (predicted.size()[1], all.size()[2]);
        if outputs != found {
            return Err(PretrainingError::Outputs { target: self.key(), outputs, found });
        }
        Ok(all.flatten(0, 1).index_select(0, chosen))
    }
}

/// The sum of cross-entropies, each times the detector's confidence.
fn confident(predicted: &Tensor, chosen: &Tensor, classes: &Classes) -> Tensor {
    let pick = |x: &Tensor| x.flatten(0, 1).index_select(0, chosen);
    let unweighted: Option<&Tensor> = None;
    let losses =
        predicted.cross_entropy_loss(&pick(&classes.ids), unweighted, Reduction::None, -100, 0.0);
    (losses * pick(&classes.confidences)).sum(predicted.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One image of three regions, of which the first and the last are to be predicted, with four numbers each.
    fn known() -> RegionTargets {
        let rows = |values: &[f64]| Tensor::from_slice(values).view([1, 3, 4]);
        let classes = || Classes {
            ids: Tensor::from_slice(&[2i64, 0, 3]).view([1, 3]),
            confidences: Tensor::from_slice(&[0.5, 1.0, 0.8]).view([1, 3]),
        };
        RegionTargets {
            labels: Tensor::from_slice(&[1i64, -1, 1]).view([1, 3]),
            features: Some(rows(&[0.0, 1.0, 0.5, -1.5, 2.0, 2.0, 2.0, 2.0, 1.0, 0.0, 0.5, 0.5])),
            class_probabilities: Some(rows(&[
                0.1, 0.2, 0.7, 0.0, 0.25, 0.25, 0.25, 0.25, 0.0, 0.5, 0.25, 0.25,
            ])),
            objects: Some(classes()),
            attributes: Some(classes()),
            negatives: Some(Tensor::from_slice(&[1i64, 2, 0, 1]).view([2, 2])),
        }
    }

    fn predicted() -> Tensor {
        Tensor::from_slice(&[0.5, -1.0, 2.0, 0.0, 0.0, 3.0, -2.0, 1.0]).view([2, 4])
    }

    /// Expected by the definitions, written out over the same numbers in plain Python (math.log, math.exp, loops over
    /// regions and classes), in double precision.
    #[test]
    fn losses_are_those_of_the_definitions() {
        let known = known();
        for (target, expected) in [
            (VisualTarget::ClassProbabilities, 0.588_162_810_811_640_6),
            (VisualTarget::FeatureMse, 3.156_25),
            (VisualTarget::FeatureNce, 3.890_893_678_055_457_3),
            (VisualTarget::Object, 0.955_793_540_644_141_3),
            (VisualTarget::Attribute, 0.955_793_540_644_141_3),
            (VisualTarget::FeatureHuber, 1.093_75),
            (VisualTarget::ObjectOrBackground, 1.258_932_472_503_268_2),
        ] {
            let loss = target.loss(&predicted(), &known.chosen(), &known).unwrap();
            let loss = loss.double_value(&[]);
            assert!((loss - expected).abs() < 1e-12, "{target:?}: {loss} instead of {expected}");
        }
    }

    #[test]
    fn without_hidden_regions_every_loss_is_zero() {
        let mut known = known();
        known.labels = Tensor::from_slice(&[-1i64; 3]).view([1, 3]);
        known.negatives = Some(Tensor::zeros([0, 0], (Kind::Int64, tch::Device::Cpu)));
        let predicted = predicted().narrow(0, 0, 0);
        for target in VisualTarget::ALL {
            let loss = target.loss(&predicted, &known.chosen(), &known).unwrap();
            assert_eq!(loss.double_value(&[]), 0.0, "{target:?}");
        }
    }

    #[test]
    fn labels_of_another_detector_are_named() {
        let known = known();
        let predicted = Tensor::zeros([2, 5], (Kind::Double, tch::Device::Cpu));
        let target = VisualTarget::ClassProbabilities;
        let error = target.loss(&predicted, &known.chosen(), &known).unwrap_err().to_string();
        assert!(error.contains("predicts 5 numbers") && error.contains("has 4"), "{error}");
    }

    #[test]
    fn keys_are_the_numbers_of_volta() {
        let keys: Vec<&str> = VisualTarget::ALL.iter().map(|target| target.key()).collect();
        assert_eq!(keys, ["0", "1", "2", "3", "4", "5", "6"]);
    }
}
