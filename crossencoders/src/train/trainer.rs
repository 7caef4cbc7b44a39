//! Training to rank: what a run learns, and how well it ranks.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use evaluation::Metrics;
use tch::Device;
use tch::nn::VarStore;
use xxhash_rust::xxh3::Xxh3;

use super::course::{Course, Outcome, Task};
use super::distributed::{Ranks, Share};
use super::log::{Event, Step};
use super::order::{Order, StepRows};
use super::step::{Learner, NoStep, NotFinite, Right};
use super::{Cause, Recipe, StepIds, TrainError, Training, Variant};
use crate::config::Config;
use crate::data::{Batch, Example, ImageSets, ImageSource, Loader};
use crate::eval::{self, EvalError};
use crate::failure::catching;
use crate::ranker::Ranker;

/// A training run. It may be one of several ranks of a run; then all of them do the same with it.
#[derive(Debug)]
pub struct Trainer(Course<Ranking>);

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
        let fresh = || Ranking::new(&ranks, recipe, device);
        Course::open(&ranks, out, replace, device, fresh).map(Trainer)
    }

    /// The model.
    pub fn ranker(&self) -> &Ranker {
        &self.0.task.learner.ranker
    }

    /// The splits: for training, for validation.
    pub fn splits(&self) -> [&ImageSets; 2] {
        [&self.0.task.train, &self.0.task.valid]
    }

    /// Steps done, and all steps.
    pub fn position(&self) -> (u64, u64) {
        self.0.position()
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
        self.0.run(cancelled, observe)
    }
}

/// Ranking the images of sets by their descriptions.
#[derive(Debug)]
struct Ranking {
    ranks: Ranks,
    learner: Learner,
    images: ImageSource,
    train: Arc<ImageSets>,
    valid: Arc<ImageSets>,
    /// What this rank ranks of it.
    valid_share: Share,
    order: Order,
}

impl Ranking {
    /// A model that has learnt nothing yet, with its data; the same on all ranks.
    fn new(ranks: &Ranks, recipe: Recipe, device: Device) -> Result<Ranking, TrainError> {
        if recipe.variant == Variant::ZeroShot {
            return Err(TrainError::ZeroShot);
        }
        let ranker = Ranker::create(recipe, device)?;
        let images = ranker.open_images(None)?;
        check_frozen(&ranker, &images)?;
        let train = labelled(&ranker, &ranker.recipe.data.train, &images)?;
        let train = Arc::new(ranker.training_sets(train));
        let valid = Arc::new(labelled(&ranker, &ranker.recipe.data.valid, &images)?);
        ranks.same("recipe", ranker.recipe.to_toml().as_bytes())?;
        ranks.same("split to train on", &ids(&train))?;
        ranks.same("split to validate with", &ids(&valid))?;
        ranks.copy_from_root(&ranker.variables.trainable_variables())?;
        let order = Order::new(&ranker.recipe.train, ranker.learns_from_pairs(), &train);
        let learner = Learner::new(ranker, ranks)?;
        let (ranks, valid_share) = (ranks.clone(), Share::new(&valid, ranks));
        Ok(Ranking { ranks, learner, images, train, valid, valid_share, order })
    }

    fn diverged(&self, what: NotFinite<(usize, usize)>, rows: &StepRows, step: u64) -> TrainError {
        let learnt_from = match what.batch {
            Some(number) => &rows.batches[number..=number],
            None => &rows.batches[..],
        };
        let rows = StepIds::new(&self.train, learnt_from.iter().flatten());
        let images = what.images.iter().map(|&(row, image)| rows.0[row].1[image].clone());
        let cause = Cause::of(images.collect());
        let NotFinite { loss, grad_norm, parameter, .. } = what;
        TrainError::Diverged { step, loss, grad_norm, parameter, rows, cause }
    }
}

impl Task for Ranking {
    type Rows = StepRows;
    type Batch = Batch;
    type Gain = Right;
    type Score = Metrics;

    fn recipe(&self) -> String {
        self.learner.ranker.recipe.to_toml()
    }

    fn init(&self) -> Option<&Path> {
        self.learner.ranker.recipe.init.as_deref().map(Path::new)
    }

    fn data(&self) -> String {
        let mut hash = Xxh3::new();
        for sets in [&self.train, &self.valid] {
            hash.update(&ids(sets));
            let target = |example: &Example| example.target.map_or(u64::MAX, |at| at as u64);
            sets.examples.iter().for_each(|one| hash.update(&target(one).to_le_bytes()));
        }
        if let ImageSource::Features(store) = &self.images {
            hash.update(&store.schema().digest.to_le_bytes());
        }
        format!("{:016x}", hash.digest())
    }

    fn load(self, checkpoint: &Path, device: Device) -> Result<Ranking, TrainError> {
        let mut learner = Learner::new(Ranker::load_checkpoint(checkpoint, device)?, &self.ranks)?;
        learner.optimisation.load(checkpoint)?;
        Ok(Ranking { learner, ..self })
    }

