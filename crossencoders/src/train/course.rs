//! The course of a run: epochs of steps, a validation after each, checkpoints in time.
//!
//! What is learnt is a [`Task`]'s business. Everything a step depends on is a function of the recipe and the step's number,
//! so that a run that goes on from a checkpoint gives the weights of one that was never interrupted, bit for bit.
//!
//! Several [ranks](super::distributed) go through the same story: each learns from its share of a step's rows, and what
//! the story depends on (loss, gradients, scores, whether to stop) is added up and the same on all.

use std::fmt::Debug;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use evaluation::Metrics;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tch::Device;
use tch::nn::VarStore;

use super::distributed::Ranks;
use super::folder::Folder;
use super::log::{Event, Gain, Interval, Step, ValidLog};
use super::step::all_finite;
use super::{TrainError, Training};
use crate::data::{DataError, Loader};
use crate::run::{BEST, LAST, RunError};

const STATE: &str = "state.json";

/// What a run learns, and how well it has.
pub(super) trait Task: Sized {
    /// What one step learns from, as far as it is this rank's.
    type Rows;
    /// What goes through the model at once.
    type Batch;
    /// What steps add up beside their losses.
    type Gain: Gain;
    /// How good the weights are.
    type Score: Clone + Debug + Default + Serialize + DeserializeOwned;

    /// The recipe, as the run's folder keeps it.
    fn recipe(&self) -> String;

    /// The weights it begins with, where those are a file or a run.
    fn init(&self) -> Option<&Path>;

    /// Identifies the data: a run that has begun must not go on with others.
    fn data(&self) -> String;

    /// The same with what a checkpoint's model has learnt.
    fn load(self, checkpoint: &Path, device: Device) -> Result<Self, TrainError>;

    /// What the recipe says of training.
    fn settings(&self) -> &Training;

    /// Whether rows are pairs of a description and one image: to tell those apart is another thing than to rank.
    fn learns_pairs(&self) -> bool {
        false
    }

    /// The same in every epoch.
    fn steps_per_epoch(&self) -> u64;

    /// What the steps of an epoch learn from, but for the first `done`.
    fn epoch(&self, epoch: u64, done: usize) -> Vec<Self::Rows>;

    /// The batches of these steps, one after the other, read in the background.
    fn loader(&self, epoch: u64, steps: &[Self::Rows]) -> Loader<Self::Batch>;

    /// Batches of one step.
    fn batches(rows: &Self::Rows) -> usize;

    /// The step after `done` of `total` steps; on an error the weights are those before it.
    fn step(
        &mut self,
        batches: Vec<Self::Batch>,
        rows: &Self::Rows,
        position: (u64, u64),
    ) -> Result<Step<Self::Gain>, TrainError>;

    /// The score after so many steps; `None` if cancelled.
    fn validate(
        &self,
        step: u64,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(Event<Self::Score>),
    ) -> Result<Option<Self::Score>, TrainError>;

    /// Whether weights with this score are to be preferred.
    fn is_better(score: &Self::Score, best: &Self::Score) -> bool;

    /// The model's parameters.
    fn variables(&self) -> &VarStore;

    /// Puts the average in place of the weights, or the weights back; nothing where there is no average.
    fn exchange_average(&mut self);

    /// Writes the model into a folder that exists.
    fn save(&self, folder: &Path) -> Result<(), TrainError>;

    /// Writes all that a step depends on into a folder that exists.
    fn save_all(&self, folder: &Path) -> Result<(), TrainError>;
}

/// How a call to go on with a run ended.
#[derive(Debug)]
pub enum Outcome<S = Metrics> {
    /// All epochs are done.
    Finished(Summary<S>),
    /// Cancelled; the same recipe goes on from this step.
    Interrupted {
        /// Steps done.
        step: u64,
    },
}

/// A finished run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary<S = Metrics> {
    /// Steps done.
    pub steps: u64,
    /// The best epoch, from 1.
    pub best_epoch: u64,
    /// Its score on what validates: [`Metrics`] of ranking, losses of pre-training.
    pub best: S,
    /// Seconds of training and validation, all sittings together.
    pub seconds: f64,
    /// Whether it ended before the last epoch because validation had got no better for `train.patience` epochs.
    #[serde(default)]
    pub stopped_early: bool,
}

/// What a checkpoint knows beside weights.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(bound = "")]
struct State<S: Default + Serialize + DeserializeOwned, G: Gain> {
    /// Steps done.
    step: u64,
    /// Epochs that are validated.
    validated: u64,
    /// The best epoch and its score.
    best: Option<(u64, S)>,
    /// Since the last logged line.
    interval: Interval<G>,
    /// Length of `metrics.jsonl`.
    logged: u64,
    /// Seconds so far.
    seconds: f64,
    /// What it learns from and validates with, see [`Task::data`].
    #[serde(default)]
    data: Option<String>,
}

