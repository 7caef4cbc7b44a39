//! One step: forward, backward, update.

use tch::{Kind, Tensor};

use super::{AdamW, TrainError, contrastive, non_contrastive, warmup_linear};
use crate::data::{Batch, Labels};
use crate::ranker::Ranker;

/// What training changes: the model and its optimiser.
#[derive(Debug)]
pub(super) struct Learner {
    pub ranker: Ranker,
    pub optimizer: AdamW,
}

/// What one step gave.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Step {
    /// Mean over the rows.
    pub loss: f64,
    pub rows: usize,
    /// Rows that were ranked right.
    pub right: usize,
    /// Of the gradients before clipping.
    pub grad_norm: f64,
    pub learning_rate: f64,
}

impl Learner {
    /// A model that has learnt nothing yet.
    pub fn new(ranker: Ranker) -> Learner {
        let optimizer = AdamW::new(&ranker.variables, ranker.recipe.optimizer());
        Learner { ranker, optimizer }
    }

    /// The step after `done` of `total` steps: the update by the mean gradient over `rows`, which are those of `batches`.
    pub fn step(
        &mut self,
        batches: Vec<Batch>,
        rows: usize,
        (done, total): (u64, u64),
    ) -> Result<Step, TrainError> {
        self.optimizer.zero_grad();
        let mut step = self.backward(batches, rows, done)?;
        let settings = &self.ranker.recipe.train;
        step.grad_norm = self.optimizer.clip_grad_norm(settings.clip);
        if !step.grad_norm.is_finite() {
            return Err(TrainError::Diverged { step: done + 1, loss: f64::NAN });
        }
        let warmup = settings.warmup * total as f64;
        step.learning_rate = settings.learning_rate * warmup_linear(done, warmup, total as f64);
        self.optimizer.step(step.learning_rate);
        Ok(step)
    }

    /// Adds up the gradients of all batches.
    fn backward(&self, batches: Vec<Batch>, rows: usize, done: u64) -> Result<Step, TrainError> {
        let mut step = Step::default();
        for (number, batch) in batches.into_iter().enumerate() {
            // Dropout depends on the step alone, whenever the run was begun.
            let seed = dropout_seed(self.ranker.recipe.train.seed, done, number as u64);
            tch::manual_seed(seed);
            let batch = batch.to_device(self.ranker.variables.device());
            let scores = self.ranker.scores(&batch, true);
            // A loss is a mean over its batch: each row has the same weight, whatever batch it is in.
            let weight = batch.items.len() as f64 / rows as f64;
            let loss = loss(&scores, &batch.labels) * weight;
            step.loss += loss.double_value(&[]);
            if !step.loss.is_finite() {
                return Err(TrainError::Diverged { step: done + 1, loss: step.loss });
            }
            loss.backward();
            step.right += right(&scores, &batch.labels);
            step.rows += batch.items.len();
        }
        Ok(step)
    }
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

/// A seed for each batch; SplitMix64's finaliser, so that neighbours have nothing in common.
fn dropout_seed(seed: u64, step: u64, batch: u64) -> i64 {
    let mut x = seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (batch << 48);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) as i64
}
