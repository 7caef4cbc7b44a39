//! Recipes: everything a training run depends on, as TOML.

mod data;
mod error;
mod read;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::pretrain::PretrainRecipe;
use super::settings::is_default;
use super::{AdamWConfig, Training};
use crate::clip::{ClipHead, ContextualHeadConfig, Fusion};
use crate::model::{ContextConfig, Positions, RankingHead};

pub use data::Data;
pub use error::RecipeError;
pub(crate) use error::expect;
pub(super) use read::{Kind, read};
use read::{check_open, parse};

/// How candidates are scored and what is learnt; ImageCoDe's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// The pre-trained alignment head; nothing is trained.
    ZeroShot,
    /// Binary cross-entropy of single pairs; for CLIP cross-entropy over images of different sets.
    NonContrastive,
    /// Cross-entropy over the candidates of a set.
    Contrastive,
    /// The same after a transformer over the candidates; see [`Context`].
    Contextual,
}

/// A training run. Relative paths in a file are relative to the file's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// How candidates are scored.
    pub variant: Variant,
    /// VOLTA's JSON configuration of a cross-encoder, or open_clip's of a CLIP.
    pub model: PathBuf,
    /// Weights to begin with: safetensors or a PyTorch file, for CLIP also OpenAI's archives. Without, training begins with
    /// random ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Beginnings of parameter names that `init` may lack; the ranking heads are always among them when training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_missing: Vec<String>,
    /// What is trained and evaluated on.
    pub data: Data,
    /// How it is trained.
    #[serde(default)]
    pub train: Training,
    /// The contextual module, for that variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
}

/// The contextual module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Number of transformer layers.
    pub layers: i64,
    /// Whether the fused vectors are added to the transformer's output.
    #[serde(default)]
    pub add_inputs: bool,
    /// Which sets get temporal embeddings.
    #[serde(default)]
    pub positions: Positions,
    /// How CLIP's embeddings are fused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fusion: Fusion,
    /// What CLIP's multiplied embeddings are multiplied by.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub logit_scale: f64,
}

fn is_one(value: &f64) -> bool {
    *value == 1.0
}

fn one() -> f64 {
    1.0
}

/// What of a recipe a trained model leaves open; of an exported one the precision, which comes first, is that of its graph.
static OPEN: [&str; 6] = [
    "train.precision",
    "data.features",
    "data.train",
    "data.valid",
    "data.max_tokens",
    "data.max_regions",
];

impl Recipe {
    /// Reads a recipe and applies overrides `key=value` with dotted keys; paths in overrides are relative to the
    /// working directory.
    ///
    /// # Errors
    /// [`RecipeError`].
    pub fn load(path: &Path, overrides: &[String]) -> Result<Recipe, RecipeError> {
        read(path, overrides)
    }

    /// The same for the recipe of a checkpoint: of what was trained, only data and precision can be set otherwise.
    ///
    /// # Errors
    /// [`RecipeError`]; [`RecipeError::Fixed`] for all other overrides.
    pub fn load_trained(path: &Path, overrides: &[String]) -> Result<Recipe, RecipeError> {
        check_open(&OPEN, overrides)?;
        read(path, overrides)
    }

    /// What [`to_toml`](Recipe::to_toml) has written into an exported model, of which only the data can be set otherwise.
    ///
    /// # Errors
    /// [`RecipeError`], in which the file is called `name`.
    pub fn parse_exported(
        text: &str,
        name: &Path,
        overrides: &[String],
    ) -> Result<Recipe, RecipeError> {
        check_open(&OPEN[1..], overrides)?;
        parse(text, name, overrides)
    }

    /// As TOML, all values spelt out.
    pub fn to_toml(&self) -> String {
        // Serialisation of plain numbers, strings and tables cannot fail; paths were strings when they were read.
        toml::to_string(self).unwrap_or_default()
    }

    /// What turns a cross-encoder's fused vectors into scores.
    pub fn head(&self) -> RankingHead {
        match (self.variant, &self.context) {
            (Variant::ZeroShot, _) => RankingHead::Alignment,
            (Variant::Contextual, Some(context)) => RankingHead::Contextual(context.module()),
            _ => RankingHead::Linear,
        }
    }

    /// What turns CLIP's embeddings into scores.
    pub fn clip_head(&self) -> ClipHead {
        match (self.variant, &self.context) {
            (Variant::Contextual, Some(context)) => ClipHead::Contextual(ContextualHeadConfig {
                context: context.module(),
                fusion: context.fusion,
                logit_scale: context.logit_scale,
            }),
            _ => ClipHead::Cosine,
        }
    }

