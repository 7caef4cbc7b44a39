//! From word pieces and regions to the encoder's first states.

use tch::nn::{self, Module};
use tch::{Kind, Tensor};

use super::dropout::dropout;
use super::layers::{Linear, embedding, layer_norm, linear};
use super::{Text, Vision};
use crate::config::{ImageEmbeddings, ModelConfig};

#[derive(Debug)]
pub(crate) struct Embeddings {
    pub(crate) words: nn::Embedding,
    positions: nn::Embedding,
    types: nn::Embedding,
    norm: nn::LayerNorm,
    features: Linear,
    locations: Linear,
    v_norm: nn::LayerNorm,
    /// UNITER normalises features and locations before it adds them.
    own_norms: Option<(nn::LayerNorm, nn::LayerNorm)>,
    dropout: (f64, f64),
}

impl Embeddings {
    pub(crate) fn new(bert: &nn::Path, config: &ModelConfig) -> Embeddings {
        let text = bert / "embeddings";
        let vision = match config.image_embeddings {
            ImageEmbeddings::Vilbert => bert / "v_embeddings",
            ImageEmbeddings::Uniter => bert / "embeddings",
        };
        let (hidden, v_hidden) = (config.hidden_size, config.v_hidden_size);
        let (v_norm, own_norms) = match config.image_embeddings {
            ImageEmbeddings::Vilbert => (layer_norm(&vision / "LayerNorm", v_hidden), None),
            ImageEmbeddings::Uniter => {
                let features = layer_norm(&vision / "image_layer_norm", v_hidden);
                let locations = layer_norm(&vision / "image_location_layer_norm", v_hidden);
                (layer_norm(&vision / "v_LayerNorm", v_hidden), Some((features, locations)))
            }
        };
        Embeddings {
            words: embedding(&text / "word_embeddings", config, config.vocab_size, hidden, 0),
            positions: embedding(
                &text / "position_embeddings",
                config,
                config.max_position_embeddings,
                hidden,
                -1,
            ),
            types: embedding(
                &text / "token_type_embeddings",
                config,
                config.type_vocab_size,
                hidden,
                -1,
            ),
            norm: layer_norm(&text / "LayerNorm", hidden),
            features: linear(&vision / "image_embeddings", config, config.v_feature_size, v_hidden),
            locations: linear(
                &vision / "image_location_embeddings",
                config,
                config.num_locs,
                v_hidden,
            ),
            v_norm,
            own_norms,
            dropout: (config.hidden_dropout_prob, config.v_hidden_dropout_prob),
        }
    }

    /// `[sets, tokens, hidden]`.
    pub(crate) fn text(&self, text: &Text, train: bool) -> Tensor {
        let tokens = text.input_ids.size()[1];
        let positions = Tensor::arange(tokens, (Kind::Int64, text.input_ids.device()));
        let sum = self.words.forward(&text.input_ids)
            + self.positions.forward(&positions)
            + self.types.forward(&text.token_type_ids);
        dropout(&self.norm.forward(&sum), self.dropout.0, train)
    }

    /// `[images, regions, v_hidden]`; features are projected in the given precision.
    pub(crate) fn vision(&self, vision: &Vision, kind: Kind, train: bool) -> Tensor {
        let features = self.features.forward(&vision.features.to_kind(kind));
        let locations = self.locations.forward(&vision.locations);
        let sum = match &self.own_norms {
            None => features + locations,
            // Regions have token type 1.
            Some((f, l)) => f.forward(&features) + l.forward(&locations) + self.types.ws.get(1),
        };
        dropout(&self.v_norm.forward(&sum), self.dropout.1, train)
    }
}
