//! One step: forward, backward, update.

use serde::{Deserialize, Serialize};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use super::distributed::{CommError, Gradients, Ranks};
use super::log::{Gain, Step};
use super::optimisation::{Applied, Optimisation};
use super::{TrainError, Training, contrastive, non_contrastive};
use crate::data::{Batch, BatchImages, Labels};
use crate::ranker::Ranker;

/// What training changes: the model, its optimiser, the average of its weights.
#[derive(Debug)]
pub(super) struct Learner {
    pub ranker: Ranker,
    pub optimisation: Optimisation,
    ranks: Ranks,
    gradients: Gradients,
}

/// Rows that were ranked right.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Right(usize);

impl Gain for Right {
    fn merge(&mut self, other: &Right) {
        self.0 += other.0;
    }

    fn accuracy(&self, rows: usize) -> Option<f64> {
        Some(self.0 as f64 / rows.max(1) as f64)
    }
}

/// Why there is no step. The weights are those before it.
#[derive(Debug)]
pub(super) enum NoStep<I> {
    NotFinite(NotFinite<I>),
    Error(TrainError),
}

impl<I> From<CommError> for NoStep<I> {
    fn from(error: CommError) -> Self {
        NoStep::Error(error.into())
    }
}

/// A step that would have made weights that are no numbers.
#[derive(Debug)]
pub(super) struct NotFinite<I> {
    pub loss: f64,
    pub grad_norm: f64,
    /// The first by name whose gradient is not finite.
    pub parameter: Option<String>,
    /// The number of the batch whose loss is not finite; if all are, gradients are not.
    pub batch: Option<usize>,
    /// Images of that batch whose features are not finite.
    pub images: Vec<I>,
}

impl Learner {
    /// A model that has learnt nothing yet.
    ///
    /// # Errors
    /// If the recipe names parameters that there are not, or freezes all.
    pub fn new(ranker: Ranker, ranks: &Ranks) -> Result<Learner, TrainError> {
        let settings = &ranker.recipe.train;
        let layers_above = |name: &str| ranker.config.layers_above(name);
        let optimisation = Optimisation::new(&ranker.variables, &layers_above, settings)?;
        let gradients = Gradients::new(ranker.segmented_parameters());
        Ok(Learner { ranker, optimisation, ranks: ranks.clone(), gradients })
    }

    /// The step after `done` of `total` steps: the update by the mean gradient over `rows`, which are those of the `batches`
    /// of all ranks.
    ///
    /// # Errors
    /// [`NoStep`] with row and candidate of images; the weights are those before the step.
    pub fn step(
        &mut self,
        batches: Vec<Batch>,
        rows: usize,
        (done, total): (u64, u64),
    ) -> Result<Step<Right>, NoStep<(usize, usize)>> {
        self.optimisation.zero_grad();
        let mut step = self.backward(batches, rows, done)?;
        self.add_up(&mut step)?;
        let applied = self.optimisation.apply(&self.ranker.recipe.train, (done, total));
        match applied {
            Ok(Applied { grad_norm, learning_rate }) => {
                Ok(Step { grad_norm, learning_rate, ..step })
            }
            Err(norm) => Err(NoStep::NotFinite(self.not_finite(step.loss, None, Vec::new(), norm))),
        }
    }

    /// Adds up loss and counts of the ranks.
    fn add_up(&self, step: &mut Step<Right>) -> Result<(), CommError> {
        if self.ranks.size() == 1 {
            return Ok(());
        }
        let mut sums = [step.loss as f32, step.rows as f32, step.gain.0 as f32];
        self.ranks.sum(&mut sums)?;
        let [loss, rows, right] = sums;
        (step.loss, step.rows) = (f64::from(loss), rows as usize);
        step.gain = Right(right as usize);
        Ok(())
    }

    /// Adds up the gradients of all batches, and of all ranks: those are reduced while the last batch is gone through.
    fn backward(
        &mut self,
        mut batches: Vec<Batch>,
        rows: usize,
        done: u64,
    ) -> Result<Step<Right>, NoStep<(usize, usize)>> {
        let Learner { ranker, optimisation, ranks, gradients } = self;
        let mut micro = MicroBatches { ranker, rank: ranks.rank(), rows, done, seen: 0 };
        let mut step = Step::default();
        let last = batches.pop();
        let learnt = (|| {
            for batch in batches {
                micro.backward(batch, None, &mut step)?;
            }
            let several = ranks.size() > 1;
            gradients.sum_during(ranks, |finished| match last {
                Some(batch) => micro.backward(batch, several.then_some(finished), &mut step),
                None => Ok(()),
            })
        })();
        match learnt {
            Ok(()) => Ok(step),
            Err(Stopped::Comm(error)) => Err(error.into()),
            Err(Stopped::Loss { loss, batch, images }) => {
                let norm = optimisation.grad_norm();
                Err(NoStep::NotFinite(self.not_finite(loss, Some(batch), images, norm)))
            }
        }
    }

