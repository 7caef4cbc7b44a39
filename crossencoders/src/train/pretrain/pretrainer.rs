//! One run of pre-training: steps, validations, checkpoints.
//!
//! Everything a step depends on is a function of the recipe and the step's number: order, what is hidden, dropout,
//! learning rate. A run that goes on from a checkpoint gives the weights of one that was never interrupted, bit for bit.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tch::Device;

use super::PretrainRecipe;
use super::learner::{Learner, NoStep, NotFinite};
use super::log::{Interval, PretrainEvent, PretrainLosses, PretrainValidLog, Step, Tally};
use super::source::Source;
use crate::data::{Captions, DataError, Loader, PretrainingBatch};
use crate::failure::catching;
use crate::ranker;
use crate::run::{BEST, LAST, Run, RunError};
use crate::train::{Cause, TrainError, Training};
use crate::weights::LoadReport;

/// What is hidden in validation is the same in every epoch of every run, so that losses can be compared.
const VALID: (u64, u64) = (0, 0);
const STATE: &str = "state.json";

/// How a call of [`Pretrainer::run`] ended.
#[derive(Debug)]
pub enum PretrainOutcome {
    /// All epochs are done.
    Finished(PretrainSummary),
    /// Cancelled; the same recipe goes on from this step.
    Interrupted {
        /// Steps done.
        step: u64,
    },
}

/// A finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PretrainSummary {
    /// Steps done.
    pub steps: u64,
    /// The best epoch, from 1.
    pub best_epoch: u64,
    /// Its losses on the captions for validation.
    pub best: PretrainLosses,
    /// Seconds of training and validation, all sittings together.
    pub seconds: f64,
    /// Whether it ended before the last epoch because validation had got no better for `train.patience` epochs.
    pub stopped_early: bool,
}

/// What a checkpoint knows beside weights.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    /// Steps done.
    step: u64,
    /// Epochs that are validated.
    validated: u64,
    /// The best epoch and its losses.
    best: Option<(u64, PretrainLosses)>,
    /// Since the last logged line.
    interval: Interval,
    /// Length of `metrics.jsonl`.
    logged: u64,
    /// Seconds so far.
    seconds: f64,
}

