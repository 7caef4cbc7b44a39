//! One training run: steps, evaluations, checkpoints.
//!
//! Everything a step depends on is a function of the recipe and the step's number: order, dropout, learning rate. A run
//! that goes on from a checkpoint gives the weights of one that was never interrupted, bit for bit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use feature_store::FeatureStore;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{AdamW, Recipe, Variant, contrastive, non_contrastive, warmup_linear};
use crate::data::{Batch, DataError, ImageSets, Item, Labels, Loader, shuffled};
use crate::eval::{self, EvalError, Metrics};
use crate::ranker::{Ranker, RankerError};
use crate::run::{BEST, LAST, Run, RunError};
use crate::weights::WeightsError;

const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";

/// Why training stops.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The model cannot be made or saved.
    #[error(transparent)]
    Ranker(#[from] RankerError),
    /// The optimiser's state.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The run's folder.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The validation split cannot be ranked.
    #[error("validation: {0}")]
    Eval(#[from] EvalError),
    /// A recipe without anything to train.
    #[error("the variant zero_shot is not trained: give the recipe to `eval` or `predict`")]
    ZeroShot,
    /// A split to train on or to validate with has no answers.
    #[error("{0} is not labelled")]
    Unlabelled(PathBuf),
    /// The loss is no number any more.
    #[error(
        "the loss at step {step} is {loss}: try a lower learning rate; the last checkpoint is as it was"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// The loss.
        loss: f64,
    },
    /// A checkpoint that cannot be gone on from.
    #[error("{path}: {reason}; --force begins anew")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl From<DataError> for TrainError {
    fn from(error: DataError) -> Self {
        TrainError::Ranker(error.into())
    }
}

/// What is said while training goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step is done, of so many.
    Step {
        /// Steps done.
        step: u64,
        /// All steps.
        steps: u64,
        /// Epoch, from 1.
        epoch: u64,
        /// Loss of this step.
        loss: f64,
        /// Part of the rows seen since the last logged step that were right.
        accuracy: f64,
        /// Rows (sets or pairs) per second since then.
        rows_per_second: f64,
    },
    /// So many descriptions of the validation split are ranked, of so many.
    Evaluating(usize, usize),
    /// An epoch's metrics, and whether they are the best so far.
    Evaluated(u64, &'a Metrics, bool),
}

/// A logged line of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepLog {
    /// Steps done.
    pub step: u64,
    /// Epoch, from 1.
    pub epoch: u64,
    /// Mean loss since the last line.
    pub loss: f64,
    /// Part of the rows (sets or pairs) that were right.
    pub accuracy: f64,
    /// Of the last step.
    pub learning_rate: f64,
    /// Norm of the last step's gradients before clipping.
    pub grad_norm: f64,
    /// Rows per second since the last line.
    pub rows_per_second: f64,
}

/// How a call of [`Trainer::run`] ended.
#[derive(Debug)]
pub enum Outcome {
    /// All epochs are done.
    Finished(Summary),
    /// Cancelled; the same recipe goes on from this step.
    Interrupted {
        /// Steps done.
        step: u64,
    },
}

/// A finished run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Steps done.
    pub steps: u64,
    /// The best epoch, from 1.
    pub best_epoch: u64,
    /// Its metrics on the validation split.
    pub best: Metrics,
    /// Seconds of training and validation, all sittings together.
    pub seconds: f64,
}

/// What a checkpoint knows beside weights.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    /// Steps done.
    step: u64,
    /// Epochs that are validated.
    evaluated: u64,
    /// The best epoch and its metrics.
    best: Option<(u64, Metrics)>,
    /// Since the last logged line.
    interval: Interval,
    /// Length of `metrics.jsonl`.
    logged: u64,
    /// Seconds so far.
    seconds: f64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Interval {
    steps: u64,
    loss: f64,
    rows: usize,
    right: usize,
    seconds: f64,
}

/// What one step gave.
struct Step {
    loss: f64,
    rows: usize,
    right: usize,
    grad_norm: f64,
    learning_rate: f64,
}

/// A training run.
#[derive(Debug)]
pub struct Trainer {
    ranker: Ranker,
    optimizer: AdamW,
    store: FeatureStore,
    train: Arc<ImageSets>,
    valid: Arc<ImageSets>,
    run: Run,
    state: State,
    steps_per_epoch: u64,
}

