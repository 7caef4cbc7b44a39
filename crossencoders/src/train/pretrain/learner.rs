//! What pre-training changes, and one step of it.

use std::path::Path;

use tch::nn::VarStore;
use tch::{Device, Tensor};

use super::PretrainRecipe;
use super::losses::Tally;
use crate::config::ModelConfig;
use crate::data::{Drawing, Objective, PretrainingBatch, Tokenizer};
use crate::digests;
use crate::model::pretraining::{PretrainingError, PretrainingModel};
use crate::ranker::{self, CONFIG, RECIPE, RankerError, WEIGHTS};
use crate::train::TrainError;
use crate::train::log::Step;
use crate::train::optimisation::{Applied, Optimisation};
use crate::train::step::{NoStep, NotFinite, all_finite, dropout_seed, first_not_finite};
use crate::weights::{self, LoadReport, WeightsError};

/// The model and what changes its weights.
#[derive(Debug)]
pub(super) struct Learner {
    pub recipe: PretrainRecipe,
    pub config: ModelConfig,
    pub tokenizer: Tokenizer,
    pub variables: VarStore,
    /// What loading the initial weights has done; `None` if they are random or a checkpoint's.
    pub loaded: Option<LoadReport>,
    pub model: PretrainingModel,
    pub optimisation: Optimisation,
}

impl Learner {
    /// As a recipe says: with its initial weights, or random ones.
    pub fn create(recipe: PretrainRecipe, device: Device) -> Result<Learner, TrainError> {
        let config = ranker::model_config(&recipe.model)?;
        let tokenizer = ranker::tokenizer(&recipe.data)?;
        tch::manual_seed(recipe.train.seed as i64);
        let init = recipe.init.as_deref().map(ranker::initial_weights).transpose()?;
        Learner::assemble(recipe, config, tokenizer, device, |recipe, config, variables| {
            let Some(file) = &init else { return Ok(None) };
            let allowed: Vec<&str> = recipe.allow_missing.iter().map(String::as_str).collect();
            weights::initialise(variables, config, file, &allowed).map(Some)
        })
    }

    /// What [`save_all`](Learner::save_all) has written.
    pub fn load(folder: &Path, device: Device) -> Result<Learner, TrainError> {
        digests::check(folder).map_err(RankerError::from)?;
        let recipe = PretrainRecipe::load(&folder.join(RECIPE), &[]).map_err(RankerError::from)?;
        let config = ModelConfig::load(&folder.join(CONFIG)).map_err(RankerError::from)?;
        let tokenizer = ranker::saved_tokenizer(folder)?;
        let mut learner =
            Learner::assemble(recipe, config, tokenizer, device, |_, _, variables| {
                weights::load(variables, &folder.join(WEIGHTS), &[]).map(|_| None)
            })?;
        learner.optimisation.load(folder)?;
        Ok(learner)
    }

    fn assemble(
        recipe: PretrainRecipe,
        config: ModelConfig,
        tokenizer: Tokenizer,
        device: Device,
        fill: impl FnOnce(
            &PretrainRecipe,
            &ModelConfig,
            &VarStore,
        ) -> Result<Option<LoadReport>, WeightsError>,
    ) -> Result<Learner, TrainError> {
        ranker::check_fit(&config, &tokenizer, &recipe.data)?;
        let variables = VarStore::new(device);
        let mut model =
            PretrainingModel::new(&variables.root(), &config).map_err(RankerError::from)?;
        if recipe.objective != Objective::NoAlignment && !model.aligns() {
            return Err(TrainError::NoAlignmentHead);
        }
        model.set_kind(recipe.train.precision.kind());
        let loaded = fill(&recipe, &config, &variables)?;
        let layers_above = |name: &str| config.layers_above(name);
        let optimisation = Optimisation::new(&variables, &layers_above, &recipe.train)?;
        Ok(Learner { recipe, config, tokenizer, variables, loaded, model, optimisation })
    }

    /// Writes the model into a folder that exists.
    pub fn save(&self, folder: &Path) -> Result<(), TrainError> {
        let recipe = self.recipe.to_toml();
        ranker::save_parts(folder, &self.variables, &self.config, &recipe, &self.tokenizer)?;
        Ok(())
    }

    /// Writes all that a step depends on into a folder that exists.
    pub fn save_all(&self, folder: &Path) -> Result<(), TrainError> {
        self.save(folder)?;
        self.optimisation.save(folder)
    }