/// A run of pre-training.
#[derive(Debug)]
pub struct Pretrainer {
    learner: Learner,
    train: Source,
    valid: Source,
    run: Run,
    state: State,
    /// An error has left the weights in an unknown state.
    failed: bool,
}

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
        let fresh = Learner::create(recipe, device)?;
        let data = &fresh.recipe.data;
        let store = ranker::open_store(&data.features, &fresh.config)?;
        let drawing = fresh.drawing(fresh.recipe.train.seed)?;
        let train = Source::open(&data.train, &store, &fresh, drawing)?;
        let valid = Source::open(&data.valid, &store, &fresh, fresh.drawing(VALID.0)?)?;
        try_one(&fresh, &train)?;
        try_one(&fresh, &valid)?;
        let mut run = Run::open(out, &fresh.recipe.to_toml(), replace)?;
        let (learner, state) = match run.last() {
            Some(last) => (Learner::load(&last, device)?, read_state(&last)?),
            None => (fresh, State::default()),
        };
        run.truncate_log(state.logged)?;
        Ok(Pretrainer { learner, train, valid, run, state, failed: false })
    }

    /// The recipe.
    pub fn recipe(&self) -> &PretrainRecipe {
        &self.learner.recipe
    }

    /// The model's parameters by VOLTA's names.
    pub fn variables(&self) -> &tch::nn::VarStore {
        &self.learner.variables
    }

    /// What loading the initial weights has done; `None` if they are random, or those of a checkpoint.
    pub fn loaded(&self) -> Option<&LoadReport> {
        self.learner.loaded.as_ref()
    }

    /// The captions: for training, for validation.
    pub fn captions(&self) -> [&Captions; 2] {
        [&self.train.captions, &self.valid.captions]
    }

    /// Steps done, and all steps.
    pub fn position(&self) -> (u64, u64) {
        (self.state.step, self.steps_per_epoch() * self.settings().epochs)
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
        if self.failed {
            return Err(TrainError::Failed);
        }
        let outcome = self.go_on(cancelled, observe);
        self.failed = outcome.is_err();
        outcome
    }

    fn go_on(
        &mut self,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(PretrainEvent),
    ) -> Result<PretrainOutcome, TrainError> {
        let (started, before) = (Instant::now(), self.state.seconds);
        let epochs = self.settings().epochs;
        loop {
            let epoch = self.state.step / self.steps_per_epoch();
            if self.state.validated < epoch {
                let validated = self.validate(cancelled, observe)?;
                self.state.seconds = before + started.elapsed().as_secs_f64();
                if !validated {
                    return self.interrupted();
                }
                self.save_last()?;
            }
            if epoch == epochs || self.out_of_patience() {
                return Ok(PretrainOutcome::Finished(self.summary(epoch < epochs)));
            }
            let finished = self.train_epoch(epoch, cancelled, observe)?;
            self.state.seconds = before + started.elapsed().as_secs_f64();
            if !finished {
                return self.interrupted();
            }
        }
    }

    fn settings(&self) -> &Training {
        &self.learner.recipe.train
    }

    fn steps_per_epoch(&self) -> u64 {
        self.train.steps_per_epoch(self.settings())
    }

    /// Whether the last epochs were all no better than the best.
    fn out_of_patience(&self) -> bool {
        let best = self.state.best.as_ref().map_or(0, |(epoch, _)| *epoch);
        self.settings().patience.is_some_and(|patience| self.state.validated - best >= patience)
    }

    fn summary(&self, stopped_early: bool) -> PretrainSummary {
        let State { step, seconds, .. } = self.state;
        let (best_epoch, best) = self.state.best.clone().unwrap_or_default();
        PretrainSummary { steps: step, best_epoch, best, seconds, stopped_early }
    }

    fn interrupted(&mut self) -> Result<PretrainOutcome, TrainError> {
        self.save_last()?;
        Ok(PretrainOutcome::Interrupted { step: self.state.step })
    }

    /// Trains what is left of an epoch; false if cancelled.
    fn train_epoch(
        &mut self,
        epoch: u64,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(PretrainEvent),
    ) -> Result<bool, TrainError> {
        let done = (self.state.step % self.steps_per_epoch()) as usize;
        let steps = self.train.epoch(self.settings(), epoch).split_off(done);
        let mut loader = self.train.loader(epoch, steps.concat());
        let mut started = Instant::now();
        for rows in &steps {
            if cancelled.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let batches =
                rows.iter().map(|_| read(&mut loader)).collect::<Result<Vec<_>, TrainError>>()?;
            let step = self.step(batches, rows)?;
            self.state.step += 1;
            self.state.interval.add(&step, started.elapsed().as_secs_f64());
            started = Instant::now();
            self.after_step(&step, epoch + 1, observe)?;
        }
        Ok(true)
    }

    /// One step; what can go wrong in it is told with what it learnt from.
    fn step(
        &mut self,
        batches: Vec<PretrainingBatch>,
        rows: &[Vec<usize>],
    ) -> Result<Step, TrainError> {
        let position = self.position();
        let shapes = batches.iter().map(PretrainingBatch::shapes).collect::<Vec<_>>().join("; ");
        let learner = &mut self.learner;
        catching(|| learner.step(batches, position))
            .map_err(|error| {
                TrainError::thrown_in(error, position.0 + 1, shapes, || advice(self.recipe()))
            })?
            .map_err(|why| match why {
                NoStep::Targets(error) => error.into(),
                NoStep::NotFinite(what) => self.diverged(what, rows),
            })
    }

    fn diverged(&self, what: NotFinite, rows: &[Vec<usize>]) -> TrainError {
        let learnt_from = match what.batch {
            Some(number) => &rows[number..=number],
            None => rows,
        };
        TrainError::Diverged {
            step: self.state.step + 1,
            loss: what.loss,
            grad_norm: what.grad_norm,
            parameter: what.parameter,
            rows: self.train.ids(learnt_from.iter().flatten()),
            cause: cause(&self.train, &what.captions),
        }
    }

    /// Tells, logs and saves when it is time.
    fn after_step(
        &mut self,
        step: &Step,
        epoch: u64,
        observe: &mut dyn FnMut(PretrainEvent),
    ) -> Result<(), TrainError> {
        let (at, steps) = self.position();
        let interval = &self.state.interval;
        let captions_per_second = interval.captions_per_second();
        observe(PretrainEvent::Step {
            step: at,
            steps,
            epoch,
            loss: step.loss,
            captions_per_second,
        });
        let settings = self.settings();
        let (log_steps, checkpoint_steps) = (settings.log_steps, settings.checkpoint_steps);
        let ends_epoch = at.is_multiple_of(self.steps_per_epoch());
        if at.is_multiple_of(log_steps) || ends_epoch {
            self.run.log(&self.state.interval.line(at, epoch, step))?;
            self.state.interval = Interval::default();
        }
        if checkpoint_steps > 0 && at.is_multiple_of(checkpoint_steps) && !ends_epoch {
            self.save_last()?;
        }
        Ok(())
    }

    /// Finds the losses of the captions for validation and keeps the best weights; false if cancelled. Where there is an
    /// average of the weights, it is what is validated and kept.
    fn validate(
        &mut self,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(PretrainEvent),
    ) -> Result<bool, TrainError> {
        self.learner.exchange_average();
        let validated = self.validate_weights(cancelled, observe);
        self.learner.exchange_average();
        validated
    }

    fn validate_weights(
        &mut self,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(PretrainEvent),
    ) -> Result<bool, TrainError> {
        let Some(losses) = self.valid_losses(cancelled)? else { return Ok(false) };
        self.state.validated += 1;
        let epoch = self.state.validated;
        let improved = self.state.best.as_ref().is_none_or(|(_, best)| losses.loss < best.loss);
        let (step, split) = (self.state.step, "valid".to_owned());
        self.run.log(&PretrainValidLog { step, epoch, split, losses: losses.clone() })?;
        observe(PretrainEvent::Validated(epoch, &losses, improved));
        if improved {
            self.state.best = Some((epoch, losses));
            self.run.save(BEST, |folder| self.learner.save(folder))?;
        }
        Ok(true)
    }

    /// Mean losses of the captions for validation; `None` if cancelled.
    fn valid_losses(&self, cancelled: &AtomicBool) -> Result<Option<PretrainLosses>, TrainError> {
        let batches = self.valid.in_order(self.settings().batch_size);
        let mut loader = self.valid.loader(VALID.1, batches.clone());
        let mut tally = Tally::default();
        for rows in &batches {
            if cancelled.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let batch = read(&mut loader)?;
            let (step, shapes) = (self.state.step, batch.shapes());
            let seen =
                catching(|| self.learner.evaluate(batch, &mut tally)).map_err(|error| {
                    TrainError::thrown_in(error, step, shapes, || advice(self.recipe()))
                })??;
            seen.map_err(|what| TrainError::NotFinite {
                step,
                loss: what.loss,
                rows: self.valid.ids(rows),
                cause: cause(&self.valid, &what.captions),
            })?;
        }
        Ok(Some(tally.losses(self.learner.model.weights())))
    }

    fn save_last(&mut self) -> Result<(), TrainError> {
        self.state.logged = self.run.logged()?;
        let (learner, state) = (&self.learner, &self.state);
        self.run.save(LAST, |folder| {
            learner.save_all(folder)?;
            let path = folder.join(STATE);
            let state = serde_json::to_string_pretty(state).unwrap_or_default();
            std::fs::write(&path, state)
                .map_err(|source| TrainError::Run(RunError::Io { path, source }))
        })
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

/// The next batch.
fn read(loader: &mut Loader<PretrainingBatch>) -> Result<PretrainingBatch, TrainError> {
    let ended = || Err(DataError::Reader("it ended before the epoch".into()));
    Ok(loader.next().unwrap_or_else(ended)?)
}

fn read_state(folder: &Path) -> Result<State, TrainError> {
    let path = folder.join(STATE);
    let text = std::fs::read_to_string(&path)
        .map_err(|source| RunError::Io { path: path.clone(), source })?;
    serde_json::from_str(&text)
        .map_err(|error| TrainError::Checkpoint { path, reason: error.to_string() })
}

fn cause(source: &Source, captions: &[usize]) -> Cause {
    if captions.is_empty() {
        return Cause::Weights;
    }
    let image = |&caption: &usize| source.captions.examples[caption].image.clone();
    Cause::Features(captions.iter().map(image).collect())
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
