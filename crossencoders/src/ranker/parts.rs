//! What rankers and models in pre-training are made of, as a recipe names it or a checkpoint keeps it.

use std::path::{Path, PathBuf};

use feature_store::FeatureStore;
use tch::nn::VarStore;

use super::RankerError;
use crate::config::ModelConfig;
use crate::data::{DataError, ImageSets, Tokenizer};
use crate::run;
use crate::train::{Data, expect};
use crate::weights::{self, WeightsError};

pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const CONFIG: &str = "config.json";
pub(crate) const RECIPE: &str = "recipe.toml";

/// Makes sure that a model has an embedding for every word piece and every position.
pub(crate) fn check_fit(
    config: &ModelConfig,
    tokenizer: &Tokenizer,
    data: &Data,
) -> Result<(), RankerError> {
    let largest = tokenizer.vocab_size().saturating_sub(1);
    if largest as i64 >= config.vocab_size {
        let (tokenizer, vocab_size) = (data.tokenizer.clone(), config.vocab_size);
        return Err(RankerError::Vocabulary { tokenizer, largest, vocab_size });
    }
    let (max_tokens, positions) = (data.max_tokens, config.max_position_embeddings);
    let regions = config.batch_spec(data.max_regions).rows() as i64;
    let missing = config.positions_needed(max_tokens as i64, regions) - positions;
    match missing > 0 {
        true => Err(RankerError::Positions(max_tokens, max_tokens as i64 - missing)),
        false => Ok(()),
    }
}

/// The configuration that a recipe names.
pub(crate) fn model_config(model: &Path) -> Result<ModelConfig, RankerError> {
    expect("model", model)?;
    Ok(ModelConfig::load(model)?)
}

/// The tokenizer that a recipe names.
pub(crate) fn tokenizer(data: &Data) -> Result<Tokenizer, RankerError> {
    expect("data.tokenizer", &data.tokenizer)?;
    Ok(Tokenizer::load(&data.tokenizer)?)
}

/// The file of weights that a recipe's `init` names: a run's are those of its best checkpoint, or of its last while no epoch
/// is validated.
pub(crate) fn initial_weights(init: &Path) -> Result<PathBuf, RankerError> {
    expect("init", init)?;
    if !init.is_dir() {
        return Ok(weights::hub::locate(init).map_err(WeightsError::from)?);
    }
    let checkpoints = [run::BEST, run::LAST].map(|name| run::checkpoint(init, name));
    let mut files = checkpoints.into_iter().chain([init.to_owned()]).map(|at| at.join(WEIGHTS));
    files.find(|file| file.is_file()).ok_or_else(|| RankerError::NoWeights(init.to_owned()))
}

/// Opens a store, by default the recipe's, and makes sure that a model can read its features.
pub(crate) fn open_store(
    path: Option<&Path>,
    data: &Data,
    config: &ModelConfig,
) -> Result<FeatureStore, RankerError> {
    if path.is_none() {
        expect("data.features", &data.features)?;
    }
    let store = FeatureStore::open(path.unwrap_or(&data.features)).map_err(DataError::from)?;
    let (found, expected) = (store.schema().dim, config.v_feature_size);
    match i64::from(found) == expected {
        true => Ok(store),
        false => Err(RankerError::FeatureDim { store: store.path().to_owned(), found, expected }),
    }
}

/// Reads a split, which may be one of the recipe's.
pub(crate) fn image_sets(
    path: &Path,
    store: &FeatureStore,
    tokenizer: &Tokenizer,
    data: &Data,
) -> Result<ImageSets, RankerError> {
    data.expect_split(path)?;
    Ok(ImageSets::load(path, store, tokenizer, data.limits())?)
}

/// Writes what a model is made of into a folder that exists.
pub(crate) fn save_parts(
    folder: &Path,
    variables: &VarStore,
    config: &ModelConfig,
    recipe: &str,
    tokenizer: &Tokenizer,
) -> Result<(), RankerError> {
    weights::save(variables, &folder.join(WEIGHTS))?;
    let config = serde_json::to_string_pretty(config).unwrap_or_default();
    let (tokenizer, contents) = tokenizer.file();
    for (name, contents) in
        [(CONFIG, config.as_bytes()), (RECIPE, recipe.as_bytes()), (tokenizer, contents)]
    {
        let path = folder.join(name);
        std::fs::write(&path, contents).map_err(|source| RankerError::Io { path, source })?;
    }
    Ok(())
}

/// The tokenizer that [`save_parts`] has written.
pub(crate) fn saved_tokenizer(folder: &Path) -> Result<Tokenizer, DataError> {
    let vocabulary = folder.join("vocab.txt");
    Tokenizer::load(&match vocabulary.is_file() {
        true => vocabulary,
        false => folder.join("tokenizer.json"),
    })
}