    /// The optimiser's constants.
    pub fn optimizer(&self) -> AdamWConfig {
        let Training { betas, eps, weight_decay, optimizer: rule, .. } = self.train;
        AdamWConfig { betas, eps, weight_decay, rule }
    }
}

impl Kind for Recipe {
    type Other = PretrainRecipe;
    const WHAT: &str =
        "a recipe of ranking: `xenc train` takes it, or, for zero-shot ranking, `xenc eval`";

    fn check(&self) -> Result<(), &'static str> {
        let rules = [
            (
                (self.variant == Variant::Contextual) == self.context.is_some(),
                "`[context]` belongs to the variant `contextual`, and only to it: that needs at least `context.layers` (and \
                 `context.positions` for +TemporalEmbeddings)",
            ),
            (
                self.context.as_ref().is_none_or(|context| (1..=100).contains(&context.layers)),
                "`context.layers` is not between 1 and 100",
            ),
            (
                self.context.as_ref().is_none_or(|context| {
                    context.logit_scale.is_finite() && context.logit_scale > 0.0
                }),
                "`context.logit_scale` is not above 0",
            ),
            (
                self.variant != Variant::ZeroShot || self.init.is_some(),
                "zero-shot ranking needs pre-trained weights: give `init`",
            ),
        ];
        hold(rules.into_iter().chain(self.data.rules()).chain(self.train.rules()))
    }
}

impl Context {
    fn module(&self) -> ContextConfig {
        let Context { layers, add_inputs, positions, .. } = *self;
        ContextConfig { layers, add_inputs, positions }
    }
}

