//! A ranking model with all it needs to be used: recipe, configuration, tokenizer, weights.

mod error;
mod parts;

use std::path::Path;

use feature_store::{BatchSpec, FeatureStore};
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::config::ModelConfig;
use crate::data::{Batch, ImageSets, Tokenizer};
use crate::digests;
use crate::model::{Activations, Candidates, RankingModel, Text};
use crate::run;
use crate::train::{Recipe, Variant};
use crate::weights::{self, Convention, LoadReport, WeightsError};

pub use error::RankerError;
pub(crate) use parts::{
    CONFIG, RECIPE, WEIGHTS, check_fit, image_sets, initial_weights, model_config, open_store,
    save_parts, saved_tokenizer, tokenizer,
};

/// Parameters of the ranking heads, which pre-trained weights do not have.
const HEADS: [&str; 4] =
    ["clfs_dict.", "context_transformer.", "positional_emb.", "prediction_layer."];

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

impl Ranker {
    /// A model as a recipe says: with the recipe's initial weights, or random ones.
    ///
    /// # Errors
    /// [`RankerError`].
    pub fn create(recipe: Recipe, device: Device) -> Result<Ranker, RankerError> {
        let config = model_config(&recipe.model)?;
        let tokenizer = tokenizer(&recipe.data)?;
        tch::manual_seed(recipe.train.seed as i64);
        let mut ranker = Ranker::assemble(recipe, config, tokenizer, device)?;
        if let Some(init) = &ranker.recipe.init {
            let mut allowed: Vec<&str> =
                ranker.recipe.allow_missing.iter().map(String::as_str).collect();
            if ranker.recipe.variant != Variant::ZeroShot {
                allowed.extend(HEADS);
            }
            let file = initial_weights(init)?;
            let report = weights::initialise(&ranker.variables, &ranker.config, &file, &allowed)?;
            if ranker.recipe.variant == Variant::ZeroShot && report.convention == Convention::Bert {
                let problems = vec!["zero-shot ranking needs more than BERT's weights".to_owned()];
                return Err(WeightsError::Misfit { path: file, problems }.into());
            }
            ranker.loaded = Some(report);
        }
        Ok(ranker)
    }

    /// The model of a training run (its best checkpoint), of a checkpoint, or of a recipe, with overrides of the recipe; see
    /// [`Recipe::load_trained`] for what a trained model leaves open.
    ///
    /// # Errors
    /// [`RankerError`].
    pub fn load(path: &Path, overrides: &[String], device: Device) -> Result<Ranker, RankerError> {
        let best = run::checkpoint(path, run::BEST);
        if best.join(WEIGHTS).is_file() {
            Ranker::load_with(&best, overrides, device)
        } else if path.join(WEIGHTS).is_file() {
            Ranker::load_with(path, overrides, device)
        } else if path.is_file() && path.extension().is_some_and(|extension| extension == "toml") {
            let recipe = Recipe::load(path, overrides)?;
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
        Ranker::load_with(folder, &[], device)
    }

    fn load_with(
        folder: &Path,
        overrides: &[String],
        device: Device,
    ) -> Result<Ranker, RankerError> {
        digests::check(folder)?;
        let recipe = Recipe::load_trained(&folder.join(RECIPE), overrides)?;
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
    /// [`RankerError::Recipe`] where the recipe's is not there, [`RankerError::Data`], [`RankerError::FeatureDim`].
    pub fn open_store(&self, path: Option<&Path>) -> Result<FeatureStore, RankerError> {
        open_store(path, &self.recipe.data, &self.config)
    }

    /// Reads a split for this model.
    ///
    /// # Errors
    /// [`RankerError::Recipe`] where the recipe's is not there, [`RankerError::Data`].
    pub fn image_sets(&self, path: &Path, store: &FeatureStore) -> Result<ImageSets, RankerError> {
        image_sets(path, store, &self.tokenizer, &self.recipe.data)
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