impl Trainer {
    /// Prepares a run in a folder: a new one, or, if the folder holds an unfinished run of the same recipe, that one.
    ///
    /// # Errors
    /// [`TrainError`]; the folder is not touched unless recipe, weights and data are sound.
    pub fn open(
        recipe: Recipe,
        out: &Path,
        replace: bool,
        device: Device,
    ) -> Result<Trainer, TrainError> {
        if recipe.variant == Variant::ZeroShot {
            return Err(TrainError::ZeroShot);
        }
        let mut ranker = Ranker::create(recipe, device)?;
        let store = ranker.open_store(None)?;
        let train = labelled(&ranker, &ranker.recipe.data.train, &store)?;
        let valid = labelled(&ranker, &ranker.recipe.data.valid, &store)?;
        let mut run = Run::open(out, &ranker.recipe.to_toml(), replace)?;
        let mut state = State::default();
        let mut optimizer = AdamW::new(&ranker.variables, ranker.recipe.optimizer());
        if let Some(last) = run.last() {
            state = read_state(&last)?;
            ranker = Ranker::load_checkpoint(&last, device)?;
            optimizer = AdamW::new(&ranker.variables, ranker.recipe.optimizer());
            optimizer.load(&last.join(OPTIMIZER))?;
        }
        run.truncate_log(state.logged)?;
        let steps_per_epoch = {
            let rows = rows(&ranker.recipe, &train).len();
            let settings = &ranker.recipe.train;
            rows.div_ceil(settings.batch_size).div_ceil(settings.accumulate) as u64
        };
        Ok(Trainer { ranker, optimizer, store, train, valid, run, state, steps_per_epoch })
    }

    /// The model.
    pub fn ranker(&self) -> &Ranker {
        &self.ranker
    }

    /// The splits: for training, for validation.
    pub fn splits(&self) -> [&ImageSets; 2] {
        [&self.train, &self.valid]
    }

    /// Steps done, and all steps.
    pub fn position(&self) -> (u64, u64) {
        (self.state.step, self.total_steps())
    }

