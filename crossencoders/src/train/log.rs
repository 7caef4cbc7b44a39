//! What is said and written while training goes on.

use serde::{Deserialize, Serialize};

use super::step::Step;
use crate::eval::Metrics;

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

/// A line of training in `metrics.jsonl`.
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

/// A line of validation in `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationLog {
    /// Steps done.
    pub step: u64,
    /// Epoch, from 1.
    pub epoch: u64,
    /// "valid".
    pub split: String,
    /// How well the split was ranked.
    pub metrics: Metrics,
}

/// What has been seen since the last logged line.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Interval {
    steps: u64,
    loss: f64,
    rows: usize,
    right: usize,
    seconds: f64,
}

impl Interval {
    pub fn add(&mut self, step: &Step, seconds: f64) {
        self.steps += 1;
        self.loss += step.loss;
        self.rows += step.rows;
        self.right += step.right;
        self.seconds += seconds;
    }

    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.rows.max(1) as f64
    }

    pub fn rows_per_second(&self) -> f64 {
        self.rows as f64 / self.seconds.max(1e-9)
    }

    /// The line about this interval, which ends with `last`.
    pub fn line(&self, step: u64, epoch: u64, last: &Step) -> StepLog {
        StepLog {
            step,
            epoch,
            loss: self.loss / self.steps.max(1) as f64,
            accuracy: self.accuracy(),
            learning_rate: last.learning_rate,
            grad_norm: last.grad_norm,
            rows_per_second: self.rows_per_second(),
        }
    }
}
