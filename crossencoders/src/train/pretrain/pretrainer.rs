//! Pre-training: what a run learns, and how well it predicts what is hidden.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tch::Device;
use tch::nn::VarStore;
use xxhash_rust::xxh3::Xxh3;

use super::PretrainRecipe;
use super::learner::Learner;
use super::losses::{PretrainLosses, Tally};
use super::source::Source;
use crate::data::{Captions, Loader, PretrainingBatch};
use crate::failure::catching;
use crate::ranker;
use crate::train::course::{self, Course, Outcome, Summary, Task};
use crate::train::distributed::Ranks;
use crate::train::log::{Event, Step};
use crate::train::step::{NoStep, NotFinite};
use crate::train::{Cause, TrainError, Training};
use crate::weights::LoadReport;

/// What is hidden in validation is the same in every epoch of every run, so that losses can be compared.
const VALID: (u64, u64) = (0, 0);

/// What is said while pre-training goes on.
pub type PretrainEvent<'a> = Event<'a, PretrainLosses>;

/// How a call of [`Pretrainer::run`] ended.
pub type PretrainOutcome = Outcome<PretrainLosses>;

/// A finished run of pre-training.
pub type PretrainSummary = Summary<PretrainLosses>;

/// A run of pre-training.
#[derive(Debug)]
pub struct Pretrainer(Course<Pretraining>);

impl Pretrainer {
    /// Prepares a run in a folder: a new one, or, if the folder holds an unfinished run of the same recipe, that one.
    ///
    /// # Errors
    /// [`TrainError`]; the folder is not touched unless recipe, weights and data are sound.
    pub fn open(
        recipe: PretrainRecipe,
        out: &Path,
        replace: bool,
        device: Device,
    ) -> Result<Pretrainer, TrainError> {
        let fresh = || Pretraining::new(recipe, device);
        Course::open(&Ranks::single(), out, replace, device, fresh).map(Pretrainer)
    }

    /// The recipe.
    pub fn recipe(&self) -> &PretrainRecipe {
        &self.0.task.learner.recipe
    }

    /// The model's parameters by VOLTA's names.
    pub fn variables(&self) -> &VarStore {
        &self.0.task.learner.variables
    }

    /// What loading the initial weights has done; `None` if they are random, or those of a checkpoint.
    pub fn loaded(&self) -> Option<&LoadReport> {
        self.0.task.learner.loaded.as_ref()
    }

    /// The captions: for training, for validation.
    pub fn captions(&self) -> [&Captions; 2] {
        [&self.0.task.train.captions, &self.0.task.valid.captions]
    }

    /// Steps done, and all steps.
    pub fn position(&self) -> (u64, u64) {
        self.0.position()
    }

    /// Trains to the end, or until cancelled; then the state is saved first.
    ///
    /// # Errors
    /// [`TrainError`]; checkpoints stay as they were before.
    pub fn run(
        &mut self,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(PretrainEvent),
    ) -> Result<PretrainOutcome, TrainError> {
        self.0.run(cancelled, observe)
    }
}

/// Predicting what is hidden of captions and images.
#[derive(Debug)]
struct Pretraining {
    learner: Learner,
    train: Source,
    valid: Source,
}

impl Pretraining {
    /// A model that has learnt nothing yet, with its data.
    fn new(recipe: PretrainRecipe, device: Device) -> Result<Pretraining, TrainError> {
        let learner = Learner::create(recipe, device)?;
        let data = &learner.recipe.data;
        let store = ranker::open_store(None, data, &learner.config)?;
        let drawing = learner.drawing(learner.recipe.train.seed)?;
        let train = Source::open(&data.train, &store, &learner, drawing)?;
        let valid = Source::open(&data.valid, &store, &learner, learner.drawing(VALID.0)?)?;
        try_one(&learner, &train)?;
        try_one(&learner, &valid)?;
        Ok(Pretraining { learner, train, valid })
    }

    fn diverged(&self, what: NotFinite<usize>, rows: &[Vec<usize>], step: u64) -> TrainError {
        let learnt_from = match what.batch {
            Some(number) => &rows[number..=number],
            None => rows,
        };
        let rows = self.train.ids(learnt_from.iter().flatten());
        let cause = Cause::of(self.train.images(&what.images));
        let NotFinite { loss, grad_norm, parameter, .. } = what;
        TrainError::Diverged { step, loss, grad_norm, parameter, rows, cause }
    }

