//! A ranking model with all it needs to be used: recipe, configuration, tokenizer, weights.

mod fit;
mod network;

use std::io;
use std::path::{Path, PathBuf};

use feature_store::{BatchSpec, StoreError};
use serde::Serialize;
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::clip;
use crate::config::{Config, ConfigError, ModelConfig};
use crate::data::{Batch, DataError, ImageSets, ImageSource, TOKENIZER_FILES, Tokenizer};
use crate::digests::{self, DigestError};
use crate::model::Activations;
use crate::run;
use crate::train::{Recipe, RecipeError, Variant};
use crate::weights::{self, Convention, LoadReport, WeightsError};
pub(crate) use fit::{check_fit, open_store};
use network::Network;

/// Parameters of the ranking heads, which pre-trained weights do not have.
const HEADS: [&str; 4] =
    ["clfs_dict.", "context_transformer.", "positional_emb.", "prediction_layer."];

pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const CONFIG: &str = "config.json";
pub(crate) const RECIPE: &str = "recipe.toml";

/// Scores the candidates of descriptions.
#[derive(Debug)]
pub struct Ranker {
    /// What it was made by.
    pub recipe: Recipe,
    /// The model's configuration.
    pub config: Config,
    /// The tokenizer it was trained with.
    pub tokenizer: Tokenizer,
    /// All parameters.
    pub variables: VarStore,
    /// What loading the initial weights has done; `None` if they are random.
    pub loaded: Option<LoadReport>,
    network: Network,
}

