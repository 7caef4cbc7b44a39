//! BERT's embeddings of word pieces.

use tch::nn::{self, Module};
use tch::{Kind, Tensor};

use super::super::Text;
use super::super::dropout::dropout;
use super::super::layers::{embedding, layer_norm};
use crate::config::ModelConfig;

/// Word, position and segment.
#[derive(Debug)]
pub(super) struct TextEmbeddings {
    pub(super) words: nn::Embedding,
    pub(super) positions: nn::Embedding,
    pub(super) types: nn::Embedding,
    pub(super) norm: nn::LayerNorm,
    pub(super) dropout: f64,
}

impl TextEmbeddings {
    pub(super) fn new(path: &nn::Path, config: &ModelConfig) -> TextEmbeddings {
        let table = |name: &str, count: i64, padding: i64| {
            embedding(path / name, config, count, config.hidden_size, padding)
        };
        TextEmbeddings {
            words: table("word_embeddings", config.vocab_size, 0),
            positions: table("position_embeddings", config.max_position_embeddings, -1),
            types: table("token_type_embeddings", config.type_vocab_size, -1),
            norm: layer_norm(path / "LayerNorm", config.hidden_size),
            dropout: config.hidden_dropout_prob,
        }
    }

    /// `[sets, tokens, hidden]`.
    pub(super) fn forward(&self, text: &Text, train: bool) -> Tensor {
        let tokens = text.input_ids.size()[1];
        let positions = Tensor::arange(tokens, (Kind::Int64, text.input_ids.device()));
        self.normalise(&self.sum(text, &positions), train)
    }

    /// Words, segments and positions (i64, `[tokens]` or `[sets, tokens]`) before the LayerNorm.
    pub(super) fn sum(&self, text: &Text, positions: &Tensor) -> Tensor {
        self.words.forward(&text.input_ids)
            + self.positions.forward(positions)
            + self.types.forward(&text.token_type_ids)
    }

    pub(super) fn normalise(&self, x: &Tensor, train: bool) -> Tensor {
        dropout(&self.norm.forward(x), self.dropout, train)
    }
}
