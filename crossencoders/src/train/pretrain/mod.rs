//! Pre-training that goes on: on captions of one's own, with the promises that [`Trainer`](super::Trainer) keeps.
//!
//! [`Pretrainer`] tells the story; one file each for the recipe, where batches come from, a step, and what is logged.

mod learner;
mod log;
mod pretrainer;
mod recipe;
mod source;

pub use log::{PretrainEvent, PretrainLosses, PretrainStepLog, PretrainValidLog};
pub use pretrainer::{PretrainOutcome, PretrainSummary, Pretrainer};
pub use recipe::{Masking, PretrainRecipe};
