//! One training run: steps, evaluations, checkpoints.
//!
//! Everything a step depends on is a function of the recipe and the step's number: order, dropout, learning rate. A run
//! that goes on from a checkpoint gives the weights of one that was never interrupted, bit for bit.
//!
//! Several [ranks](super::distributed) go through the same story: each learns from its share of a step's rows, and what
//! the story depends on (loss, gradients, scores, whether to stop) is added up and the same on all.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use feature_store::FeatureStore;
use serde::{Deserialize, Serialize};
use tch::Device;

use super::checkpoint::{self, State};
use super::distributed::{Ranks, Share};
use super::folder::Folder;
use super::log::{EvaluationLog, Event};
use super::order::{Order, StepRows};
use super::step::{Learner, NoStep, NotFinite, Step};
use super::{Cause, Recipe, StepIds, TrainError, Variant};
use crate::data::{Batch, DataError, Example, ImageSets, Loader};
use crate::eval::{self, Metrics, Prediction};
use crate::failure::catching;
use crate::ranker::Ranker;
use crate::run::BEST;

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
    /// Whether it ended before the last epoch because validation had got no better for `train.patience` epochs.
    #[serde(default)]
    pub stopped_early: bool,
}

/// A training run.
#[derive(Debug)]
pub struct Trainer {
    ranks: Ranks,
    learner: Learner,
    store: FeatureStore,
    train: Arc<ImageSets>,
    valid: Arc<ImageSets>,
    /// What this rank ranks of it.
    valid_share: Share,
    order: Order,
    run: Folder,
    state: State,
    /// An error has left the weights in an unknown state.
    failed: bool,
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
        Trainer::open_on(Ranks::single(), recipe, out, replace, device)
    }

    /// The same on several ranks, which all give the same recipe and a folder that all see; rank 0 writes it. The number
    /// of ranks may be another than the one a run was begun with.
    ///
    /// # Errors
    /// [`TrainError`], on all ranks.
    pub fn open_on(
        ranks: Ranks,
        recipe: Recipe,
        out: &Path,
        replace: bool,
        device: Device,
    ) -> Result<Trainer, TrainError> {
        ranks.together(|| Trainer::prepare(&ranks, recipe, out, replace, device))
    }

    fn prepare(
        ranks: &Ranks,
        recipe: Recipe,
        out: &Path,
        replace: bool,
        device: Device,
    ) -> Result<Trainer, TrainError> {
        if recipe.variant == Variant::ZeroShot {
            return Err(TrainError::ZeroShot);
        }
        let ranker = Ranker::create(recipe, device)?;
        let store = ranker.open_store(None)?;
        let train = labelled(&ranker, &ranker.recipe.data.train, &store)?;
        let valid = labelled(&ranker, &ranker.recipe.data.valid, &store)?;
        let order = Order::new(&ranker.recipe, &train);
        let recipe = ranker.recipe.to_toml();
        ranks.same("recipe", recipe.as_bytes())?;
        ranks.same("split to train on", &ids(&train))?;
        ranks.same("split to validate with", &ids(&valid))?;
        ranks.copy_from_root(&ranker.variables.trainable_variables())?;
        let fresh = Learner::new(ranker, ranks)?;
        let mut run = Folder::open(ranks, out, &recipe, replace)?;
        let (learner, state) = match run.last() {
            Some(last) => checkpoint::load(&last, device, ranks)?,
            None => (fresh, State::default()),
        };
        ranks.same("checkpoint to go on from", &state.step.to_le_bytes())?;
        run.truncate_log(state.logged)?;
        let (ranks, valid_share) = (ranks.clone(), Share::new(&valid, ranks));
        let failed = false;
        Ok(Trainer { ranks, learner, store, train, valid, valid_share, order, run, state, failed })
    }

    /// The model.
    pub fn ranker(&self) -> &Ranker {
        &self.learner.ranker
    }

    /// The splits: for training, for validation.
    pub fn splits(&self) -> [&ImageSets; 2] {
        [&self.train, &self.valid]
    }

    /// Steps done, and all steps.
    pub fn position(&self) -> (u64, u64) {
        (self.state.step, self.order.steps_per_epoch() * self.ranker().recipe.train.epochs)
    }

    /// Trains to the end, or until cancelled, on whatever rank; then the state is saved first.
    ///
    /// # Errors
    /// [`TrainError`]; checkpoints stay as they were before.
    pub fn run(
        &mut self,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Outcome, TrainError> {
        if self.failed {
            return Err(TrainError::Failed);
        }
        let outcome = self.ranks.clone().together(|| self.train(cancelled, observe));
        self.failed = outcome.is_err();
        outcome
    }

    fn train(
        &mut self,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Outcome, TrainError> {
        let (started, before) = (Instant::now(), self.state.seconds);
        let epochs = self.ranker().recipe.train.epochs;
        loop {
            let epoch = self.state.step / self.order.steps_per_epoch();
            if self.state.evaluated < epoch {
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
        let best = self.state.best.map_or(0, |(epoch, _)| epoch);
        let patience = self.ranker().recipe.train.patience;
        patience.is_some_and(|patience| self.state.evaluated - best >= patience)
    }

    fn summary(&self, stopped_early: bool) -> Summary {
        let State { step, seconds, .. } = self.state;
        let (best_epoch, best) = self.state.best.unwrap_or_default();
        Summary { steps: step, best_epoch, best, seconds, stopped_early }
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
        let done = (self.state.step % self.order.steps_per_epoch()) as usize;
        let steps = self.order.epoch(epoch).split_off(done);
        let steps: Vec<_> = steps.into_iter().map(|step| step.share(&self.ranks)).collect();
        let mut loader = self.loader(&steps);
        let mut started = Instant::now();
        for rows in &steps {
            if self.ranks.any(cancelled.load(Ordering::Relaxed))? {
                return Ok(false);
            }
            let batches = read(&mut loader, rows.batches.len())?;
            let step = self.step(batches, rows)?;
            self.state.step += 1;
            self.state.interval.add(&step, started.elapsed().as_secs_f64());
            started = Instant::now();
            self.after_step(&step, epoch + 1, observe)?;
        }
        Ok(true)
    }

    /// One step; what can go wrong in it is told with what it learnt from.
    fn step(&mut self, batches: Vec<Batch>, rows: &StepRows) -> Result<Step, TrainError> {
        let (done, total) = self.position();
        let shapes = batches.iter().map(Batch::shapes).collect::<Vec<_>>().join("; ");
        let learner = &mut self.learner;
        catching(|| learner.step(batches, rows.rows, (done, total)))
            .map_err(|error| TrainError::thrown(error, done + 1, shapes, &self.ranker().recipe))?
            .map_err(|why| match why {
                NoStep::NotFinite(what) => self.diverged(what, rows),
                NoStep::Comm(error) => error.into(),
            })
    }

    fn diverged(&self, what: NotFinite, rows: &StepRows) -> TrainError {
        let learnt_from = match what.batch {
            Some(number) => &rows.batches[number..=number],
            None => &rows.batches[..],
        };
        let rows = StepIds::new(&self.train, learnt_from.iter().flatten());
        let images: Vec<String> =
            what.images.iter().map(|&(row, image)| rows.0[row].1[image].clone()).collect();
        TrainError::Diverged {
            step: self.state.step + 1,
            loss: what.loss,
            grad_norm: what.grad_norm,
            parameter: what.parameter,
            rows,
            cause: if images.is_empty() { Cause::Weights } else { Cause::Features(images) },
        }
    }

    /// Tells, logs and saves when it is time.
    fn after_step(
        &mut self,
        step: &Step,
        epoch: u64,
        observe: &mut dyn FnMut(Event),
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
        let settings = &self.learner.ranker.recipe.train;
        let (log_steps, checkpoint_steps) = (settings.log_steps, settings.checkpoint_steps);
        let ends_epoch = at.is_multiple_of(self.order.steps_per_epoch());
        if at.is_multiple_of(log_steps) || ends_epoch {
            self.run.log(&interval.line(at, epoch, step))?;
            self.state.interval = Default::default();
        }
        if checkpoint_steps > 0 && at.is_multiple_of(checkpoint_steps) && !ends_epoch {
            self.save_last()?;
        }
        Ok(())
    }

    /// Ranks the validation split and keeps the best weights; false if cancelled. Where there is an average of the weights,
    /// it is what is ranked with and kept.
    fn validate(
        &mut self,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(Event),
    ) -> Result<bool, TrainError> {
        self.learner.exchange_average();
        let validated = self.validate_weights(cancelled, observe);
        self.learner.exchange_average();
        validated
    }

    fn validate_weights(
        &mut self,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(Event),
    ) -> Result<bool, TrainError> {
        let (share, total) = (&self.valid_share.sets, self.valid_share.sets.examples.len());
        let (ranker, batch_size) = (self.ranker(), eval_batch_size(&self.ranker().recipe));
        let mut progress = |done| observe(Event::Evaluating(done, total));
        let scores = catching(|| {
            eval::score(ranker, &self.store, share, batch_size, cancelled, &mut progress)
        })
        .map_err(|error| {
            let shapes = format!("validation with {batch_size} descriptions at once");
            TrainError::thrown(error, self.state.step, shapes, &ranker.recipe)
        })??;
        let Some(scores) = self.valid_share.gather(&self.ranks, scores)? else { return Ok(false) };
        let examples = self.valid.examples.iter().zip(scores);
        let predictions: Vec<Prediction> =
            examples.map(|(example, scores)| Prediction::new(example, scores)).collect();
        let metrics = Metrics::new(&predictions);
        self.state.evaluated += 1;
        let epoch = self.state.evaluated;
        let improved =
            self.state.best.is_none_or(|(_, best)| metrics.all.accuracy > best.all.accuracy);
        if improved {
            self.state.best = Some((epoch, metrics));
        }
        let split = "valid".to_owned();
        self.run.log(&EvaluationLog { step: self.state.step, epoch, split, metrics })?;
        observe(Event::Evaluated(epoch, &metrics, improved));
        if improved {
            self.run.save(BEST, |folder| self.ranker().save(folder).map_err(TrainError::from))?;
        }
        Ok(true)
    }

    fn save_last(&mut self) -> Result<(), TrainError> {
        self.state.logged = self.run.logged()?;
        checkpoint::save(&self.run, &self.learner, &self.state)
    }

    /// Reads the batches of steps in the background.
    fn loader(&self, steps: &[StepRows]) -> Loader {
        let batches = steps.iter().flat_map(|step| step.batches.iter().cloned()).collect();
        Loader::start(
            self.store.clone(),
            Arc::clone(&self.train),
            self.ranker().batch_spec(),
            batches,
        )
    }
}

/// The next batches.
fn read(loader: &mut Loader, count: usize) -> Result<Vec<Batch>, TrainError> {
    let batches: Vec<Batch> = loader.by_ref().take(count).collect::<Result<_, _>>()?;
    match batches.len() == count {
        true => Ok(batches),
        false => Err(DataError::Reader("it ended before the epoch".into()).into()),
    }
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

/// What identifies a split's descriptions, so that ranks can compare what they have read.
fn ids(sets: &ImageSets) -> Vec<u8> {
    let id = |example: &Example| format!("{}\n{}\n", example.directory, example.text).into_bytes();
    sets.examples.iter().flat_map(id).collect()
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
