//! Whether what a recipe brings together fits.

use std::path::Path;

use feature_store::FeatureStore;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use vision::clip::{TowerDigest, check_embedded_by};

use super::RankerError;
use crate::clip::{ClipConfig, Fusion};
use crate::config::{Config, ModelConfig};
use crate::data::{DataError, ImageSource, PictureSource, Tokenizer};
use crate::train::{Data, Recipe, expect};

/// What is there if a path is a store.
const STORE_FILE: &str = "data.mdb";

/// Makes sure that a model has what a recipe sets, an embedding for every word piece and every position.
pub(super) fn check(
    config: &Config,
    tokenizer: &Tokenizer,
    recipe: &Recipe,
) -> Result<(), RankerError> {
    let setting = |key, what| Err(RankerError::Setting { key, what });
    match config {
        Config::CrossEncoder(config) => {
            let context = recipe.context.as_ref();
            if context.is_some_and(|context| context.fusion != Fusion::default()) {
                return setting(
                    "context.fusion",
                    "belongs to CLIP; a cross-encoder's is `fusion_method` of its configuration",
                );
            }
            if context.is_some_and(|context| context.logit_scale != 1.0) {
                return setting("context.logit_scale", "belongs to CLIP");
            }
            if tokenizer.is_of_clip() {
                return setting("data.tokenizer", "is CLIP's, but the model is none");
            }
            check_fit(config, tokenizer, &recipe.data)
        }
        Config::Clip(config) => {
            if recipe.train.gradient_checkpointing {
                return setting(
                    "train.gradient_checkpointing",
                    "is not there for CLIP: lower train.batch_size and raise train.accumulate",
                );
            }
            if !tokenizer.is_of_clip() {
                return setting(
                    "data.tokenizer",
                    "is none of CLIP, which needs bpe_simple_vocab_16e6.txt.gz",
                );
            }
            check_vocabulary(config.text_cfg.vocab_size, tokenizer, &recipe.data)
        }
    }
}

/// Makes sure that a cross-encoder has an embedding for every word piece and every position.
pub(crate) fn check_fit(
    config: &ModelConfig,
    tokenizer: &Tokenizer,
    data: &Data,
) -> Result<(), RankerError> {
    check_vocabulary(config.vocab_size, tokenizer, data)?;
    let (max_tokens, positions) = (data.max_tokens, config.max_position_embeddings);
    let regions = config.batch_spec(data.max_regions).rows() as i64;
    let missing = config.positions_needed(max_tokens as i64, regions) - positions;
    match missing > 0 {
        true => Err(RankerError::Positions(max_tokens, max_tokens as i64 - missing)),
        false => Ok(()),
    }
}

fn check_vocabulary(
    vocab_size: i64,
    tokenizer: &Tokenizer,
    data: &Data,
) -> Result<(), RankerError> {
    let largest = tokenizer.vocab_size().saturating_sub(1);
    match largest as i64 >= vocab_size {
        true => {
            Err(RankerError::Vocabulary { tokenizer: data.tokenizer.clone(), largest, vocab_size })
        }
        false => Ok(()),
    }
}

/// Opens a store of regions, by default the recipe's, and makes sure that a cross-encoder can read them.
pub(crate) fn open_store(
    path: Option<&Path>,
    data: &Data,
    config: &ModelConfig,
) -> Result<FeatureStore, RankerError> {
    open_features(features(path, data)?, "v_feature_size", config.v_feature_size)
}

/// What candidates come from, by default what the recipe names.
fn features<'a>(path: Option<&'a Path>, data: &'a Data) -> Result<&'a Path, RankerError> {
    if path.is_none() {
        expect("data.features", &data.features)?;
    }
    Ok(path.unwrap_or(&data.features))
}

/// Opens what a model's candidates come from, and makes sure that it can read them.
pub(super) fn open_images(
    path: Option<&Path>,
    data: &Data,
    config: &Config,
    variables: &VarStore,
) -> Result<ImageSource, RankerError> {
    let path = features(path, data)?;
    let (key, dim) = config.feature_dim();
    match config {
        Config::Clip(config) if !path.join(STORE_FILE).is_file() => {
            let size = config.architecture().image.size();
            let pictures = PictureSource::open(path, size).map_err(DataError::from)?;
            Ok(ImageSource::Pictures(pictures))
        }
        Config::Clip(config) => {
            let store = open_features(path, key, dim)?;
            check_tower(&store, config, variables)?;
            Ok(store.into())
        }
        Config::CrossEncoder(_) => Ok(open_features(path, key, dim)?.into()),
    }
}

fn open_features(
    path: &Path,
    key: &'static str,
    expected: i64,
) -> Result<FeatureStore, RankerError> {
    let store = FeatureStore::open(path).map_err(DataError::from)?;
    let found = store.schema().dim;
    match i64::from(found) == expected {
        true => Ok(store),
        false => {
            let store = store.path().to_owned();
            Err(RankerError::FeatureDim { store, found, key, expected })
        }
    }
}

/// Makes sure that a store holds embeddings of the model's image tower.
fn check_tower(
    store: &FeatureStore,
    config: &ClipConfig,
    variables: &VarStore,
) -> Result<(), RankerError> {
    let schema = store.schema();
    if schema.max_regions != 1 {
        let (store, regions) = (store.path().to_owned(), schema.max_regions);
        return Err(RankerError::NoEmbeddings { store, regions });
    }
    Ok(check_embedded_by(store, &tower_digest(config, variables))?)
}

/// As [`vision::clip::image_tower_digest`] has it of a file.
fn tower_digest(config: &ClipConfig, variables: &VarStore) -> String {
    let ours = variables.variables();
    let mut names: Vec<String> =
        config.architecture().expected().0.into_iter().map(|(name, _)| name).collect();
    names.retain(|name| name.starts_with("visual."));
    names.sort();
    let mut digest = TowerDigest::default();
    for name in names {
        let Some(tensor) = ours.get(&format!("clip.{name}")) else { continue };
        digest.add(&name, &floats(tensor));
    }
    digest.finish()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    let host = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut values = vec![0f32; host.numel()];
    host.copy_data(&mut values, host.numel());
    values
}
