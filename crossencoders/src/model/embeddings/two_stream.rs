//! Regions of the models with two streams, ViLBERT and LXMERT: features and locations, projected.

use tch::nn::{self, Module};
use tch::{Kind, Tensor};

use super::super::Vision;
use super::super::dropout::dropout;
use super::super::layers::{Linear, layer_norm, linear};
use crate::config::ModelConfig;

/// Features and locations in the width of the stream.
#[derive(Debug)]
pub(super) struct Projected {
    features: Linear,
    locations: Linear,
}

impl Projected {
    pub(super) fn new(path: &nn::Path, config: &ModelConfig) -> Projected {
        let width = config.v_hidden_size;
        Projected {
            features: linear(path / "image_embeddings", config, config.v_feature_size, width),
            locations: linear(path / "image_location_embeddings", config, config.num_locs, width),
        }
    }

    /// Features, projected in the given precision, and locations, each `[images, regions, v_hidden]`.
    pub(super) fn forward(&self, vision: &Vision, kind: Kind) -> (Tensor, Tensor) {
        let features = vision.features.to_kind(kind);
        (self.features.forward(&features), self.locations.forward(&vision.locations))
    }
}

/// One LayerNorm over the sum.
#[derive(Debug)]
pub(super) struct Vilbert {
    projected: Projected,
    norm: nn::LayerNorm,
    dropout: f64,
}

impl Vilbert {
    pub(super) fn new(path: &nn::Path, config: &ModelConfig) -> Vilbert {
        Vilbert {
            projected: Projected::new(path, config),
            norm: layer_norm(path / "LayerNorm", config.v_hidden_size),
            dropout: config.v_hidden_dropout_prob,
        }
    }

    /// `[images, regions, v_hidden]`.
    pub(super) fn forward(&self, vision: &Vision, kind: Kind, train: bool) -> Tensor {
        let (features, locations) = self.projected.forward(vision, kind);
        dropout(&self.norm.forward(&(features + locations)), self.dropout, train)
    }
}

/// A LayerNorm each, then the mean.
#[derive(Debug)]
pub(super) struct Lxmert {
    projected: Projected,
    feature_norm: nn::LayerNorm,
    location_norm: nn::LayerNorm,
    dropout: f64,
}

impl Lxmert {
    pub(super) fn new(path: &nn::Path, config: &ModelConfig) -> Lxmert {
        Lxmert {
            projected: Projected::new(path, config),
            feature_norm: layer_norm(path / "ImgLayerNorm", config.v_hidden_size),
            location_norm: layer_norm(path / "LocLayerNorm", config.v_hidden_size),
            dropout: config.v_hidden_dropout_prob,
        }
    }

    /// `[images, regions, v_hidden]`.
    pub(super) fn forward(&self, vision: &Vision, kind: Kind, train: bool) -> Tensor {
        let (features, locations) = self.projected.forward(vision, kind);
        let sum = self.feature_norm.forward(&features) + self.location_norm.forward(&locations);
        dropout(&(sum / 2.0), self.dropout, train)
    }
}