    /// What is drawn for a batch.
    pub fn drawing(&self, seed: u64) -> Result<Drawing, TrainError> {
        let PretrainRecipe { objective, masking, data, .. } = &self.recipe;
        let mask = self
            .tokenizer
            .id("[MASK]")
            .ok_or_else(|| TrainError::NoMask(data.tokenizer.clone()))?;
        // Words become only such as the tokenizer has, even if the model has room for more.
        let words = masking.words(mask, self.tokenizer.vocab_size() as i64);
        Ok(Drawing { words, regions: masking.regions(), objective: *objective, seed })
    }

    /// The step after `done` of `total` steps: the update by the mean gradient of the batches, each as heavy as it has
    /// captions.
    ///
    /// # Errors
    /// [`NoStep`] with captions whose images have features that are not finite.
    pub fn step(
        &mut self,
        batches: Vec<PretrainingBatch>,
        (done, total): (u64, u64),
    ) -> Result<Step<Tally>, NoStep<usize>> {
        self.optimisation.zero_grad();
        let step = self.backward(batches, done)?;
        match self.optimisation.apply(&self.recipe.train, (done, total)) {
            Ok(Applied { grad_norm, learning_rate }) => {
                Ok(Step { grad_norm, learning_rate, ..step })
            }
            Err(norm) => Err(self.not_finite(step.loss, norm, None, Vec::new())),
        }
    }

    /// Adds up the gradients of all batches.
    fn backward(
        &mut self,
        batches: Vec<PretrainingBatch>,
        done: u64,
    ) -> Result<Step<Tally>, NoStep<usize>> {
        let settings = &self.recipe.train;
        let captions: usize = batches.iter().map(|batch| batch.rows.len()).sum();
        let mut step = Step::<Tally> { rows: captions, ..Step::default() };
        for (number, batch) in batches.into_iter().enumerate() {
            // Dropout depends on the step alone, whenever the run was begun.
            tch::manual_seed(dropout_seed(settings.seed, done, [number as u64, 0]) as i64);
            let batch = batch.to_device(self.variables.device());
            let weight = batch.rows.len() as f64 / captions as f64;
            let losses = self
                .model
                .losses(&batch.text, &batch.vision, &batch.targets, settings.dropout)
                .map_err(|error| NoStep::Error(error.into()))?;
            (&losses.total * weight).backward();
            let loss = losses.total.double_value(&[]);
            if !loss.is_finite() {
                let norm = self.optimisation.grad_norm();
                return Err(self.not_finite(loss, norm, Some(number), without_numbers(&batch)));
            }
            step.loss += loss * weight;
            step.gain.add(&losses, &batch.targets);
        }
        Ok(step)
    }

    /// The losses of a batch without dropout, added to others; and captions of images without finite features if the
    /// loss is not finite.
    pub fn evaluate(
        &self,
        batch: PretrainingBatch,
        tally: &mut Tally,
    ) -> Result<Result<(), NotFinite<usize>>, PretrainingError> {
        let batch = batch.to_device(self.variables.device());
        let losses =
            tch::no_grad(|| self.model.losses(&batch.text, &batch.vision, &batch.targets, false))?;
        let loss = losses.total.double_value(&[]);
        tally.add(&losses, &batch.targets);
        Ok(match loss.is_finite() {
            true => Ok(()),
            false => Err(NotFinite {
                loss,
                grad_norm: 0.0,
                parameter: None,
                batch: None,
                images: without_numbers(&batch),
            }),
        })
    }

    fn not_finite(
        &self,
        loss: f64,
        grad_norm: f64,
        batch: Option<usize>,
        images: Vec<usize>,
    ) -> NoStep<usize> {
        let parameter = first_not_finite(&self.variables);
        NoStep::NotFinite(NotFinite { loss, grad_norm, parameter, batch, images })
    }
}

/// Captions whose images have a feature or a location that is not finite, whether it is hidden or not.
fn without_numbers(batch: &PretrainingBatch) -> Vec<usize> {
    let known = batch.targets.regions.features.as_ref();
    let seen = [&batch.vision.features, &batch.vision.locations];
    let tensors: Vec<&Tensor> = seen.into_iter().chain(known).collect();
    let finite = |image: usize| tensors.iter().all(|x| all_finite(&x.get(image as i64)));
    let images = batch.rows.iter().enumerate();
    images.filter(|&(image, _)| !finite(image)).map(|(_, &caption)| caption).collect()
}