    fn settings(&self) -> &Training {
        &self.learner.ranker.recipe.train
    }

    fn learns_pairs(&self) -> bool {
        self.learner.ranker.learns_from_pairs()
    }

    fn steps_per_epoch(&self) -> u64 {
        self.order.steps_per_epoch()
    }

    fn epoch(&self, epoch: u64, done: usize) -> Vec<StepRows> {
        let steps = self.order.epoch(epoch).into_iter().skip(done);
        steps.map(|step| step.share(&self.ranks)).collect()
    }

    fn loader(&self, _epoch: u64, steps: &[StepRows]) -> Loader<Batch> {
        let batches = steps.iter().flat_map(|step| step.batches.iter().cloned()).collect();
        let spec = self.learner.ranker.batch_spec();
        Loader::start(self.images.clone(), Arc::clone(&self.train), spec, batches)
    }

    fn batches(rows: &StepRows) -> usize {
        rows.batches.len()
    }

    fn step(
        &mut self,
        batches: Vec<Batch>,
        rows: &StepRows,
        position: (u64, u64),
    ) -> Result<Step<Right>, TrainError> {
        let at = position.0 + 1;
        let shapes = batches.iter().map(Batch::shapes).collect::<Vec<_>>().join("; ");
        let learner = &mut self.learner;
        catching(|| learner.step(batches, rows.rows, position))
            .map_err(|error| TrainError::thrown(error, at, shapes, &self.learner.ranker.recipe))?
            .map_err(|why| match why {
                NoStep::NotFinite(what) => self.diverged(what, rows, at),
                NoStep::Error(error) => error,
            })
    }

    fn validate(
        &self,
        step: u64,
        cancelled: &AtomicBool,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Option<Metrics>, TrainError> {
        let (ranker, share) = (&self.learner.ranker, &self.valid_share.sets);
        let (total, batch_size) = (share.examples.len(), eval_batch_size(ranker));
        let mut progress = |done| observe(Event::Validating(done, total));
        let scores =
            eval::score(&mut &*ranker, &self.images, share, batch_size, cancelled, &mut progress);
        let scores = scores.map_err(|error| match error {
            EvalError::Libtorch { error, shapes } => {
                TrainError::thrown(error, step, shapes, &ranker.recipe)
            }
            error => error.into(),
        })?;
        let Some(scores) = self.valid_share.gather(&self.ranks, scores)? else { return Ok(None) };
        Ok(Some(Metrics::new(&eval::predictions(&self.valid, scores))))
    }

    fn is_better(score: &Metrics, best: &Metrics) -> bool {
        score.all.accuracy > best.all.accuracy
    }

    fn variables(&self) -> &VarStore {
        &self.learner.ranker.variables
    }

    fn exchange_average(&mut self) {
        self.learner.optimisation.exchange_average();
    }

    fn save(&self, folder: &Path) -> Result<(), TrainError> {
        Ok(self.learner.ranker.save(folder)?)
    }

    fn save_all(&self, folder: &Path) -> Result<(), TrainError> {
        self.save(folder)?;
        self.learner.optimisation.save(folder)
    }
}

/// Sets per forward pass of an evaluation: as many images as a training batch has.
fn eval_batch_size(ranker: &Ranker) -> usize {
    let batch_size = ranker.recipe.train.batch_size;
    match ranker.learns_from_pairs() {
        true => batch_size.div_ceil(dataset::SET_SIZE),
        false => batch_size,
    }
}

/// Stored embeddings do not change with the tower that made them: a recipe has to say that it does not learn.
fn check_frozen(ranker: &Ranker, images: &ImageSource) -> Result<(), TrainError> {
    let towers = ["clip", "clip.", "clip.visual", "clip.visual."];
    let is_frozen =
        ranker.recipe.train.freeze.iter().any(|frozen| towers.contains(&frozen.as_str()));
    match (&ranker.config, images) {
        (Config::Clip(_), ImageSource::Features(store)) if !is_frozen => {
            Err(TrainError::StoredEmbeddings(store.path().to_owned()))
        }
        _ => Ok(()),
    }
}

/// What identifies a split's descriptions, so that ranks can compare what they have read.
fn ids(sets: &ImageSets) -> Vec<u8> {
    let id = |example: &Example| format!("{}\n{}\n", example.directory, example.text).into_bytes();
    sets.examples.iter().flat_map(id).collect()
}

fn labelled(ranker: &Ranker, path: &Path, images: &ImageSource) -> Result<ImageSets, TrainError> {
    let sets = ranker.image_sets(path, images)?;
    match sets.examples.iter().all(|example| example.target.is_some()) {
        true => Ok(sets),
        false => Err(TrainError::Unlabelled(path.to_owned())),
    }
}