/// A run in its folder.
#[derive(Debug)]
pub(super) struct Course<T: Task> {
    pub task: T,
    ranks: Ranks,
    run: Folder,
    state: State<T::Score, T::Gain>,
    /// An error has left the weights in an unknown state.
    failed: bool,
}

impl<T: Task> Course<T> {
    /// Goes on in a folder from its last checkpoint, or begins there with what `fresh` makes. The folder is not touched
    /// unless that succeeds on all ranks.
    pub fn open(
        ranks: &Ranks,
        out: &Path,
        replace: bool,
        device: Device,
        fresh: impl FnOnce() -> Result<T, TrainError>,
    ) -> Result<Course<T>, TrainError> {
        ranks.together(|| {
            let fresh = fresh()?;
            if replace {
                check_init(fresh.init(), out)?;
            }
            let data = fresh.data();
            let mut run = Folder::open(ranks, out, &fresh.recipe(), replace)?;
            let (task, mut state) = match run.last() {
                Some(last) => {
                    (fresh.load(&last, device)?, read_state::<State<T::Score, T::Gain>>(&last)?)
                }
                None => (fresh, State::default()),
            };
            // Checkpoints from before data were identified go on with whatever there is.
            if state.data.as_ref().is_some_and(|then| *then != data) {
                return Err(TrainError::OtherData(out.to_owned()));
            }
            state.data = Some(data);
            ranks.same("checkpoint to go on from", &state.step.to_le_bytes())?;
            run.truncate_log(state.logged)?;
            Ok(Course { task, ranks: ranks.clone(), run, state, failed: false })
        })
    }

    /// Steps done, and all steps.
    pub fn position(&self) -> (u64, u64) {
        (self.state.step, self.task.steps_per_epoch() * self.task.settings().epochs)
    }

    /// Trains to the end, or until cancelled, on whatever rank; then the state is saved first.
    pub fn run(
        &mut self,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(Event<T::Score>),
    ) -> Result<Outcome<T::Score>, TrainError> {
        if self.failed {
            return Err(TrainError::Failed);
        }
        let outcome = self.ranks.clone().together(|| self.go_on(cancelled, observe));
        self.failed = outcome.is_err();
        outcome
    }

    fn go_on(
        &mut self,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(Event<T::Score>),
    ) -> Result<Outcome<T::Score>, TrainError> {
        let (started, before) = (Instant::now(), self.state.seconds);
        let epochs = self.task.settings().epochs;
        loop {
            let epoch = self.state.step / self.task.steps_per_epoch();
            if self.state.validated < epoch {
                let validated = self.validate(cancelled, observe)?;
                self.state.seconds = before + started.elapsed().as_secs_f64();
                if !validated {
                    return self.interrupted();
                }
                self.save_last()?;
            }
            if epoch == epochs || self.out_of_patience() {
                return Ok(Outcome::Finished(self.summary(epoch < epochs)));
            }
            let finished = self.train_epoch(epoch, cancelled, observe)?;
            self.state.seconds = before + started.elapsed().as_secs_f64();
            if !finished {
                return self.interrupted();
            }
        }
    }

    /// Whether the last epochs were all no better than the best.
    fn out_of_patience(&self) -> bool {
        let best = self.state.best.as_ref().map_or(0, |(epoch, _)| *epoch);
        let patience = self.task.settings().patience;
        patience.is_some_and(|patience| self.state.validated - best >= patience)
    }

    fn summary(&self, stopped_early: bool) -> Summary<T::Score> {
        let State { step, seconds, .. } = self.state;
        let (best_epoch, best) = self.state.best.clone().unwrap_or_default();
        Summary { steps: step, best_epoch, best, seconds, stopped_early }
    }

    fn interrupted(&mut self) -> Result<Outcome<T::Score>, TrainError> {
        self.save_last()?;
        Ok(Outcome::Interrupted { step: self.state.step })
    }

    /// Trains what is left of an epoch; false if cancelled.
    fn train_epoch(
        &mut self,
        epoch: u64,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(Event<T::Score>),
    ) -> Result<bool, TrainError> {
        let done = (self.state.step % self.task.steps_per_epoch()) as usize;
        let steps = self.task.epoch(epoch, done);
        let mut loader = self.task.loader(epoch, &steps);
        let mut started = Instant::now();
        for rows in &steps {
            if self.ranks.any(cancelled.load(Ordering::Relaxed))? {
                return Ok(false);
            }
            let batches =
                (0..T::batches(rows)).map(|_| next(&mut loader)).collect::<Result<_, _>>()?;
            let position = self.position();
            let step = self.task.step(batches, rows, position)?;
            self.state.step += 1;
            self.state.interval.add(&step, started.elapsed().as_secs_f64());
            started = Instant::now();
            self.after_step(&step, epoch + 1, observe)?;
        }
        Ok(true)
    }

