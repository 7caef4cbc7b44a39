//! A ranking model with all it needs to be used: recipe, configuration, tokenizer, weights.

mod error;
mod fit;
mod network;
mod parts;

use std::path::Path;

use feature_store::BatchSpec;
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::clip;
use crate::config::{Config, ModelConfig};
use crate::data::{Batch, ImageSets, ImageSource, Limits, Tokenizer};
use crate::digests;
use crate::model::Activations;
use crate::run;
use crate::train::{Recipe, Variant, expect};
use crate::weights::{self, Convention, LoadReport, WeightsError};
pub(crate) use fit::{check_fit, open_store};
use network::Network;

pub use error::RankerError;
pub(crate) use parts::{
    CONFIG, RECIPE, WEIGHTS, image_sets, initial_weights, model_config, save_parts,
    saved_tokenizer, tokenizer,
};

/// Parameters of the ranking heads, which pre-trained weights do not have.
const HEADS: [&str; 4] =
    ["clfs_dict.", "context_transformer.", "positional_emb.", "prediction_layer."];

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

impl Ranker {
    /// A model as a recipe says: with the recipe's initial weights, or random ones.
    ///
    /// # Errors
    /// [`RankerError`].
    pub fn create(recipe: Recipe, device: Device) -> Result<Ranker, RankerError> {
        expect("model", &recipe.model)?;
        let config = Config::load(&recipe.model)?;
        let tokenizer = tokenizer(&recipe.data)?;
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
        let file = initial_weights(init)?;
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
        let file = initial_weights(init)?;
        Ok(Some(clip::load(&self.variables, config, &file)?))
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
    /// [`RankerError::Recipe`] where the recipe's is not there, [`RankerError::Data`], [`RankerError::FeatureDim`],
    /// [`RankerError::OtherTower`].
    pub fn open_images(&self, path: Option<&Path>) -> Result<ImageSource, RankerError> {
        fit::open_images(path, &self.recipe.data, &self.config, &self.variables)
    }

    /// Reads a split for this model.
    ///
    /// # Errors
    /// [`RankerError::Recipe`] where the recipe's is not there, [`RankerError::Data`].
    pub fn image_sets(&self, path: &Path, images: &ImageSource) -> Result<ImageSets, RankerError> {
        let data = &self.recipe.data;
        let limits = Limits::new(self.max_tokens(), data.max_regions);
        image_sets(path, images, &self.tokenizer, data, limits)
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

    /// Scores `[sets, candidates]` of a CLIP's embeddings of pictures `[sets, candidates, embed]` and of descriptions `[sets,
    /// embed]` on the model's device, without dropout; `video` is bool `[sets]`. `None` for a cross-encoder, which has none.
    pub fn scores_of(&self, images: &Tensor, texts: &Tensor, video: &Tensor) -> Option<Tensor> {
        self.network.scores_of(images, texts, video)
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
