//! The detector's sizes: they follow from the tensors.

use crate::weights::{Expected, Fill, Weights, WeightsError, random};

/// The sizes of a detector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Architecture {
    /// Channels of the stem: 64.
    pub stem: usize,
    /// Channels within a block of the first stage, doubled in every further one: 64.
    pub width: usize,
    /// Channels behind the first stage, doubled likewise: 256.
    pub out: usize,
    /// Blocks of the four stages, the last of which works on regions: 3, 4, 23, 3.
    pub blocks: [usize; 4],
    /// Channels of the proposal network: 512.
    pub proposal_hidden: usize,
    /// Anchors of a cell: 12.
    pub anchors: usize,
    /// Object classes, without the background: 1600.
    pub classes: usize,
    /// The attribute head, which some published weights lack.
    pub attributes: Option<AttributeHead>,
}

/// The sizes of the attribute head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttributeHead {
    /// Attributes, without "none": 400.
    pub attributes: usize,
    /// Values of a class's embedding: 256.
    pub embedding: usize,
    /// Values of the hidden layer: 512.
    pub hidden: usize,
}

impl Default for Architecture {
    /// The published detector.
    fn default() -> Architecture {
        Architecture {
            stem: 64,
            width: 64,
            out: 256,
            blocks: [3, 4, 23, 3],
            proposal_hidden: 512,
            anchors: 12,
            classes: 1600,
            attributes: Some(AttributeHead { attributes: 400, embedding: 256, hidden: 512 }),
        }
    }
}

const PROPOSALS: &str = "proposal_generator.rpn_head";
const PREDICTOR: &str = "roi_heads.box_predictor";

impl Architecture {
    /// Channels of the map that regions are cut from: 1024.
    pub fn map_channels(&self) -> usize {
        self.out * 4
    }

    /// Values of a region's feature: 2048.
    pub fn feature_dim(&self) -> usize {
        self.out * 8
    }

    /// The sizes that a file's tensors have; all tensors are compared with them.
    ///
    /// # Errors
    /// [`WeightsError::Misfit`] if tensors are missing or contradict each other.
    pub fn of(weights: &Weights) -> Result<Architecture, WeightsError> {
        let misfit = |problem: String| WeightsError::Misfit {
            path: weights.path().to_owned(),
            model: "the region detector".to_owned(),
            problems: vec![problem],
        };
        let size = |said: &[Said]| {
            most_say(weights, said).ok_or_else(|| misfit(unsaid(weights, &said[0].tensor)))
        };
        let blocks = |stage: &str| {
            let prefix = format!("{stage}.");
            weights
                .names()
                .filter(|name| name.starts_with(&prefix) && name.ends_with(".conv1.weight"))
                .count()
        };
        let stages = ["backbone.res2", "backbone.res3", "backbone.res4", "roi_heads.res5"];
        let architecture = Architecture {
            stem: size(&convolution("backbone.stem.conv1"))?,
            width: size(&convolution("backbone.res2.0.conv1"))?,
            out: size(&convolution("backbone.res2.0.conv3"))?,
            blocks: stages.map(blocks),
            proposal_hidden: size(&[
                said(&format!("{PROPOSALS}.conv.weight"), 0),
                said(&format!("{PROPOSALS}.conv.bias"), 0),
                said(&format!("{PROPOSALS}.objectness_logits.weight"), 1),
                said(&format!("{PROPOSALS}.anchor_deltas.weight"), 1),
            ])?,
            anchors: size(&[
                said(&format!("{PROPOSALS}.objectness_logits.weight"), 0),
                said(&format!("{PROPOSALS}.objectness_logits.bias"), 0),
                said(&format!("{PROPOSALS}.anchor_deltas.weight"), 0).of_each(4),
                said(&format!("{PROPOSALS}.anchor_deltas.bias"), 0).of_each(4),
            ])?,
            // The background is one of the scores, but has no box.
            classes: size(&[
                said(&format!("{PREDICTOR}.cls_score.weight"), 0).less(1),
                said(&format!("{PREDICTOR}.cls_score.bias"), 0).less(1),
                said(&format!("{PREDICTOR}.bbox_pred.weight"), 0).of_each(4),
                said(&format!("{PREDICTOR}.bbox_pred.bias"), 0).of_each(4),
                said(&format!("{PREDICTOR}.cls_embedding.weight"), 0).less(1),
            ])?,
            attributes: attribute_head(weights),
        };
        weights.require(&architecture.expected(), "the region detector")?;
        if architecture.classes == 0 {
            return Err(misfit("it knows no objects".to_owned()));
        }
        Ok(architecture)
    }

