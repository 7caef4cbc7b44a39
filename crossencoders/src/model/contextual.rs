//! ImageCoDe's ContextModule: a transformer over the candidates of a set, optionally with positions in time.

use serde::{Deserialize, Serialize};
use tch::Tensor;
use tch::nn::{self, Init, Module};

use super::dropout::add_dropped;
use super::layers::{Linear, layer_norm, linear_from, pytorch_linear};
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

/// What a contextual module takes over from the model below it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ContextSizes {
    /// Values of a fused vector.
    pub width: i64,
    /// Values within a layer's feed-forward part.
    pub intermediate: i64,
    /// Part of the attention that is dropped in training.
    pub attention_dropout: f64,
    /// Part of each sublayer's output that is dropped in training.
    pub hidden_dropout: f64,
    /// How its parameters begin.
    pub init: ContextInit,
}

/// How the parameters of a contextual module begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ContextInit {
    /// As BERT's: weights and embeddings normal with this standard deviation, biases 0.
    Bert(f64),
    /// As PyTorch's layers: uniform within 1 / √inputs, embeddings normal with standard deviation 1.
    Pytorch,
}

impl From<&ModelConfig> for ContextSizes {
    fn from(model: &ModelConfig) -> ContextSizes {
        ContextSizes {
            width: model.pooler_size,
            intermediate: model.intermediate_size,
            attention_dropout: model.attention_probs_dropout_prob,
            hidden_dropout: model.hidden_dropout_prob,
            init: ContextInit::Bert(model.initializer_range),
        }
    }
}

impl ContextInit {
    fn linear(self, path: nn::Path, inputs: i64, outputs: i64) -> Linear {
        match self {
            ContextInit::Bert(stdev) => {
                linear_from(path, Init::Randn { mean: 0.0, stdev }, inputs, outputs)
            }
            ContextInit::Pytorch => pytorch_linear(path, inputs, outputs),
        }
    }

    fn embedding(self, path: nn::Path, count: i64, width: i64) -> nn::Embedding {
        let stdev = match self {
            ContextInit::Bert(stdev) => stdev,
            ContextInit::Pytorch => 1.0,
        };
        let ws_init = Init::Randn { mean: 0.0, stdev };
        nn::embedding(path, count, width, nn::EmbeddingConfig { ws_init, ..Default::default() })
    }
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
    /// Creates the parameters; of a cross-encoder's configuration the width is `pooler_size`.
    pub fn new(
        root: &nn::Path,
        sizes: impl Into<ContextSizes>,
        config: ContextConfig,
    ) -> ContextModule {
        let (path, sizes) = (root / "context_transformer", sizes.into());
        let ContextSizes { width, init, .. } = sizes;
        ContextModule {
            layers: (0..config.layers)
                .map(|layer| ContextLayer::new(&(&path / layer), sizes))
                .collect(),
            positions: (config.positions != Positions::None)
                .then(|| init.embedding(root / "positional_emb", SET_SIZE, width)),
            prediction: init.linear(root / "prediction_layer", width, 1),
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
    fn new(path: &nn::Path, sizes: ContextSizes) -> ContextLayer {
        let ContextSizes { width, intermediate, init, .. } = sizes;
        let attention = path / "attention";
        let (own, output) = (&attention / "self", &attention / "output");
        ContextLayer {
            query: init.linear(&own / "query", width, width),
            key: init.linear(&own / "key", width, width),
            value: init.linear(&own / "value", width, width),
            attended: init.linear(&output / "dense", width, width),
            attention_norm: layer_norm(&output / "LayerNorm", width),
            intermediate: init.linear(path / "intermediate" / "dense", width, intermediate),
            output: init.linear(path / "output" / "dense", intermediate, width),
            output_norm: layer_norm(path / "output" / "LayerNorm", width),
            attention_dropout: sizes.attention_dropout,
            hidden_dropout: sizes.hidden_dropout,
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
