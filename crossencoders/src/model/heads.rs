//! Heads on the encoder: alignment, VOLTA's classifier, the pre-training predictions.

use std::collections::BTreeMap;

use tch::nn::{self, Module};
use tch::{Kind, Tensor};

use super::layers::{Linear, activate, layer_norm, linear};
use super::{CrossEncoder, Encoded};
use crate::config::{Activation, ModelConfig};

/// The pre-trained image-text matching head, `cls.bi_seq_relationship`.
#[derive(Debug)]
pub struct AlignmentHead {
    relationship: Linear,
}

impl AlignmentHead {
    /// Creates its parameters.
    pub fn new(root: &nn::Path, config: &ModelConfig) -> AlignmentHead {
        let path = root / "cls" / "bi_seq_relationship";
        AlignmentHead { relationship: linear(path, config, config.pooler_size, 2) }
    }

    /// Logits `[images, 2]`: index 0 means aligned.
    pub fn forward(&self, fused: &Tensor) -> Tensor {
        self.relationship.forward(fused)
    }

    /// Probability of being aligned, `[images, 1]`.
    pub fn probability(&self, fused: &Tensor) -> Tensor {
        self.forward(fused).softmax(-1, Kind::Float).narrow(1, 0, 1)
    }
}

/// VOLTA's own classifier, `clfs_dict.TASK*`: Linear, gelu, LayerNorm, Linear.
#[derive(Debug)]
pub struct VlClassifier {
    dense: Linear,
    norm: nn::LayerNorm,
    output: Linear,
}

impl VlClassifier {
    /// Creates the parameters of a task ("TASK3") with so many labels.
    pub fn new(root: &nn::Path, config: &ModelConfig, task: &str, labels: i64) -> VlClassifier {
        let path = root / "clfs_dict" / task / "logit_fc";
        VlClassifier {
            dense: linear(&path / 0, config, config.pooler_size, config.clf_hidden_size),
            norm: layer_norm(&path / 2, config.clf_hidden_size),
            output: linear(&path / 3, config, config.clf_hidden_size, labels),
        }
    }

    /// Logits `[images, labels]`.
    pub fn forward(&self, fused: &Tensor) -> Tensor {
        self.output.forward(&self.norm.forward(&self.dense.forward(fused).gelu("none")))
    }
}

/// The heads of masked language and masked region modelling, `cls.predictions` and `cls.imagePredictions`.
#[derive(Debug)]
pub struct PretrainingHeads {
    text: Transform,
    /// One per word; the decoder itself is the word embeddings.
    text_bias: Tensor,
    vision: Transform,
    /// By VOLTA's number of the visual target.
    decoders: BTreeMap<String, Linear>,
}

#[derive(Debug)]
struct Transform {
    dense: Linear,
    norm: Option<nn::LayerNorm>,
    activation: Activation,
}

impl Transform {
    fn new(path: &nn::Path, config: &ModelConfig, size: i64, norm: bool) -> Transform {
        let path = path / "transform";
        let dense = linear(&path / "dense", config, size, size);
        let norm = norm.then(|| layer_norm(&path / "LayerNorm", size));
        // VOLTA takes the text's activation for regions as well.
        Transform { dense, norm, activation: config.hidden_act }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let x = activate(self.activation, &self.dense.forward(x));
        self.norm.as_ref().map_or_else(|| x.shallow_clone(), |norm| norm.forward(&x))
    }
}

impl PretrainingHeads {
    /// Creates the parameters; `targets` gives the outputs of each visual target (1601 class scores for target "0").
    pub fn new(
        root: &nn::Path,
        config: &ModelConfig,
        targets: &BTreeMap<String, i64>,
    ) -> PretrainingHeads {
        let (text, vision) = (root / "cls" / "predictions", root / "cls" / "imagePredictions");
        let decoders = targets.iter().map(|(target, &outputs)| {
            let path = &vision / "decoder_dict" / target.as_str();
            (target.clone(), linear(path, config, config.v_hidden_size, outputs))
        });
        PretrainingHeads {
            decoders: decoders.collect(),
            text_bias: text.zeros("bias", &[config.vocab_size]),
            text: Transform::new(&text, config, config.hidden_size, true),
            vision: Transform::new(&vision, config, config.v_hidden_size, config.image_head_ln),
        }
    }

    /// Scores of all words for every token, `[images, tokens, vocab]`.
    pub fn words(&self, encoder: &CrossEncoder, encoded: &Encoded) -> Tensor {
        self.words_of(encoder, &encoded.text)
    }

    /// Scores of all words for some of the tokens: from `[n, hidden]` to `[n, vocab]`.
    pub fn words_of(&self, encoder: &CrossEncoder, states: &Tensor) -> Tensor {
        let states = self.text.forward(&states.to_kind(Kind::Float));
        states.linear(encoder.word_embeddings(), Some(&self.text_bias))
    }

    /// For every visual target what is predicted of every region, `[images, regions, outputs]`.
    pub fn regions(&self, encoded: &Encoded) -> BTreeMap<String, Tensor> {
        self.regions_of(&encoded.vision)
    }

    /// The same for some of the regions: from `[n, v_hidden]` to `[n, outputs]`.
    pub fn regions_of(&self, states: &Tensor) -> BTreeMap<String, Tensor> {
        let states = self.vision.forward(&states.to_kind(Kind::Float));
        self.decoders
            .iter()
            .map(|(target, decoder)| (target.clone(), decoder.forward(&states)))
            .collect()
    }
}