/// What to say of the first rule that does not hold.
pub(super) fn hold(
    rules: impl IntoIterator<Item = (bool, &'static str)>,
) -> Result<(), &'static str> {
    let mut rules = rules.into_iter();
    rules.find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Precision;

    const RECIPE: &str = r#"
        variant = "contrastive"
        model = "models/vilbert_base.json"
        [data]
        features = "features.xenc"
        train = "train.json"
        valid = "/data/valid.json"
        tokenizer = "vocab.txt"
        [train]
        epochs = 3
    "#;

    fn load(text: &str, overrides: &[&str]) -> Result<Recipe, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        std::fs::write(&path, text).unwrap();
        let overrides: Vec<String> = overrides.iter().map(|change| (*change).to_owned()).collect();
        Recipe::load(&path, &overrides).map_err(|error| error.to_string())
    }

    #[test]
    fn paths_are_relative_to_the_file_and_overrides_to_the_working_directory() {
        let recipe =
            load(RECIPE, &["data.features=other.xenc", "train.learning_rate=1e-3"]).unwrap();
        assert!(recipe.model.is_absolute() && recipe.model.ends_with("models/vilbert_base.json"));
        assert_eq!(recipe.data.valid, Path::new("/data/valid.json"));
        assert_eq!(recipe.data.features, std::env::current_dir().unwrap().join("other.xenc"));
        assert_eq!((recipe.train.learning_rate, recipe.train.epochs), (1e-3, 3));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let context = &["variant=contextual", "context.layers=2", "context.positions=video"];
        let recipe = load(RECIPE, context).unwrap();
        assert_eq!(load(&recipe.to_toml(), &[]).unwrap(), recipe);
        let training = &[
            "train.patience=3",
            "train.ema=0.999",
            "train.layer_decay=0.9",
            "train.freeze=[\"bert.embeddings\"]",
            "train.groups=[{match = \"bert.t_pooler\", learning_rate = 1e-3}]",
            "train.gradient_checkpointing=true",
        ];
        let recipe = load(RECIPE, training).unwrap();
        assert_eq!(recipe.train.groups.len(), 1);
        assert_eq!(load(&recipe.to_toml(), &[]).unwrap(), recipe);
    }

    #[test]
    fn faults_are_named() {
        let message = |text: &str, overrides: &[&str]| load(text, overrides).unwrap_err();
        let blamed = message(RECIPE, &["train.epochs=4", "train.epoch=3", "train.ema=0.9"]);
        assert!(blamed.starts_with("`--set train.epoch=3`: unknown field `epoch`"), "{blamed}");
        let blamed = message(&RECIPE.replace("epochs = 3", "epoch = 3"), &["train.ema=0.9"]);
        assert!(blamed.contains("recipe.toml: unknown field `epoch`"), "{blamed}");
        assert!(message(RECIPE, &["epochs"]).contains("key=value"));
        assert!(message(RECIPE, &["model.x=3"]).contains("model.x=3"));
        assert!(message(RECIPE, &["variant=contextual"]).contains("[context]"));
        assert!(message(RECIPE, &["variant=zero_shot"]).contains("init"));
        for (change, said) in [
            ("train.batch_size=0", "batch_size"),
            ("train.precision=f16", "f16"),
            ("train.gradient_checkpointing=1", "gradient_checkpointing"),
            ("train.patience=0", "patience"),
            ("train.ema=1.0", "ema"),
            ("train.layer_decay=1.5", "layer_decay"),
            ("train.layer_decay=0.0", "layer_decay"),
            ("train.freeze=[\"\"]", "freeze"),
            ("train.freeze=bert", "freeze"),
            ("train.groups=[{match = \"bert\"}]", "learning_rate"),
            ("train.groups=[{match = \"bert\", learning_rate = -1.0}]", "learning_rate"),
            ("train.groups=[{match = \"bert\", learning_rate = 1.0, decay = 1}]", "decay"),
        ] {
            assert!(message(RECIPE, &[change]).contains(said), "{change}");
        }
        let no_rate =
            ["train.learning_rate=0", "train.groups=[{match = \"a\", learning_rate = 1}]"];
        assert!(message(RECIPE, &no_rate).contains("above 0"));
        assert!(message("variant = ", &[]).contains("recipe.toml"));
    }

    #[test]
    fn another_kind_of_recipe_and_a_run_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let (ranking, pretraining) = (folder.path().join("a.toml"), folder.path().join("b.toml"));
        std::fs::write(&ranking, RECIPE).unwrap();
        let data = RECIPE.replace("variant = \"contrastive\"", "");
        std::fs::write(&pretraining, data).unwrap();
        let said = Recipe::load(&pretraining, &[]).unwrap_err().to_string();
        assert!(said.contains("b.toml is a recipe of pre-training: `xenc pretrain`"), "{said}");
        let changed = ["train.epochs=2".to_owned()];
        let said = PretrainRecipe::load(&ranking, &changed).unwrap_err().to_string();
        assert!(said.contains("a.toml is a recipe of ranking: `xenc train`"), "{said}");
        std::fs::copy(&ranking, folder.path().join("recipe.toml")).unwrap();
        let said = Recipe::load(folder.path(), &[]).unwrap_err().to_string();
        assert!(said.contains("is a run") && said.contains("/recipe.toml"), "{said}");
    }

    #[test]
    fn what_was_trained_stays_and_what_is_ranked_can_be_set() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        std::fs::write(&path, RECIPE).unwrap();
        let load = |change: &str| Recipe::load_trained(&path, &[change.to_owned()]);
        assert_eq!(load("data.max_regions=10").unwrap().data.max_regions, 10);
        assert_eq!(load(" train.precision = bf16").unwrap().train.precision, Precision::Bf16);
        for change in ["variant=zero_shot", "train.epochs=9", "data.tokenizer=x", "data", "init=x"]
        {
            let said = load(change).unwrap_err().to_string();
            assert!(said.contains(change) && said.contains("data.max_tokens"), "{said}");
        }
        let exported = |change: &str| {
            Recipe::parse_exported(RECIPE, &path, &[change.to_owned()]).map(|recipe| recipe.data)
        };
        assert_eq!(exported("data.max_tokens=10").unwrap().max_tokens, 10);
        assert!(exported("train.precision=bf16").is_err());
    }

    #[test]
    fn what_is_not_there_is_said_with_its_key_and_its_base() {
        let here = std::env::current_dir().unwrap();
        let recipe = Recipe::parse_exported(RECIPE, Path::new("a/b"), &[]).unwrap();
        let said = recipe.data.expect_split(&recipe.data.train).unwrap_err().to_string();
        let path = here.join("a/train.json");
        for part in [
            &format!("`data.train` is {}", path.display()),
            &format!("working directory ({})", here.display()),
            "--set data.train=PATH",
            "data/README.md",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert!(recipe.data.expect_split(Path::new("elsewhere.json")).is_ok());
        assert!(expect("init", Path::new("hf://org/repo/file.bin")).is_ok());
    }

    #[test]
    fn every_shipped_recipe_is_sound() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/recipes");
        let files: Vec<PathBuf> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() >= 10);
        for file in files {
            let recipe = Recipe::load(&file, &[]).unwrap();
            crate::config::Config::load(&recipe.model).unwrap();
        }
    }
}
