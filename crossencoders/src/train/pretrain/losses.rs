//! Losses of pre-training and their parts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::model::pretraining::{Losses, Targets, VisualTarget};
use crate::train::log::Gain;

const WORDS: &str = "words";
const ALIGNMENT: &str = "alignment";

/// Mean losses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PretrainLosses {
    /// What is minimised.
    pub loss: f64,
    /// Its parts, without weights: `words`, `regions_0` to `regions_6` by VOLTA's number of the visual target, and
    /// `alignment`.
    pub losses: BTreeMap<String, f64>,
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

    /// The means, and their sum with the weights of the visual targets.
    pub fn weighted(&self, weights: &[(VisualTarget, f64)]) -> PretrainLosses {
        let losses = self.losses();
        let of = |name: &str| losses.get(name).copied().unwrap_or_default();
        let regions: f64 = weights.iter().map(|(target, weight)| weight * of(&name(*target))).sum();
        PretrainLosses { loss: of(WORDS) + regions + of(ALIGNMENT), losses }
    }

    fn put(&mut self, name: String, loss: &Tensor, count: f64) {
        let total = self.0.entry(name).or_default();
        *total = (total.0 + loss.double_value(&[]) * count, total.1 + count);
    }
}

impl Gain for Tally {
    fn merge(&mut self, other: &Tally) {
        for (name, (sum, count)) in &other.0 {
            let total = self.0.entry(name.clone()).or_default();
            *total = (total.0 + sum, total.1 + count);
        }
    }

    /// The mean of every part; 0 where nothing was predicted.
    fn losses(&self) -> BTreeMap<String, f64> {
        self.0.iter().map(|(name, (sum, count))| (name.clone(), sum / count.max(1.0))).collect()
    }
}

fn name(target: VisualTarget) -> String {
    format!("regions_{}", target.key())
}