    /// Tells, logs and saves when it is time.
    fn after_step(
        &mut self,
        step: &Step<T::Gain>,
        epoch: u64,
        observe: &mut dyn FnMut(Event<T::Score>),
    ) -> Result<(), TrainError> {
        let (at, steps) = self.position();
        let interval = &self.state.interval;
        observe(Event::Step {
            step: at,
            steps,
            epoch,
            loss: step.loss,
            accuracy: interval.accuracy(),
            rows_per_second: interval.rows_per_second(),
        });
        let Training { log_steps, checkpoint_steps, .. } = *self.task.settings();
        let ends_epoch = at.is_multiple_of(self.task.steps_per_epoch());
        if at.is_multiple_of(log_steps) || ends_epoch {
            self.run.log(&interval.line(at, epoch, step, self.task.learns_pairs()))?;
            self.state.interval = Interval::default();
        }
        if checkpoint_steps > 0 && at.is_multiple_of(checkpoint_steps) && !ends_epoch {
            self.save_last()?;
        }
        Ok(())
    }

    /// Scores the weights and keeps the best; false if cancelled. Where there is an average of the weights, it is what is
    /// scored and kept.
    fn validate(
        &mut self,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(Event<T::Score>),
    ) -> Result<bool, TrainError> {
        self.check_weights()?;
        self.task.exchange_average();
        let validated = self.validate_weights(cancelled, observe);
        self.task.exchange_average();
        validated
    }

    fn validate_weights(
        &mut self,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(Event<T::Score>),
    ) -> Result<bool, TrainError> {
        let step = self.state.step;
        let Some(score) = self.task.validate(step, cancelled, observe)? else { return Ok(false) };
        self.state.validated += 1;
        let epoch = self.state.validated;
        let improved = self.state.best.as_ref().is_none_or(|(_, best)| T::is_better(&score, best));
        let split = "valid".to_owned();
        self.run.log(&ValidLog { step, epoch, split, metrics: score.clone() })?;
        observe(Event::Validated(epoch, &score, improved));
        if improved {
            self.state.best = Some((epoch, score));
            self.run.save(BEST, |folder| self.task.save(folder))?;
        }
        Ok(true)
    }

    /// Fails if a step has made weights that are no numbers: they must not replace a checkpoint.
    fn check_weights(&self) -> Result<(), TrainError> {
        let variables = self.task.variables().variables();
        let broken = variables.into_iter().filter(|(_, variable)| !all_finite(variable));
        match broken.map(|(name, _)| name).min() {
            Some(parameter) => {
                Err(TrainError::NotFiniteWeights { step: self.state.step, parameter })
            }
            None => Ok(()),
        }
    }

    /// Replaces the last checkpoint.
    fn save_last(&mut self) -> Result<(), TrainError> {
        self.check_weights()?;
        self.state.logged = self.run.logged()?;
        let (task, state) = (&self.task, &self.state);
        self.run.save(LAST, |folder| {
            task.save_all(folder)?;
            let path = folder.join(STATE);
            let state = serde_json::to_string_pretty(state).unwrap_or_default();
            std::fs::write(&path, state)
                .map_err(|source| TrainError::Run(RunError::Io { path, source }))
        })
    }
}

/// The next batch.
pub(super) fn next<B>(loader: &mut Loader<B>) -> Result<B, TrainError> {
    let ended = || Err(DataError::Reader("it ended before the epoch".into()));
    Ok(loader.next().unwrap_or_else(ended)?)
}

/// Refuses to replace the run that holds the weights to begin with: they would be removed first.
fn check_init(init: Option<&Path>, out: &Path) -> Result<(), TrainError> {
    let real = |path: &Path| path.canonicalize().ok();
    match (init.and_then(real), real(out)) {
        (Some(init), Some(out)) if init.starts_with(&out) => Err(TrainError::OwnInit(out)),
        _ => Ok(()),
    }
}

fn read_state<S: DeserializeOwned>(folder: &Path) -> Result<S, TrainError> {
    let path = folder.join(STATE);
    let text = std::fs::read_to_string(&path)
        .map_err(|source| RunError::Io { path: path.clone(), source })?;
    serde_json::from_str(&text)
        .map_err(|error| TrainError::Checkpoint { path, reason: error.to_string() })
}