    /// Every tensor of the detector, by its published names; anchors are computed, not read.
    pub fn expected(&self) -> Expected {
        let mut expected = Expected::default();
        add_convolution(&mut expected, "backbone.stem.conv1", &[self.stem, 3, 7, 7]);
        let mut from = self.stem;
        for (stage, count) in self.blocks.into_iter().enumerate() {
            let (middle, out) = (self.width << stage, self.out << stage);
            let tower = if stage < 3 { "backbone" } else { "roi_heads" };
            for block in 0..count {
                let prefix = format!("{tower}.res{}.{block}", stage + 2);
                if block == 0 {
                    add_convolution(
                        &mut expected,
                        &format!("{prefix}.shortcut"),
                        &[out, from, 1, 1],
                    );
                }
                add_convolution(&mut expected, &format!("{prefix}.conv1"), &[middle, from, 1, 1]);
                add_convolution(&mut expected, &format!("{prefix}.conv2"), &[middle, middle, 3, 3]);
                add_convolution(&mut expected, &format!("{prefix}.conv3"), &[out, middle, 1, 1]);
                from = out;
            }
        }
        let (hidden, anchors) = (self.proposal_hidden, self.anchors);
        expected.add_linear(&format!("{PROPOSALS}.conv"), &[hidden, self.map_channels(), 3, 3]);
        expected.add_linear(&format!("{PROPOSALS}.objectness_logits"), &[anchors, hidden, 1, 1]);
        expected.add_linear(&format!("{PROPOSALS}.anchor_deltas"), &[4 * anchors, hidden, 1, 1]);
        let (dim, classes) = (self.feature_dim(), self.classes);
        expected.add_linear(&format!("{PREDICTOR}.cls_score"), &[classes + 1, dim]);
        expected.add_linear(&format!("{PREDICTOR}.bbox_pred"), &[4 * classes, dim]);
        if let Some(AttributeHead { attributes, embedding, hidden }) = self.attributes {
            expected.add(format!("{PREDICTOR}.cls_embedding.weight"), &[classes + 1, embedding]);
            expected.add_linear(&format!("{PREDICTOR}.fc_attr"), &[hidden, dim + embedding]);
            expected.add_linear(&format!("{PREDICTOR}.attr_score"), &[attributes + 1, hidden]);
        }
        expected
    }
}

/// Where a tensor says a size of the network: a side is `each × size + less`.
struct Said {
    tensor: String,
    axis: usize,
    less: usize,
    each: usize,
}

impl Said {
    fn less(self, less: usize) -> Said {
        Said { less, ..self }
    }

    fn of_each(self, each: usize) -> Said {
        Said { each, ..self }
    }

    fn size(&self, weights: &Weights) -> Option<usize> {
        let side = weights.shape(&self.tensor)?.get(self.axis).copied().filter(|side| *side > 0)?;
        let rest = side.checked_sub(self.less)?;
        rest.is_multiple_of(self.each).then_some(rest / self.each)
    }
}

fn said(tensor: &str, axis: usize) -> Said {
    Said { tensor: tensor.to_owned(), axis, less: 0, each: 1 }
}

/// What says how many channels a convolution with a normalisation gives.
fn convolution(prefix: &str) -> Vec<Said> {
    let parts = ["weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"];
    parts.map(|part| said(&format!("{prefix}.{part}"), 0)).into()
}

/// The size that most tensors say, the first of them where two are said as often: then the tensor that disagrees is the one
/// that does not fit, not all others.
fn most_say(weights: &Weights, said: &[Said]) -> Option<usize> {
    let sizes: Vec<usize> = said.iter().filter_map(|said| said.size(weights)).collect();
    let votes = |size: usize| sizes.iter().filter(|other| **other == size).count();
    // Of equals the last is the largest.
    sizes.iter().rev().copied().max_by_key(|size| votes(*size))
}

/// Why no tensor says a size.
fn unsaid(weights: &Weights, tensor: &str) -> String {
    match weights.shape(tensor) {
        Some(shape) => format!("`{tensor}` is {shape:?}"),
        None => weights.lack(tensor),
    }
}

/// The attribute head, where there is one.
fn attribute_head(weights: &Weights) -> Option<AttributeHead> {
    let tensor = |name: &str, axis| said(&format!("{PREDICTOR}.{name}"), axis);
    weights.shape(&format!("{PREDICTOR}.attr_score.weight"))?;
    let [scores, biases] =
        ["attr_score.weight", "attr_score.bias"].map(|name| tensor(name, 0).less(1));
    let attributes = most_say(weights, &[scores, biases]).filter(|attributes| *attributes > 0)?;
    let hidden =
        [tensor("attr_score.weight", 1), tensor("fc_attr.weight", 0), tensor("fc_attr.bias", 0)];
    let embedding = most_say(weights, &[tensor("cls_embedding.weight", 1)]).unwrap_or(0);
    Some(AttributeHead { attributes, embedding, hidden: most_say(weights, &hidden).unwrap_or(0) })
}

/// A convolution without bias, and its normalisation.
fn add_convolution(expected: &mut Expected, prefix: &str, shape: &[usize]) {
    expected.add(format!("{prefix}.weight"), shape);
    expected.add_norm(&format!("{prefix}.norm"), shape[0]);
}

/// The published detector's sizes with drawn weights: activations are of the scale of trained ones, features are neither
/// zero nor infinite, boxes lie near their anchors. The same seed gives the same weights.
pub fn random_weights(seed: u64) -> Weights {
    random_weights_of(&Architecture::default(), seed)
}

/// As [`random_weights`], for other sizes.
pub fn random_weights_of(architecture: &Architecture, seed: u64) -> Weights {
    random("random detector", architecture.expected(), seed, |name, shape| {
        let inputs = shape.get(1..).map_or(1, |rest| rest.iter().product::<usize>()).max(1) as f32;
        match name {
            // Pixels less their means are about 60 in size, and a rectified convolution doubles their square.
            "backbone.stem.conv1.norm.running_var" => Fill::Constant(7200.0),
            _ if name.ends_with("bias") || name.ends_with("running_mean") => Fill::Constant(0.0),
            // What blocks add is small, so that it does not pile up.
            _ if name.ends_with("conv3.norm.weight") => Fill::Constant(0.25),
            _ if name.contains(".norm.") => Fill::Constant(1.0),
            _ if name.ends_with("anchor_deltas.weight") => Fill::Normal(0.2 * inputs.powf(-0.5)),
            _ if name.ends_with("bbox_pred.weight") => Fill::Normal(inputs.powf(-0.5)),
            _ if name.ends_with("cls_embedding.weight") => Fill::Normal(1.0),
            _ => Fill::Normal((2.0 / inputs).sqrt()),
        }
    })
}