    fn not_finite(
        &self,
        loss: f64,
        batch: Option<usize>,
        images: Vec<(usize, usize)>,
        grad_norm: f64,
    ) -> NotFinite<(usize, usize)> {
        let parameter = first_not_finite(&self.ranker.variables);
        NotFinite { loss, grad_norm, parameter, batch, images }
    }
}

/// What goes through the model one after the other in a step.
struct MicroBatches<'a> {
    ranker: &'a Ranker,
    rank: usize,
    /// Of the whole step.
    rows: usize,
    /// Steps done.
    done: u64,
    /// Batches so far.
    seen: u64,
}

/// Why it goes no further.
enum Stopped {
    /// The loss of the batch with this number is not finite, nor are features of these images (row and candidate).
    Loss {
        loss: f64,
        batch: usize,
        images: Vec<(usize, usize)>,
    },
    Comm(CommError),
}

impl From<CommError> for Stopped {
    fn from(error: CommError) -> Self {
        Stopped::Comm(error)
    }
}

impl MicroBatches<'_> {
    /// Adds a batch's gradients to those of the parameters, and what it gave to the step.
    fn backward(
        &mut self,
        batch: Batch,
        finished: Option<&mut dyn FnMut(usize)>,
        step: &mut Step<Right>,
    ) -> Result<(), Stopped> {
        let settings = &self.ranker.recipe.train;
        // Dropout depends on step and rank alone, whenever the run was begun.
        let place = [self.seen, self.rank as u64];
        let seed = settings.dropout.then(|| dropout_seed(settings.seed, self.done, place));
        let batch = batch.to_device(self.ranker.variables.device());
        // A loss is a mean over its batch: each row has the same weight, whatever batch it is in.
        let weight = batch.items.len() as f64 / self.rows as f64;
        let weighted = |scores: &Tensor| loss(scores, &batch.labels) * weight;
        let (scores, loss) = self.ranker.backward(&batch, seed, &weighted, finished);
        let loss = loss.double_value(&[]);
        if !loss.is_finite() {
            let images = not_finite_images(&batch);
            return Err(Stopped::Loss { loss, batch: self.seen as usize, images });
        }
        step.loss += loss;
        step.gain.0 += right(&scores, &batch.labels);
        step.rows += batch.items.len();
        self.seen += 1;
        Ok(())
    }
}

/// The learning rate of the step after `done` of `total`.
pub(super) fn learning_rate(settings: &Training, (done, total): (u64, u64)) -> f64 {
    let warmup = settings.warmup * total as f64;
    settings.learning_rate * settings.schedule.factor(done, warmup, total as f64)
}

/// The first parameter by name whose gradient is not finite.
pub(super) fn first_not_finite(variables: &VarStore) -> Option<String> {
    let not_finite = |(_, variable): &(String, Tensor)| {
        let gradient = variable.grad();
        gradient.defined() && !all_finite(&gradient)
    };
    variables.variables().into_iter().filter(not_finite).map(|(name, _)| name).min()
}

fn loss(scores: &Tensor, labels: &Labels) -> Tensor {
    match labels {
        Labels::Targets(targets) => contrastive(scores, targets),
        Labels::Matches(matches) => non_contrastive(scores, matches),
        // `Trainer::open` has refused unlabelled splits.
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

pub(super) fn all_finite(x: &Tensor) -> bool {
    x.isfinite().all().int64_value(&[]) == 1
}

/// Row and candidate of every image with a feature or a location that is not finite.
fn not_finite_images(batch: &Batch) -> Vec<(usize, usize)> {
    // Pixels are whole numbers.
    let BatchImages::Regions(candidates) = &batch.images else { return Vec::new() };
    let size = candidates.features.size();
    let finite = |image: [i64; 2]| {
        [&candidates.features, &candidates.locations]
            .into_iter()
            .all(|x| all_finite(&x.get(image[0]).get(image[1])))
    };
    (0..size[0])
        .flat_map(|row| (0..size[1]).map(move |candidate| [row, candidate]))
        .filter(|&image| !finite(image))
        .map(|[row, candidate]| (row as usize, candidate as usize))
        .collect()
}

/// A seed for each batch of each rank; SplitMix64's finaliser, so that neighbours have nothing in common.
pub(super) fn dropout_seed(seed: u64, step: u64, [batch, rank]: [u64; 2]) -> u64 {
    let mut x = seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (batch << 48) ^ (rank << 32);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