    /// Adds the losses of captions for validation.
    fn add_losses(
        &self,
        batch: PretrainingBatch,
        rows: &[usize],
        step: u64,
        tally: &mut Tally,
    ) -> Result<(), TrainError> {
        let shapes = batch.shapes();
        let seen = catching(|| self.learner.evaluate(batch, tally)).map_err(|error| {
            TrainError::thrown_in(error, step, shapes, || advice(&self.learner.recipe))
        })??;
        seen.map_err(|what| TrainError::NotFinite {
            step,
            loss: what.loss,
            rows: self.valid.ids(rows),
            cause: Cause::of(self.valid.images(&what.images)),
        })
    }
}

impl Task for Pretraining {
    type Rows = Vec<Vec<usize>>;
    type Batch = PretrainingBatch;
    type Gain = Tally;
    type Score = PretrainLosses;

    fn recipe(&self) -> String {
        self.learner.recipe.to_toml()
    }

    fn init(&self) -> Option<&Path> {
        self.learner.recipe.init.as_deref().map(Path::new)
    }

    fn data(&self) -> String {
        let mut hash = Xxh3::new();
        [&self.train, &self.valid].iter().for_each(|source| source.identify(&mut hash));
        format!("{:016x}", hash.digest())
    }

    fn load(self, checkpoint: &Path, device: Device) -> Result<Pretraining, TrainError> {
        Ok(Pretraining { learner: Learner::load(checkpoint, device)?, ..self })
    }

    fn settings(&self) -> &Training {
        &self.learner.recipe.train
    }

    fn steps_per_epoch(&self) -> u64 {
        self.train.steps_per_epoch(self.settings())
    }

    fn epoch(&self, epoch: u64, done: usize) -> Vec<Self::Rows> {
        self.train.epoch(self.settings(), epoch).split_off(done)
    }

    fn loader(&self, epoch: u64, steps: &[Self::Rows]) -> Loader<PretrainingBatch> {
        self.train.loader(epoch, steps.concat())
    }

    fn batches(rows: &Self::Rows) -> usize {
        rows.len()
    }

    fn step(
        &mut self,
        batches: Vec<PretrainingBatch>,
        rows: &Self::Rows,
        position: (u64, u64),
    ) -> Result<Step<Tally>, TrainError> {
        let at = position.0 + 1;
        let shapes = batches.iter().map(PretrainingBatch::shapes).collect::<Vec<_>>().join("; ");
        let learner = &mut self.learner;
        catching(|| learner.step(batches, position))
            .map_err(|error| {
                TrainError::thrown_in(error, at, shapes, || advice(&self.learner.recipe))
            })?
            .map_err(|why| match why {
                NoStep::NotFinite(what) => self.diverged(what, rows, at),
                NoStep::Error(error) => error,
            })
    }

    fn validate(
        &self,
        step: u64,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(PretrainEvent),
    ) -> Result<Option<PretrainLosses>, TrainError> {
        let batches = self.valid.in_order(self.settings().batch_size);
        let total = self.valid.captions.examples.len();
        let mut loader = self.valid.loader(VALID.1, batches.clone());
        let (mut tally, mut done) = (Tally::default(), 0);
        for rows in &batches {
            if cancelled.load(Ordering::Relaxed) {
                return Ok(None);
            }
            self.add_losses(course::next(&mut loader)?, rows, step, &mut tally)?;
            done += rows.len();
            observe(Event::Validating(done, total));
        }
        Ok(Some(tally.weighted(self.learner.model.weights())))
    }

    fn is_better(score: &PretrainLosses, best: &PretrainLosses) -> bool {
        score.loss < best.loss
    }

    fn variables(&self) -> &VarStore {
        &self.learner.variables
    }

    fn exchange_average(&mut self) {
        self.learner.optimisation.exchange_average();
    }

    fn save(&self, folder: &Path) -> Result<(), TrainError> {
        self.learner.save(folder)
    }

    fn save_all(&self, folder: &Path) -> Result<(), TrainError> {
        self.learner.save_all(folder)
    }
}

/// Finds the losses of one caption: what the store lacks is better said before a run is begun. Features that are not
/// finite are told when training or validation comes to them, with all captions of the batch.
fn try_one(learner: &Learner, source: &Source) -> Result<(), TrainError> {
    let batch = source.read(VALID.1, &[0])?;
    let shapes = batch.shapes();
    let tried = catching(|| learner.evaluate(batch, &mut Tally::default()).map(drop));
    tried
        .map_err(|error| TrainError::thrown_in(error, 1, shapes, || advice(&learner.recipe)))??;
    Ok(())
}

/// What to lower where memory has run out.
fn advice(recipe: &PretrainRecipe) -> String {
    let Training { batch_size, accumulate, .. } = recipe.train;
    let (regions, tokens) = (recipe.data.max_regions, recipe.data.max_tokens);
    format!(
        "lower train.batch_size (now {batch_size}) and raise train.accumulate (now {accumulate}), or lower \
         data.max_regions (now {regions}) or data.max_tokens (now {tokens})"
    )
}
