//! Recipes of pre-training.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::Objective;
use crate::data::masking::{RegionMasking, WordMasking};
use crate::train::recipe::{Kind, hold, read};
use crate::train::{Data, Recipe, RecipeError, Training};

/// A run of pre-training. Relative paths in a file are relative to the file's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainRecipe {
    /// VOLTA's JSON configuration of the model; its `visual_target_weights` say what is predicted of regions.
    pub model: PathBuf,
    /// Weights to go on from: safetensors or a PyTorch file. Without, training begins with random ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Beginnings of parameter names that `init` may lack, such as `cls.imagePredictions.` for other visual targets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_missing: Vec<String>,
    /// What is learnt of pairs.
    #[serde(default)]
    pub objective: Objective,
    /// Captions and features; `train` and `valid` are files of captions (JSON Lines).
    pub data: Data,
    /// How it is trained. `gradient_checkpointing` is not there for pre-training.
    #[serde(default)]
    pub train: Training,
    /// What is hidden.
    #[serde(default)]
    pub masking: Masking,
}

/// How much is hidden from the model and to be predicted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Masking {
    /// Part of the word pieces.
    pub words: f64,
    /// Part of the regions.
    pub regions: f64,
    /// Whether regions that overlap with a hidden one are hidden, too; VOLTA leaves them visible.
    pub hide_overlapping: bool,
}

impl Default for Masking {
    /// VOLTA's.
    fn default() -> Masking {
        Masking { words: 0.15, regions: 0.15, hide_overlapping: false }
    }
}

impl Masking {
    /// With all that a recipe leaves as VOLTA has it.
    pub(super) fn words(&self, mask_id: i64, vocab_size: i64) -> WordMasking {
        WordMasking { chosen: self.words, ..WordMasking::new(mask_id, vocab_size) }
    }

    /// With all that a recipe leaves as VOLTA has it.
    pub(super) fn regions(&self) -> RegionMasking {
        let Masking { regions, hide_overlapping, .. } = *self;
        RegionMasking { chosen: regions, hide_overlapping, ..RegionMasking::default() }
    }
}

impl PretrainRecipe {
    /// Reads a recipe and applies overrides, as [`Recipe::load`](crate::train::Recipe::load) does.
    ///
    /// # Errors
    /// [`RecipeError`].
    pub fn load(path: &Path, overrides: &[String]) -> Result<PretrainRecipe, RecipeError> {
        read(path, overrides)
    }

    /// As TOML, all values spelt out.
    pub fn to_toml(&self) -> String {
        // Serialisation of plain numbers, strings and tables cannot fail; paths were strings when they were read.
        toml::to_string(self).unwrap_or_default()
    }
}

impl Kind for PretrainRecipe {
    type Other = Recipe;
    const WHAT: &str = "a recipe of pre-training: `xenc pretrain` takes it, and `xenc train` begins with what its run has \
                        learnt (`init` = the run's folder)";

    fn check(&self) -> Result<(), &'static str> {
        let part = |part: f64| part > 0.0 && part <= 1.0;
        let rules = [
            (
                part(self.masking.words) && part(self.masking.regions),
                "`masking.words` and `masking.regions` are parts, above 0 and at most 1",
            ),
            (
                !self.train.gradient_checkpointing,
                "`gradient_checkpointing` is not there for pre-training: lower `batch_size` and raise `accumulate`",
            ),
        ];
        hold(rules.into_iter().chain(self.data.rules()).chain(self.train.rules()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = r#"
        model = "vilbert.json"
        init = "hf://org/repo/file.bin"
        objective = "all"
        [data]
        features = "features.xenc"
        train = "train.jsonl"
        valid = "/data/valid.jsonl"
        tokenizer = "vocab.txt"
        [masking]
        words = 0.3
    "#;

    fn load(overrides: &[&str]) -> Result<PretrainRecipe, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        std::fs::write(&path, RECIPE).unwrap();
        let overrides: Vec<String> = overrides.iter().map(|change| (*change).to_owned()).collect();
        PretrainRecipe::load(&path, &overrides).map_err(|error| error.to_string())
    }

    #[test]
    fn paths_and_overrides_are_those_of_every_recipe_and_what_is_written_is_read_back() {
        let recipe = load(&["data.train=other.jsonl", "train.epochs=2"]).unwrap();
        assert!(recipe.model.is_absolute() && recipe.model.ends_with("vilbert.json"));
        assert_eq!(recipe.init.as_deref(), Some(Path::new("hf://org/repo/file.bin")));
        assert_eq!(recipe.data.train, std::env::current_dir().unwrap().join("other.jsonl"));
        assert_eq!((recipe.train.epochs, recipe.objective), (2, Objective::All));
        assert_eq!((recipe.masking.words, recipe.masking.regions), (0.3, 0.15));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("written.toml");
        std::fs::write(&path, recipe.to_toml()).unwrap();
        assert_eq!(PretrainRecipe::load(&path, &[]).unwrap(), recipe);
    }

    #[test]
    fn faults_are_named() {
        for (change, said) in [
            ("variant=contrastive", "variant"),
            ("objective=some", "objective"),
            ("masking.words=0", "masking.words"),
            ("masking.regions=1.5", "masking.regions"),
            ("train.gradient_checkpointing=true", "gradient_checkpointing"),
            ("train.batch_size=0", "batch_size"),
            ("data.max_tokens=2", "max_tokens"),
        ] {
            let error = load(&[change]).unwrap_err();
            assert!(error.contains(said), "{change}: {error}");
        }
    }

    #[test]
    fn the_shipped_recipe_is_sound() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/pretraining/vilbert.toml");
        let recipe = PretrainRecipe::load(&path, &[]).unwrap();
        crate::config::ModelConfig::load(&recipe.model).unwrap();
    }
}
