//! The configuration of either family of models.

use std::path::Path;

use feature_store::{BatchSpec, GlobalFeature};
use serde::Serialize;

use super::{ConfigError, ModelConfig};
use crate::clip::ClipConfig;

/// What a recipe's `model` names: a file says itself of which family it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Config {
    /// VOLTA's layout: a cross-encoder over regions.
    CrossEncoder(Box<ModelConfig>),
    /// open_clip's layout: CLIP, with whatever head.
    Clip(ClipConfig),
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = feature_store::text::read_text(path)
            .map_err(|source| ConfigError::Io { path: path.to_owned(), source })?;
        // What is no JSON at all is told by either parser.
        let json = serde_json::from_str(&text).unwrap_or_default();
        Ok(match ClipConfig::is_one(&json) {
            true => Config::Clip(ClipConfig::parse(&text, path)?),
            false => Config::CrossEncoder(Box::new(ModelConfig::load(path)?)),
        })
    }

    /// That of a cross-encoder.
    pub fn cross_encoder(&self) -> Option<&ModelConfig> {
        match self {
            Config::CrossEncoder(config) => Some(config),
            Config::Clip(_) => None,
        }
    }

    /// How the regions of an image are laid out for the model: for CLIP the picture as a whole.
    pub fn batch_spec(&self, max_regions: usize) -> BatchSpec {
        match self {
            Config::CrossEncoder(config) => config.batch_spec(max_regions),
            Config::Clip(_) => {
                BatchSpec { max_regions: 1, num_locs: 4, global_feature: GlobalFeature::None }
            }
        }
    }

    /// Number of known word pieces.
    pub fn vocab_size(&self) -> i64 {
        match self {
            Config::CrossEncoder(config) => config.vocab_size,
            Config::Clip(config) => config.text_cfg.vocab_size,
        }
    }

    /// The key of the width that stored features must have, and its value.
    pub(crate) fn feature_dim(&self) -> (&'static str, i64) {
        match self {
            Config::CrossEncoder(config) => ("v_feature_size", config.v_feature_size),
            Config::Clip(config) => ("embed_dim", config.embed_dim),
        }
    }

    /// Layers between a parameter and the top, itself included: 0 for what lies above all layers.
    pub(crate) fn layers_above(&self, name: &str) -> i32 {
        match self {
            Config::CrossEncoder(config) => config.layers_above(name),
            Config::Clip(config) => config.layers_above(name),
        }
    }
}
