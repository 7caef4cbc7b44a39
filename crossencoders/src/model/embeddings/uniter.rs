//! Regions of UNITER.

use tch::nn::{self, Module};
use tch::{Kind, Tensor};

use super::super::Vision;
use super::super::dropout::dropout;
use super::super::layers::layer_norm;
use super::text::TextEmbeddings;
use super::two_stream::Projected;
use crate::config::ModelConfig;

/// The token type that regions have.
const REGION_TYPE: i64 = 1;

/// Features and locations with a LayerNorm each, the token type, and a LayerNorm over the sum.
#[derive(Debug)]
pub(super) struct Uniter {
    projected: Projected,
    feature_norm: nn::LayerNorm,
    location_norm: nn::LayerNorm,
    norm: nn::LayerNorm,
    dropout: f64,
}

impl Uniter {
    pub(super) fn new(path: &nn::Path, config: &ModelConfig) -> Uniter {
        let width = config.v_hidden_size;
        Uniter {
            projected: Projected::new(path, config),
            feature_norm: layer_norm(path / "image_layer_norm", width),
            location_norm: layer_norm(path / "image_location_layer_norm", width),
            norm: layer_norm(path / "v_LayerNorm", width),
            dropout: config.hidden_dropout_prob,
        }
    }

    /// `[images, regions, v_hidden]`.
    pub(super) fn forward(
        &self,
        text: &TextEmbeddings,
        vision: &Vision,
        kind: Kind,
        train: bool,
    ) -> Tensor {
        let (features, locations) = self.projected.forward(vision, kind);
        let sum = self.feature_norm.forward(&features)
            + self.location_norm.forward(&locations)
            + text.types.ws.get(REGION_TYPE);
        dropout(&self.norm.forward(&sum), self.dropout, train)
    }
}