    /// Trains to the end, or until cancelled; then the state is saved first.
    ///
    /// # Errors
    /// [`TrainError`]; checkpoints stay as they were before.
    pub fn run(
        &mut self,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Outcome, TrainError> {
        let (started, before) = (Instant::now(), self.state.seconds);
        let epochs = self.ranker.recipe.train.epochs;
        loop {
            let epoch = self.state.step / self.steps_per_epoch;
            if self.state.evaluated < epoch {
                let improved = self.validate(cancelled, observe)?;
                self.state.seconds = before + started.elapsed().as_secs_f64();
                match improved {
                    None => return self.interrupted(),
                    Some(true) => self
                        .run
                        .save(BEST, |folder| self.ranker.save(folder).map_err(TrainError::from))?,
                    Some(false) => {}
                }
                self.save_last()?;
            }
            if epoch == epochs {
                break;
            }
            let finished = self.train_epoch(epoch, cancelled, observe)?;
            self.state.seconds = before + started.elapsed().as_secs_f64();
            if !finished {
                return self.interrupted();
            }
        }
        let (best_epoch, best) = self.state.best.unwrap_or_default();
        let (steps, seconds) = (self.state.step, self.state.seconds);
        Ok(Outcome::Finished(Summary { steps, best_epoch, best, seconds }))
    }

    fn interrupted(&mut self) -> Result<Outcome, TrainError> {
        self.save_last()?;
        Ok(Outcome::Interrupted { step: self.state.step })
    }

    /// Trains what is left of an epoch; false if cancelled.
    fn train_epoch(
        &mut self,
        epoch: u64,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(Event),
    ) -> Result<bool, TrainError> {
        let mut loader = self.loader(epoch);
        let end = (epoch + 1) * self.steps_per_epoch;
        let mut started = Instant::now();
        while self.state.step < end {
            if cancelled.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let count = self.ranker.recipe.train.accumulate;
            let batches = loader.by_ref().take(count).collect::<Result<Vec<Batch>, DataError>>()?;
            let step = self.step(batches)?;
            self.state.step += 1;
            let interval = &mut self.state.interval;
            interval.add(&step, started.elapsed().as_secs_f64());
            started = Instant::now();
            observe(Event::Step {
                step: self.state.step,
                steps: self.total_steps(),
                epoch: epoch + 1,
                loss: step.loss,
                accuracy: interval_accuracy(&self.state.interval),
                rows_per_second: self.state.interval.rows_per_second(),
            });
            self.after_step(&step, epoch, end)?;
        }
        Ok(true)
    }

    /// Logs and saves when it is time.
    fn after_step(&mut self, step: &Step, epoch: u64, end: u64) -> Result<(), TrainError> {
        let (log_steps, checkpoint_steps) =
            (self.ranker.recipe.train.log_steps, self.ranker.recipe.train.checkpoint_steps);
        let at = self.state.step;
        if at.is_multiple_of(log_steps) || at == end {
            let interval = std::mem::take(&mut self.state.interval);
            self.run.log(&StepLog {
                step: at,
                epoch: epoch + 1,
                loss: interval.loss / interval.steps.max(1) as f64,
                accuracy: interval_accuracy(&interval),
                learning_rate: step.learning_rate,
                grad_norm: step.grad_norm,
                rows_per_second: interval.rows_per_second(),
            })?;
        }
        if checkpoint_steps > 0 && at.is_multiple_of(checkpoint_steps) && at != end {
            self.save_last()?;
        }
        Ok(())
    }

    /// Forward, backward, update.
    fn step(&mut self, batches: Vec<Batch>) -> Result<Step, TrainError> {
        let (recipe, at) = (&self.ranker.recipe, self.state.step);
        let settings = &recipe.train;
        self.optimizer.zero_grad();
        let mut step = Step { loss: 0.0, rows: 0, right: 0, grad_norm: 0.0, learning_rate: 0.0 };
        let count = batches.len() as f64;
        for (number, batch) in batches.into_iter().enumerate() {
            // Dropout depends on the step alone, whenever the run was begun.
            tch::manual_seed(dropout_seed(settings.seed, at, number as u64));
            let batch = batch.to_device(self.ranker.variables.device());
            let scores = self.ranker.scores(&batch, true);
            let loss = loss(&scores, &batch.labels) / count;
            step.loss += loss.double_value(&[]);
            if !step.loss.is_finite() {
                return Err(TrainError::Diverged { step: at + 1, loss: step.loss });
            }
            loss.backward();
            step.right += right(&scores, &batch.labels);
            step.rows += batch.items.len();
        }
        step.grad_norm = self.optimizer.clip_grad_norm(settings.clip);
        let total = self.total_steps() as f64;
        step.learning_rate =
            settings.learning_rate * warmup_linear(at, settings.warmup * total, total);
        if !step.grad_norm.is_finite() {
            return Err(TrainError::Diverged { step: at + 1, loss: f64::NAN });
        }
        self.optimizer.step(step.learning_rate);
        Ok(step)
    }

    /// Ranks the validation split; whether it is better than ever, or `None` if cancelled.
    fn validate(
        &mut self,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Option<bool>, TrainError> {
        let total = self.valid.examples.len();
        let metrics = eval::evaluate(
            &self.ranker,
            &self.store,
            &self.valid,
            eval_batch_size(&self.ranker.recipe),
            cancelled,
            &mut |done| observe(Event::Evaluating(done, total)),
        )?;
        let Some(metrics) = metrics else { return Ok(None) };
        self.state.evaluated += 1;
        let epoch = self.state.evaluated;
        let improved =
            self.state.best.is_none_or(|(_, best)| metrics.all.accuracy > best.all.accuracy);
        if improved {
            self.state.best = Some((epoch, metrics));
        }
        self.run.log(&serde_json::json!({
            "step": self.state.step, "epoch": epoch, "split": "valid", "metrics": metrics
        }))?;
        observe(Event::Evaluated(epoch, &metrics, improved));
        Ok(Some(improved))
    }

    fn save_last(&mut self) -> Result<(), TrainError> {
        self.state.logged = self.run.logged()?;
        self.run.save(LAST, |folder| {
            self.ranker.save(folder)?;
            self.optimizer.save(&folder.join(OPTIMIZER))?;
            let path = folder.join(STATE);
            let state = serde_json::to_string_pretty(&self.state).unwrap_or_default();
            std::fs::write(&path, state)
                .map_err(|source| TrainError::Run(RunError::Io { path, source }))
        })
    }

    /// The batches of an epoch that are still to come.
    fn loader(&self, epoch: u64) -> Loader {
        let settings = &self.ranker.recipe.train;
        let rows = rows(&self.ranker.recipe, &self.train);
        let lengths: Vec<usize> =
            rows.iter().map(|row| self.train.examples[row.example()].input_ids.len()).collect();
        let done = (self.state.step % self.steps_per_epoch) as usize * settings.accumulate;
        let batches = shuffled(&lengths, settings.batch_size, settings.seed, epoch)
            .into_iter()
            .skip(done)
            .map(|batch| batch.into_iter().map(|row| rows[row]).collect())
            .collect();
        Loader::start(
            self.store.clone(),
            Arc::clone(&self.train),
            self.ranker.batch_spec(),
            batches,
        )
    }

    fn total_steps(&self) -> u64 {
        self.steps_per_epoch * self.ranker.recipe.train.epochs
    }
}

impl Interval {
    fn add(&mut self, step: &Step, seconds: f64) {
        self.steps += 1;
        self.loss += step.loss;
        self.rows += step.rows;
        self.right += step.right;
        self.seconds += seconds;
    }

    fn rows_per_second(&self) -> f64 {
        self.rows as f64 / self.seconds.max(1e-9)
    }
}

fn interval_accuracy(interval: &Interval) -> f64 {
    interval.right as f64 / interval.rows.max(1) as f64
}

/// Sets per forward pass of an evaluation: as many images as a training batch has.
fn eval_batch_size(recipe: &Recipe) -> usize {
    match recipe.variant {
        Variant::NonContrastive => {
            recipe.train.batch_size.div_ceil(feature_store::dataset::SET_SIZE)
        }
        _ => recipe.train.batch_size,
    }
}

/// What an epoch goes through: all sets, or all pairs.
fn rows(recipe: &Recipe, sets: &ImageSets) -> Vec<Item> {
    let examples = sets.examples.iter().enumerate();
    match recipe.variant {
        Variant::NonContrastive => examples
            .flat_map(|(number, example)| {
                (0..example.images.len()).map(move |candidate| Item::Pair(number, candidate))
            })
            .collect(),
        _ => examples.map(|(number, _)| Item::Set(number)).collect(),
    }
}

fn loss(scores: &Tensor, labels: &Labels) -> Tensor {
    match labels {
        Labels::Targets(targets) => contrastive(scores, targets),
        Labels::Matches(matches) => non_contrastive(scores, matches),
        // `open` has refused unlabelled splits.
        Labels::Unknown => scores.mean(Kind::Float) * f64::NAN,
    }
}

/// Sets whose image is ranked first, or pairs on the right side of 0.
fn right(scores: &Tensor, labels: &Labels) -> usize {
    let right = match labels {
        Labels::Targets(targets) => scores.argmax(1, false).eq_tensor(targets),
        Labels::Matches(matches) => scores.gt(0.0).eq_tensor(&matches.gt(0.5)),
        Labels::Unknown => return 0,
    };
    right.sum(Kind::Int64).int64_value(&[]) as usize
}

/// A seed for each batch; SplitMix64's finaliser, so that neighbours have nothing in common.
fn dropout_seed(seed: u64, step: u64, batch: u64) -> i64 {
    let mut x = seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (batch << 48);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) as i64
}

fn labelled(
    ranker: &Ranker,
    path: &Path,
    store: &FeatureStore,
) -> Result<Arc<ImageSets>, TrainError> {
    let sets = ranker.image_sets(path, store)?;
    match sets.examples.iter().all(|example| example.target.is_some()) {
        true => Ok(Arc::new(sets)),
        false => Err(TrainError::Unlabelled(path.to_owned())),
    }
}

fn read_state(last: &Path) -> Result<State, TrainError> {
    let path = last.join(STATE);
    let text = std::fs::read_to_string(&path)
        .map_err(|source| RunError::Io { path: path.clone(), source })?;
    serde_json::from_str(&text)
        .map_err(|error| TrainError::Checkpoint { path, reason: error.to_string() })
}