/// Why a model cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum RankerError {
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// CLIP's weights.
    #[error(transparent)]
    ClipWeights(#[from] vision::weights::WeightsError),
    /// A key of the recipe that does not go with the model.
    #[error("`{key}` {what}")]
    Setting {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A store of regions where embeddings of whole pictures are needed.
    #[error(
        "{store} holds up to {regions} regions an image, but CLIP takes the picture as a whole: `xenc clip embed` writes \
         embeddings, and `data.features` may name the pictures themselves"
    )]
    NoEmbeddings {
        /// The store.
        store: PathBuf,
        /// Most regions of an image.
        regions: u32,
    },
    /// Embeddings that another image tower has made.
    #[error(
        "the embeddings in {0} were made by another image tower than this model's: run `xenc clip embed` with its weights"
    )]
    OtherTower(PathBuf),
    /// Tokenizer, annotations or features.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The weights of a checkpoint are not what was written.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// Nothing is there.
    #[error("{0}: no such file or folder")]
    Missing(PathBuf),
    /// A run that has not come to its first validation.
    #[error(
        "{run} has no best checkpoint yet, as no epoch is validated; {last} is what was trained so far"
    )]
    NotValidated {
        /// The run.
        run: PathBuf,
        /// Its last checkpoint.
        last: PathBuf,
    },
    /// Neither a run, nor a checkpoint, nor a recipe.
    #[error(
        "{0} is neither a training run with a checkpoint, nor a checkpoint, nor a recipe (*.toml)"
    )]
    NoModel(PathBuf),
    /// A recipe whose ranking head is still random.
    #[error(
        "{0} is a recipe to train with (`xenc train {0}`); only zero_shot recipes rank without training"
    )]
    Untrained(PathBuf),
    /// Ids of word pieces that the model has no embeddings for.
    #[error("{tokenizer} has ids up to {largest}, but the model's `vocab_size` is {vocab_size}")]
    Vocabulary {
        /// The tokenizer's file.
        tokenizer: PathBuf,
        /// Its largest id.
        largest: usize,
        /// What the configuration says.
        vocab_size: i64,
    },
    /// More word pieces than there are positions for.
    #[error(
        "`data.max_tokens` is {0}, but the model has positions for {1} (`max_position_embeddings`, with VL-BERT less the \
         regions)"
    )]
    Positions(usize, i64),
    /// Features of another width.
    #[error("features in {store} have {found} values, but the model's `{key}` is {expected}")]
    FeatureDim {
        /// The store.
        store: PathBuf,
        /// Its width.
        found: u32,
        /// The key of the model's configuration.
        key: &'static str,
        /// The model's.
        expected: i64,
    },
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Ranker {
    /// A model as a recipe says: with the recipe's initial weights, or random ones.
    ///
    /// # Errors
    /// [`RankerError`].
    pub fn create(recipe: Recipe, device: Device) -> Result<Ranker, RankerError> {
        let config = Config::load(&recipe.model)?;
        let tokenizer = Tokenizer::load(&recipe.data.tokenizer)?;
        tch::manual_seed(recipe.train.seed as i64);
        let mut ranker = Ranker::assemble(recipe, config, tokenizer, device)?;
        ranker.loaded = match &ranker.config {
            Config::CrossEncoder(config) => ranker.initialise(config)?,
            Config::Clip(config) => ranker.initialise_clip(config)?,
        };
        Ok(ranker)
    }

    fn initialise(&self, config: &ModelConfig) -> Result<Option<LoadReport>, RankerError> {
        let Some(init) = &self.recipe.init else { return Ok(None) };
        let is_zero_shot = self.recipe.variant == Variant::ZeroShot;
        let mut allowed: Vec<&str> = self.recipe.allow_missing.iter().map(String::as_str).collect();
        if !is_zero_shot {
            allowed.extend(HEADS);
        }
        let file = weights::hub::locate(init).map_err(WeightsError::from)?;
        let report = weights::initialise(&self.variables, config, &file, &allowed)?;
        if is_zero_shot && report.convention == Convention::Bert {
            let problems = vec!["zero-shot ranking needs more than BERT's weights".to_owned()];
            return Err(WeightsError::Misfit { path: file, problems }.into());
        }
        Ok(Some(report))
    }

    fn initialise_clip(
        &self,
        config: &clip::ClipConfig,
    ) -> Result<Option<LoadReport>, RankerError> {
        let Some(init) = &self.recipe.init else {
            clip::initialise(&self.variables, config, self.recipe.train.seed)?;
            return Ok(None);
        };
        let file = weights::hub::locate(init).map_err(WeightsError::from)?;
        Ok(Some(clip::load(&self.variables, config, &file)?))
    }

    /// The model of a training run (its best checkpoint), of a checkpoint, or of a recipe.
    ///
    /// # Errors
    /// [`RankerError`].
    pub fn load(path: &Path, device: Device) -> Result<Ranker, RankerError> {
        let best = run::checkpoint(path, run::BEST);
        if best.join(WEIGHTS).is_file() {
            Ranker::load_checkpoint(&best, device)
        } else if path.join(WEIGHTS).is_file() {
            Ranker::load_checkpoint(path, device)
        } else if path.is_file() && path.extension().is_some_and(|extension| extension == "toml") {
            let recipe = Recipe::load(path, &[])?;
            if recipe.variant != Variant::ZeroShot {
                return Err(RankerError::Untrained(path.to_owned()));
            }
            Ranker::create(recipe, device)
        } else if !path.exists() {
            Err(RankerError::Missing(path.to_owned()))
        } else if run::checkpoint(path, run::LAST).join(WEIGHTS).is_file() {
            let (run, last) = (path.to_owned(), run::checkpoint(path, run::LAST));
            Err(RankerError::NotValidated { run, last })
        } else {
            Err(RankerError::NoModel(path.to_owned()))
        }
    }

    /// The model that [`save`](Ranker::save) has written.
    ///
    /// # Errors
    /// [`RankerError`].
    pub fn load_checkpoint(folder: &Path, device: Device) -> Result<Ranker, RankerError> {
        digests::check(folder)?;
        let recipe = Recipe::load(&folder.join(RECIPE), &[])?;
        let config = Config::load(&folder.join(CONFIG))?;
        let tokenizer = saved_tokenizer(folder)?;
        let mut ranker = Ranker::assemble(recipe, config, tokenizer, device)?;
        ranker.loaded = Some(weights::load(&ranker.variables, &folder.join(WEIGHTS), &[])?);
        Ok(ranker)
    }

    /// Writes weights, configuration, recipe and tokenizer into a folder that exists.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), RankerError> {
        save_parts(folder, &self.variables, &self.config, &self.recipe.to_toml(), &self.tokenizer)
    }

    /// Opens what candidates come from, by default the recipe's, and makes sure that the model can read it: for a
    /// cross-encoder a store of regions; for CLIP a store of embeddings, or the pictures themselves.
    ///
    /// # Errors
    /// [`DataError`], [`RankerError::FeatureDim`], [`RankerError::OtherTower`].
    pub fn open_images(&self, path: Option<&Path>) -> Result<ImageSource, RankerError> {
        let path = path.unwrap_or(&self.recipe.data.features);
        fit::open_images(path, &self.config, &self.variables)
    }

    /// Reads a split for this model.
    ///
    /// # Errors
    /// [`DataError`].
    pub fn image_sets(&self, path: &Path, images: &ImageSource) -> Result<ImageSets, DataError> {
        ImageSets::load(path, images, &self.tokenizer, self.max_tokens())
    }

    /// Most word pieces of a description.
    pub fn max_tokens(&self) -> usize {
        let of_recipe = self.recipe.data.max_tokens;
        match &self.config {
            Config::CrossEncoder(_) => of_recipe,
            Config::Clip(config) => of_recipe.min(config.text_cfg.context_length as usize),
        }
    }

    /// Whether it learns from pairs rather than from sets.
    pub fn learns_from_pairs(&self) -> bool {
        self.recipe.variant == Variant::NonContrastive && self.config.cross_encoder().is_some()
    }

    /// What it learns from, made of a split: for the non-contrastive CLIP sets with
    /// [distractors of other sets](ImageSets::with_random_distractors).
    pub fn training_sets(&self, split: ImageSets) -> ImageSets {
        match (&self.config, self.recipe.variant) {
            (Config::Clip(_), Variant::NonContrastive) => {
                split.with_random_distractors(self.recipe.train.seed)
            }
            _ => split,
        }
    }

    /// How batches of regions are laid out for this model.
    pub fn batch_spec(&self) -> BatchSpec {
        self.config.batch_spec(self.recipe.data.max_regions)
    }

    /// Scores `[sets, candidates]` of a batch on the model's device; dropout acts if `train` is set.
    pub fn scores(&self, batch: &Batch, train: bool) -> Tensor {
        self.network.forward(batch, train)
    }

    /// Scores `[sets, candidates]` of a batch on the model's device, with dropout by a seed, or without, and the loss that `loss` makes of
    /// them; its gradients are added to those of the parameters. Both are cut off from the parameters. With `finished`,
    /// the backward pass runs in [segments](crate::model::RankingModel::backward_in_segments) and says which it has done
    /// with.
    pub fn backward(
        &self,
        batch: &Batch,
        seed: Option<u64>,
        loss: &dyn Fn(&Tensor) -> Tensor,
        finished: Option<&mut dyn FnMut(usize)>,
    ) -> (Tensor, Tensor) {
        let activations = match self.recipe.train.gradient_checkpointing {
            true => Activations::Recomputed,
            false => Activations::Kept,
        };
        self.network.backward(batch, seed, activations, loss, finished)
    }

    /// The trainable parameters, each with the number of its
    /// [segment](crate::model::RankingModel::segment_of), by name.
    pub fn segmented_parameters(&self) -> Vec<(usize, Tensor)> {
        let mut named: Vec<(String, Tensor)> = self.variables.variables().into_iter().collect();
        named.retain(|(_, parameter)| parameter.requires_grad());
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        named.into_iter().map(|(name, tensor)| (self.network.segment_of(&name), tensor)).collect()
    }

    /// How much every word attends to every region row of every candidate, f32 `[sets, candidates, tokens, rows]`; `None`
    /// for a model whose text does not attend to regions. Rows are those of [`batch_spec`](Ranker::batch_spec): the mean
    /// of all regions is among them if the model has it.
    pub fn words_to_regions(&self, batch: &Batch) -> Option<Tensor> {
        tch::no_grad(|| self.network.words_to_regions(batch))
    }

    fn assemble(
        recipe: Recipe,
        config: Config,
        tokenizer: Tokenizer,
        device: Device,
    ) -> Result<Ranker, RankerError> {
        fit::check(&config, &tokenizer, &recipe)?;
        let variables = VarStore::new(device);
        let network = Network::new(&variables.root(), &config, &recipe)?;
        Ok(Ranker { recipe, config, tokenizer, variables, loaded: None, network })
    }
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

impl From<StoreError> for RankerError {
    fn from(error: StoreError) -> Self {
        RankerError::Data(error.into())
    }
}
