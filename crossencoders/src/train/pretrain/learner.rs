//! What pre-training changes, and one step of it.

use std::path::Path;

use tch::nn::VarStore;
use tch::{Device, Tensor};

use super::PretrainRecipe;
use super::log::{Step, Tally};
use crate::config::ModelConfig;
use crate::data::{Drawing, Objective, PretrainingBatch, Tokenizer};
use crate::model::pretraining::{PretrainingError, PretrainingModel};
use crate::ranker::{self, CONFIG, RECIPE, RankerError, WEIGHTS};
use crate::train::average::Average;
use crate::train::step::{all_finite, dropout_seed, first_not_finite, learning_rate};
use crate::train::{AdamW, TrainError, groups};
use crate::weights::{self, LoadReport, WeightsError};

const OPTIMIZER: &str = "optimizer.safetensors";
const AVERAGE: &str = "average.safetensors";

/// The model, its optimiser, the average of its weights.
#[derive(Debug)]
pub(super) struct Learner {
    pub recipe: PretrainRecipe,
    pub config: ModelConfig,
    pub tokenizer: Tokenizer,
    pub variables: VarStore,
    /// What loading the initial weights has done; `None` if they are random or a checkpoint's.
    pub loaded: Option<LoadReport>,
    pub model: PretrainingModel,
    optimizer: AdamW,
    average: Option<Average>,
}

/// Why there is no step. The weights are those before it.
#[derive(Debug)]
pub(super) enum NoStep {
    /// Labels that the store lacks.
    Targets(PretrainingError),
    /// A loss or a gradient.
    NotFinite(NotFinite),
}

/// A step that would have made weights that are no numbers.
#[derive(Debug)]
pub(super) struct NotFinite {
    pub loss: f64,
    pub grad_norm: f64,
    pub parameter: Option<String>,
    /// The number of the batch whose loss is not finite; if all are, gradients are not.
    pub batch: Option<usize>,
    /// Captions of that batch whose image has features that are not finite.
    pub captions: Vec<usize>,
}

impl Learner {
    /// As a recipe says: with its initial weights, or random ones.
    pub fn create(recipe: PretrainRecipe, device: Device) -> Result<Learner, TrainError> {
        let config = ModelConfig::load(&recipe.model).map_err(RankerError::from)?;
        let tokenizer = Tokenizer::load(&recipe.data.tokenizer)?;
        tch::manual_seed(recipe.train.seed as i64);
        Learner::assemble(recipe, config, tokenizer, device, |recipe, config, variables| {
            let Some(init) = &recipe.init else { return Ok(None) };
            let allowed: Vec<&str> = recipe.allow_missing.iter().map(String::as_str).collect();
            let file = weights::hub::locate(init).map_err(WeightsError::from)?;
            weights::initialise(variables, config, &file, &allowed).map(Some)
        })
    }

    /// What [`save_all`](Learner::save_all) has written.
    pub fn load(folder: &Path, device: Device) -> Result<Learner, TrainError> {
        let recipe = PretrainRecipe::load(&folder.join(RECIPE), &[]).map_err(RankerError::from)?;
        let config = ModelConfig::load(&folder.join(CONFIG)).map_err(RankerError::from)?;
        let tokenizer = ranker::saved_tokenizer(folder)?;
        let mut learner =
            Learner::assemble(recipe, config, tokenizer, device, |_, _, variables| {
                weights::load(variables, &folder.join(WEIGHTS), &[]).map(|_| None)
            })?;
        learner.optimizer.load(&folder.join(OPTIMIZER))?;
        if let Some(average) = &mut learner.average {
            average.load(&folder.join(AVERAGE))?;
        }
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
        let optimizer = groups::optimizer(&variables, &config, &recipe.train)?;
        let average = recipe.train.ema.map(|decay| Average::new(&variables, decay));
        Ok(Learner { recipe, config, tokenizer, variables, loaded, model, optimizer, average })
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
        self.optimizer.save(&folder.join(OPTIMIZER))?;
        if let Some(average) = &self.average {
            average.save(&folder.join(AVERAGE))?;
        }
        Ok(())
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

    /// Puts the average in place of the weights, or the weights back; nothing where there is no average.
    pub fn exchange_average(&mut self) {
        if let Some(average) = &mut self.average {
            average.exchange();
        }
    }

    /// The step after `done` of `total` steps: the update by the mean gradient of the batches, each as heavy as it has
    /// captions.
    pub fn step(
        &mut self,
        batches: Vec<PretrainingBatch>,
        (done, total): (u64, u64),
    ) -> Result<Step, NoStep> {
        self.optimizer.zero_grad();
        let mut step = self.backward(batches, done)?;
        let settings = &self.recipe.train;
        step.grad_norm = self.optimizer.clip_grad_norm(settings.clip);
        if !step.grad_norm.is_finite() {
            return Err(self.not_finite(step.loss, step.grad_norm, None, Vec::new()));
        }
        step.learning_rate = learning_rate(settings, (done, total));
        self.optimizer.step(step.learning_rate);
        if let Some(average) = &mut self.average {
            average.update(done + 1);
        }
        Ok(step)
    }

    /// Adds up the gradients of all batches.
    fn backward(&mut self, batches: Vec<PretrainingBatch>, done: u64) -> Result<Step, NoStep> {
        let settings = &self.recipe.train;
        let captions = batches.iter().map(|batch| batch.rows.len()).sum();
        let mut step = Step { captions, ..Step::default() };
        for (number, batch) in batches.into_iter().enumerate() {
            // Dropout depends on the step alone, whenever the run was begun.
            tch::manual_seed(dropout_seed(settings.seed, done, [number as u64, 0]) as i64);
            let batch = batch.to_device(self.variables.device());
            let weight = batch.rows.len() as f64 / captions as f64;
            let losses = self
                .model
                .losses(&batch.text, &batch.vision, &batch.targets, settings.dropout)
                .map_err(NoStep::Targets)?;
            (&losses.total * weight).backward();
            let loss = losses.total.double_value(&[]);
            if !loss.is_finite() {
                let norm = self.optimizer.clip_grad_norm(f64::INFINITY);
                return Err(self.not_finite(loss, norm, Some(number), without_numbers(&batch)));
            }
            step.loss += loss * weight;
            step.tally.add(&losses, &batch.targets);
        }
        Ok(step)
    }

    /// The losses of a batch without dropout, added to others; and captions of images without finite features if the
    /// loss is not finite.
    pub fn evaluate(
        &self,
        batch: PretrainingBatch,
        tally: &mut Tally,
    ) -> Result<Result<(), NotFinite>, PretrainingError> {
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
                captions: without_numbers(&batch),
            }),
        })
    }

    fn not_finite(
        &self,
        loss: f64,
        grad_norm: f64,
        batch: Option<usize>,
        captions: Vec<usize>,
    ) -> NoStep {
        let parameter = first_not_finite(&self.variables);
        NoStep::NotFinite(NotFinite { loss, grad_norm, parameter, batch, captions })
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
