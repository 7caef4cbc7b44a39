//! Pre-training that goes on: on captions of one's own, with the promises that [`Trainer`](super::Trainer) keeps.
//!
//! [`Pretrainer`] tells the story; one file each for the recipe, where batches come from, a step, and its losses.

mod learner;
mod losses;
mod pretrainer;
mod recipe;
mod source;

pub use losses::PretrainLosses;
pub use pretrainer::{PretrainEvent, PretrainOutcome, PretrainSummary, Pretrainer};
pub use recipe::{Masking, PretrainRecipe};
