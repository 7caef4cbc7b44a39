//! What is said and written while pre-training goes on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::model::pretraining::{Losses, Targets, VisualTarget};

const WORDS: &str = "words";
const ALIGNMENT: &str = "alignment";

/// What is said while pre-training goes on.
#[derive(Debug)]
pub enum PretrainEvent<'a> {
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
        /// Captions per second since the last logged step.
        captions_per_second: f64,
    },
    /// An epoch's losses on the captions for validation, and whether they are the best so far.
    Validated(u64, &'a PretrainLosses, bool),
}

/// Mean losses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PretrainLosses {
    /// What is minimised.
    pub loss: f64,
    /// Its parts, without weights: `words`, `regions_0` to `regions_6` by VOLTA's number of the visual target, and
    /// `alignment`.
    pub losses: BTreeMap<String, f64>,
}

/// A line of pre-training in `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PretrainStepLog {
    /// Steps done.
    pub step: u64,
    /// Epoch, from 1.
    pub epoch: u64,
    /// Mean loss of the steps since the last line.
    pub loss: f64,
    /// Mean over what was predicted since the last line; see [`PretrainLosses::losses`].
    pub losses: BTreeMap<String, f64>,
    /// Of the last step.
    pub learning_rate: f64,
    /// Norm of the last step's gradients before clipping.
    pub grad_norm: f64,
    /// Captions per second since the last line.
    pub captions_per_second: f64,
}

/// A line of validation in `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PretrainValidLog {
    /// Steps done.
    pub step: u64,
    /// Epoch, from 1.
    pub epoch: u64,
    /// "valid".
    pub split: String,
    /// Mean losses.
    #[serde(flatten)]
    pub losses: PretrainLosses,
}

/// Parts of the loss added up: each batch counts as much as it has predictions.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Tally(BTreeMap<String, (f64, f64)>);

impl Tally {
    /// Adds a batch.
    pub fn add(&mut self, losses: &Losses, targets: &Targets) {
        let count = |chosen: Tensor| chosen.sum(Kind::Int64).int64_value(&[]) as f64;
        self.put(WORDS.to_owned(), &losses.words, count(targets.words.ge(0)));
        let regions = count(targets.regions.labels.eq(1));
        for (target, loss) in &losses.regions {
            self.put(name(*target), loss, regions);
        }
        if let (Some(loss), Some(labels)) = (&losses.alignment, &targets.alignment) {
            self.put(ALIGNMENT.to_owned(), loss, labels.numel() as f64);
        }
    }

    /// Adds what another has added up.
    pub fn merge(&mut self, other: &Tally) {
        for (name, (sum, count)) in &other.0 {
            let total = self.0.entry(name.clone()).or_default();
            *total = (total.0 + sum, total.1 + count);
        }
    }

    /// The mean of every part; 0 where nothing was predicted.
    pub fn means(&self) -> BTreeMap<String, f64> {
        self.0.iter().map(|(name, (sum, count))| (name.clone(), sum / count.max(1.0))).collect()
    }

    /// The means, and their sum with the weights of the visual targets.
    pub fn losses(&self, weights: &[(VisualTarget, f64)]) -> PretrainLosses {
        let losses = self.means();
        let of = |name: &str| losses.get(name).copied().unwrap_or_default();
        let regions: f64 = weights.iter().map(|(target, weight)| weight * of(&name(*target))).sum();
        PretrainLosses { loss: of(WORDS) + regions + of(ALIGNMENT), losses }
    }

    fn put(&mut self, name: String, loss: &Tensor, count: f64) {
        let total = self.0.entry(name).or_default();
        *total = (total.0 + loss.double_value(&[]) * count, total.1 + count);
    }
}

fn name(target: VisualTarget) -> String {
    format!("regions_{}", target.key())
}

/// What one step gave.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Mean over the captions.
    pub loss: f64,
    pub captions: usize,
    pub tally: Tally,
    /// Of the gradients before clipping.
    pub grad_norm: f64,
    pub learning_rate: f64,
}

/// What has been seen since the last logged line.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Interval {
    steps: u64,
    loss: f64,
    captions: usize,
    tally: Tally,
    seconds: f64,
}

impl Interval {
    pub fn add(&mut self, step: &Step, seconds: f64) {
        self.steps += 1;
        self.loss += step.loss;
        self.captions += step.captions;
        self.tally.merge(&step.tally);
        self.seconds += seconds;
    }

    pub fn captions_per_second(&self) -> f64 {
        self.captions as f64 / self.seconds.max(1e-9)
    }

    /// The line about this interval, which ends with `last`.
    pub fn line(&self, step: u64, epoch: u64, last: &Step) -> PretrainStepLog {
        PretrainStepLog {
            step,
            epoch,
            loss: self.loss / self.steps.max(1) as f64,
            losses: self.tally.means(),
            learning_rate: last.learning_rate,
            grad_norm: last.grad_norm,
            captions_per_second: self.captions_per_second(),
        }
    }
}
