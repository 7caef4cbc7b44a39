//! What rankers and models in pre-training are made of, as a recipe names it or a checkpoint keeps it.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tch::nn::VarStore;

use super::RankerError;
use crate::config::ModelConfig;
use crate::data::{DataError, ImageSets, ImageSource, Limits, TOKENIZER_FILES, Tokenizer};
use crate::run;
use crate::train::{Data, expect};
use crate::weights::{self, WeightsError};

pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const CONFIG: &str = "config.json";
pub(crate) const RECIPE: &str = "recipe.toml";

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

/// Reads a split, which may be one of the recipe's.
pub(crate) fn image_sets(
    path: &Path,
    images: &ImageSource,
    tokenizer: &Tokenizer,
    data: &Data,
    limits: Limits,
) -> Result<ImageSets, RankerError> {
    data.expect_split(path)?;
    Ok(ImageSets::load(path, images, tokenizer, limits)?)
}

/// Writes what a model is made of into a folder that exists.
pub(crate) fn save_parts(
    folder: &Path,
    variables: &VarStore,
    config: &impl Serialize,
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
    let [first, others @ ..] = TOKENIZER_FILES.map(|name| folder.join(name));
    let found = others.into_iter().find(|file| file.is_file() && !first.is_file());
    Tokenizer::load(&found.unwrap_or(first))
}
