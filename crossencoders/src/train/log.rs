//! What is said and written while a run goes on.

use std::collections::BTreeMap;
use std::fmt::Debug;

use evaluation::Metrics;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What is said while a run goes on. A score is [`Metrics`] where images are ranked, and mean losses in pre-training.
#[derive(Debug)]
pub enum Event<'a, S = Metrics> {
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
        /// Part of the rows (sets, or pairs of the variant `non_contrastive`) seen since the last logged step that were right;
        /// `None` in pre-training.
        accuracy: Option<f64>,
        /// Rows (sets, pairs or captions) per second since then.
        rows_per_second: f64,
    },
    /// So many rows of the validation split are done, of so many.
    Validating(usize, usize),
    /// An epoch's score, and whether it is the best so far.
    Validated(u64, &'a S, bool),
}

/// A line about steps in `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepLog {
    /// Steps done.
    pub step: u64,
    /// Epoch, from 1.
    pub epoch: u64,
    /// Mean loss since the last line.
    pub loss: f64,
    /// Part of the sets whose image was ranked first; not where something else is learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Part of the pairs that were told right to match or not to match, in the variant `non_contrastive` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair_accuracy: Option<f64>,
    /// Mean over what was predicted since the last line, in pre-training only; see
    /// [`PretrainLosses::losses`](super::pretrain::PretrainLosses::losses).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub losses: BTreeMap<String, f64>,
    /// Of the last step.
    pub learning_rate: f64,
    /// Norm of the last step's gradients before clipping.
    pub grad_norm: f64,
    /// Rows (sets, pairs or captions) per second since the last line.
    pub rows_per_second: f64,
}

/// A line about a validation in `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidLog<S = Metrics> {
    /// Steps done.
    pub step: u64,
    /// Epoch, from 1.
    pub epoch: u64,
    /// "valid".
    pub split: String,
    /// How good the weights are.
    pub metrics: S,
}

/// What steps add up beside their losses.
pub(super) trait Gain: Default + Clone + Debug + Serialize + DeserializeOwned {
    /// Adds what another has added up.
    fn merge(&mut self, other: &Self);

    /// Part of so many rows that were right.
    fn accuracy(&self, _rows: usize) -> Option<f64> {
        None
    }

    /// Means of the loss's parts.
    fn losses(&self) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }
}

/// What one step gave.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Step<G> {
    /// Mean over the rows.
    pub loss: f64,
    pub rows: usize,
    pub gain: G,
    /// Of the gradients before clipping.
    pub grad_norm: f64,
    pub learning_rate: f64,
}

/// What has been seen since the last logged line.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Interval<G> {
    steps: u64,
    loss: f64,
    rows: usize,
    gain: G,
    seconds: f64,
}

impl<G: Gain> Interval<G> {
    pub fn add(&mut self, step: &Step<G>, seconds: f64) {
        self.steps += 1;
        self.loss += step.loss;
        self.rows += step.rows;
        self.gain.merge(&step.gain);
        self.seconds += seconds;
    }

    pub fn accuracy(&self) -> Option<f64> {
        self.gain.accuracy(self.rows)
    }

    pub fn rows_per_second(&self) -> f64 {
        self.rows as f64 / self.seconds.max(1e-9)
    }

    /// The line about this interval, which ends with `last`; rows are sets or pairs.
    pub fn line(&self, step: u64, epoch: u64, last: &Step<G>, pairs: bool) -> StepLog {
        let accuracy = self.accuracy();
        StepLog {
            step,
            epoch,
            loss: self.loss / self.steps.max(1) as f64,
            accuracy: accuracy.filter(|_| !pairs),
            pair_accuracy: accuracy.filter(|_| pairs),
            losses: self.gain.losses(),
            learning_rate: last.learning_rate,
            grad_norm: last.grad_norm,
            rows_per_second: self.rows_per_second(),
        }
    }
}
