//! A ranking model with all it needs to be used: recipe, configuration, tokenizer, weights.

use std::io;
use std::path::{Path, PathBuf};

use feature_store::{BatchSpec, FeatureStore, StoreError};
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::config::{ConfigError, ModelConfig};
use crate::data::{Batch, DataError, ImageSets, Tokenizer};
use crate::digests::{self, DigestError};
use crate::model::{Activations, Candidates, RankingModel, Text};
use crate::run;
use crate::train::{Data, Recipe, RecipeError, Variant};
use crate::weights::{self, Convention, LoadReport, WeightsError};

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
    /// The encoder's configuration.
    pub config: ModelConfig,
    /// The tokenizer it was trained with.
    pub tokenizer: Tokenizer,
    /// All parameters.
    pub variables: VarStore,
    /// What loading the initial weights has done; `None` if they are random.
    pub loaded: Option<LoadReport>,
    model: RankingModel,
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
    #[error(
        "features in {store} have {found} values, but the model's `v_feature_size` is {expected}"
    )]
    FeatureDim {
        /// The store.
        store: PathBuf,
        /// Its width.
        found: u32,
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
        let config = ModelConfig::load(&recipe.model)?;
        let tokenizer = Tokenizer::load(&recipe.data.tokenizer)?;
        tch::manual_seed(recipe.train.seed as i64);
        let mut ranker = Ranker::assemble(recipe, config, tokenizer, device)?;
        if let Some(init) = &ranker.recipe.init {
            let mut allowed: Vec<&str> =
                ranker.recipe.allow_missing.iter().map(String::as_str).collect();
            if ranker.recipe.variant != Variant::ZeroShot {
                allowed.extend(HEADS);
            }
            let file = weights::hub::locate(init).map_err(WeightsError::from)?;
            let report = weights::initialise(&ranker.variables, &ranker.config, &file, &allowed)?;
            if ranker.recipe.variant == Variant::ZeroShot && report.convention == Convention::Bert {
                let problems = vec!["zero-shot ranking needs more than BERT's weights".to_owned()];
                return Err(WeightsError::Misfit { path: file, problems }.into());
            }
            ranker.loaded = Some(report);
        }
        Ok(ranker)
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
        let config = ModelConfig::load(&folder.join(CONFIG))?;
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

    /// Opens a store, by default the recipe's, and makes sure that the model can read its features.
    ///
    /// # Errors
    /// [`DataError::Store`], [`RankerError::FeatureDim`].
    pub fn open_store(&self, path: Option<&Path>) -> Result<FeatureStore, RankerError> {
        open_store(path.unwrap_or(&self.recipe.data.features), &self.config)
    }

    /// Reads a split for this model.
    ///
    /// # Errors
    /// [`DataError`].
    pub fn image_sets(&self, path: &Path, store: &FeatureStore) -> Result<ImageSets, DataError> {
        ImageSets::load(path, store, &self.tokenizer, self.recipe.data.max_tokens)
    }

    /// How batches of regions are laid out for this model.
    pub fn batch_spec(&self) -> BatchSpec {
        self.config.batch_spec(self.recipe.data.max_regions)
    }

    /// Scores `[sets, candidates]` of a batch on the model's device; dropout acts if `train` is set.
    pub fn scores(&self, batch: &Batch, train: bool) -> Tensor {
        self.model.forward(&batch.text, &batch.candidates, &batch.video, train)
    }

    /// Scores `[sets, candidates]` of descriptions and candidates on the model's device, without dropout; `video` is bool
    /// `[sets]`.
    pub fn scores_of(&self, text: &Text, candidates: &Candidates, video: &Tensor) -> Tensor {
        self.model.forward(text, candidates, video, false)
    }

    /// Scores `[sets, candidates]` of a batch on the model's device, with dropout by a seed, or without, and the loss that `loss` makes of
    /// them; its gradients are added to those of the parameters. Both are cut off from the parameters. With `finished`,
    /// the backward pass runs in [segments](RankingModel::backward_in_segments) and says which it has done with.
    pub fn backward(
        &self,
        batch: &Batch,
        seed: Option<u64>,
        loss: &dyn Fn(&Tensor) -> Tensor,
        finished: Option<&mut dyn FnMut(usize)>,
    ) -> (Tensor, Tensor) {
        let Batch { text, candidates, video, .. } = batch;
        let activations = match self.recipe.train.gradient_checkpointing {
            true => Activations::Recomputed,
            false => Activations::Kept,
        };
        if finished.is_some() || activations == Activations::Recomputed {
            let nobody: &mut dyn FnMut(usize) = &mut |_| ();
            let (inputs, finished) = ((text, candidates, video), finished.unwrap_or(nobody));
            return self.model.backward_in_segments(inputs, seed, activations, loss, finished);
        }
        let scores = self.model.forward_seeded(text, candidates, video, seed);
        let loss = loss(&scores);
        loss.backward();
        (scores.detach(), loss.detach())
    }

    /// The trainable parameters, each with the number of its [segment](RankingModel::segment_of), by name.
    pub fn segmented_parameters(&self) -> Vec<(usize, Tensor)> {
        let mut named: Vec<(String, Tensor)> = self.variables.variables().into_iter().collect();
        named.retain(|(_, parameter)| parameter.requires_grad());
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        named.into_iter().map(|(name, tensor)| (self.model.segment_of(&name), tensor)).collect()
    }

    /// How much every word attends to every region row of every candidate, f32 `[sets, candidates, tokens, rows]`; `None`
    /// for a model whose text does not attend to regions. Rows are those of [`batch_spec`](Ranker::batch_spec): the mean
    /// of all regions is among them if the model has it.
    pub fn words_to_regions(&self, batch: &Batch) -> Option<Tensor> {
        tch::no_grad(|| self.model.words_to_regions(&batch.text, &batch.candidates))
    }

    fn assemble(
        recipe: Recipe,
        config: ModelConfig,
        tokenizer: Tokenizer,
        device: Device,
    ) -> Result<Ranker, RankerError> {
        check_fit(&config, &tokenizer, &recipe.data)?;
        let variables = VarStore::new(device);
        let mut model = RankingModel::new(&variables.root(), &config, &recipe.head())?;
        model.set_kind(recipe.train.precision.kind());
        Ok(Ranker { recipe, config, tokenizer, variables, loaded: None, model })
    }
}

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

/// Opens a store and makes sure that a model can read its features.
pub(crate) fn open_store(path: &Path, config: &ModelConfig) -> Result<FeatureStore, RankerError> {
    let store = FeatureStore::open(path).map_err(DataError::from)?;
    let (found, expected) = (store.schema().dim, config.v_feature_size);
    match i64::from(found) == expected {
        true => Ok(store),
        false => Err(RankerError::FeatureDim { store: store.path().to_owned(), found, expected }),
    }
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

impl From<StoreError> for RankerError {
    fn from(error: StoreError) -> Self {
        RankerError::Data(error.into())
    }
}
