//! What each step learns from: a function of recipe, data and epoch alone.

use super::Training;
use super::distributed::{Ranks, share};
use crate::data::{ImageSets, Item, shuffled};

/// The rows of a split in the order of training.
#[derive(Debug)]
pub(super) struct Order {
    rows: Vec<Item>,
    /// Word pieces of each row's description.
    lengths: Vec<usize>,
    batch_size: usize,
    accumulate: usize,
    seed: u64,
}

/// What one step learns from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StepRows {
    /// What goes through the model at once, one after the other.
    pub batches: Vec<Vec<Item>>,
    /// Rows of the step, which its gradient is the mean of: those of all batches, and on all ranks.
    pub rows: usize,
}

impl StepRows {
    /// What a rank works on: its share of every batch. A rank may have nothing to do.
    pub fn share(mut self, ranks: &Ranks) -> StepRows {
        for batch in &mut self.batches {
            *batch = share(batch, ranks.rank(), ranks.size());
        }
        self.batches.retain(|batch| !batch.is_empty());
        self
    }
}

impl Order {
    /// Of a split's sets, or of all their pairs.
    pub fn new(settings: &Training, pairs: bool, sets: &ImageSets) -> Order {
        let rows = rows(pairs, sets);
        Order {
            lengths: rows.iter().map(|row| sets.examples[row.example()].input_ids.len()).collect(),
            rows,
            batch_size: settings.batch_size,
            accumulate: settings.accumulate,
            seed: settings.seed,
        }
    }

    pub fn steps_per_epoch(&self) -> u64 {
        self.rows.len().div_ceil(self.rows_per_step()) as u64
    }

    /// All steps of an epoch. Which rows a step has depends on the product of batch size and accumulation, not on how it
    /// is made of the two.
    pub fn epoch(&self, epoch: u64) -> Vec<StepRows> {
        shuffled(&self.lengths, self.rows_per_step(), self.seed, epoch)
            .into_iter()
            .map(|step| StepRows {
                rows: step.len(),
                batches: step
                    .chunks(self.batch_size)
                    .map(|batch| batch.iter().map(|&row| self.rows[row]).collect())
                    .collect(),
            })
            .collect()
    }

    fn rows_per_step(&self) -> usize {
        self.batch_size.saturating_mul(self.accumulate)
    }
}

/// What an epoch goes through: all sets, or all pairs.
fn rows(pairs: bool, sets: &ImageSets) -> Vec<Item> {
    let examples = sets.examples.iter().enumerate();
    match pairs {
        true => examples
            .flat_map(|(number, example)| {
                (0..example.images.len()).map(move |candidate| Item::Pair(number, candidate))
            })
            .collect(),
        false => examples.map(|(number, _)| Item::Set(number)).collect(),
    }
}
