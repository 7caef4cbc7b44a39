//! ImageCoDe's ContextModule: a transformer over the candidates of a set, optionally with positions in time.

use serde::{Deserialize, Serialize};
use tch::Tensor;
use tch::nn::{self, Module};

use super::dropout::add_dropped;
use super::layers::{Linear, embedding, layer_norm, linear};
use crate::config::ModelConfig;

/// Whatever the configuration of the encoder says.
const HEADS: i64 = 8;
/// Positions there are embeddings for: the images of a set.
const SET_SIZE: i64 = 10;

/// Which sets get position embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// None.
    #[default]
    None,
    /// Those of video frames.
    Video,
    /// All.
    All,
}

/// The contextual module's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextConfig {
    /// Number of transformer layers.
    pub layers: i64,
    /// Add the fused vectors, without positions, to the last layer's output.
    pub add_inputs: bool,
    /// Which sets get position embeddings.
    pub positions: Positions,
}

/// `context_transformer.*`, `positional_emb`, `prediction_layer`.
#[derive(Debug)]
pub struct ContextModule {
    layers: Vec<ContextLayer>,
    positions: Option<nn::Embedding>,
    prediction: Linear,
    config: ContextConfig,
}

impl ContextModule {
    /// Creates the parameters; width is `pooler_size`.
    pub fn new(root: &nn::Path, model: &ModelConfig, config: ContextConfig) -> ContextModule {
        let path = root / "context_transformer";
        let width = model.pooler_size;
        ContextModule {
            layers: (0..config.layers)
                .map(|layer| ContextLayer::new(&(&path / layer), model))
                .collect(),
            positions: (config.positions != Positions::None)
                .then(|| embedding(root / "positional_emb", model, SET_SIZE, width, -1)),
            prediction: linear(root / "prediction_layer", model, width, 1),
            config,
        }
    }

    /// Scores `[sets, candidates]` from fused vectors `[sets, candidates, width]`; `video` is bool `[sets]`. `observe`
    /// sees every layer's output.
    pub fn forward(
        &self,
        fused: &Tensor,
        video: &Tensor,
        train: bool,
        observe: &mut dyn FnMut(&Tensor),
    ) -> Tensor {
        // New tensors at every step: `+=` would change the caller's fused vectors in place.
        let mut states = match &self.positions {
            None => fused.shallow_clone(),
            Some(positions) => {
                let positions = positions.ws.narrow(0, 0, fused.size()[1]).unsqueeze(0);
                match self.config.positions {
                    Positions::All => fused + positions,
                    _ => fused + positions * video.to_kind(fused.kind()).view([-1, 1, 1]),
                }
            }
        };
        for layer in &self.layers {
            states = layer.forward(&states, train);
            observe(&states);
        }
        if self.config.add_inputs {
            states = fused + states;
        }
        self.prediction.forward(&states).squeeze_dim(-1)
    }
}

/// A post-LayerNorm BERT layer.
#[derive(Debug)]
struct ContextLayer {
    query: Linear,
    key: Linear,
    value: Linear,
    attended: Linear,
    attention_norm: nn::LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: nn::LayerNorm,
    attention_dropout: f64,
    hidden_dropout: f64,
}

impl ContextLayer {
    fn new(path: &nn::Path, config: &ModelConfig) -> ContextLayer {
        let width = config.pooler_size;
        let attention = path / "attention";
        let (own, output) = (&attention / "self", &attention / "output");
        ContextLayer {
            query: linear(&own / "query", config, width, width),
            key: linear(&own / "key", config, width, width),
            value: linear(&own / "value", config, width, width),
            attended: linear(&output / "dense", config, width, width),
            attention_norm: layer_norm(&output / "LayerNorm", width),
            intermediate: linear(
                path / "intermediate" / "dense",
                config,
                width,
                config.intermediate_size,
            ),
            output: linear(path / "output" / "dense", config, config.intermediate_size, width),
            output_norm: layer_norm(path / "output" / "LayerNorm", width),
            attention_dropout: config.attention_probs_dropout_prob,
            hidden_dropout: config.hidden_dropout_prob,
        }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let (sets, candidates, width) = x.size3().unwrap_or_default();
        // [sets, candidates, heads * size] to [sets, heads, candidates, size]
        let heads = |x: Tensor| x.view([sets, candidates, HEADS, width / HEADS]).transpose(1, 2);
        let (query, key, value) =
            (self.query.forward(x), self.key.forward(x), self.value.forward(x));
        let dropout = if train { self.attention_dropout } else { 0.0 };
        let no_mask: Option<&Tensor> = None;
        let context = Tensor::scaled_dot_product_attention(
            &heads(query),
            &heads(key),
            &heads(value),
            no_mask,
            dropout,
            false,
            None,
            false,
        );
        let context = context.transpose(1, 2).flatten(2, 3);
        let attended = self.attended.forward(&context);
        let x = add_dropped(x, &attended, self.hidden_dropout, train);
        let x = self.attention_norm.forward(&x);
        let inner = self.intermediate.forward(&x).gelu("none");
        let output = self.output.forward(&inner);
        self.output_norm.forward(&add_dropped(&x, &output, self.hidden_dropout, train))
    }
}

impl ContextConfig {
    /// Whether a width can be split into the module's heads.
    pub(crate) fn fits(width: i64) -> bool {
        width % HEADS == 0
    }
}
