//! Training, as ImageCoDe's scripts and pytorch_transformers 1.2.0 do it.
//!
//! [`Trainer`] tells the story; one file each for the order of the data, a step, checkpoints, and what is logged.

mod checkpoint;
mod error;
mod log;
mod loss;
mod optimizer;
mod order;
mod recipe;
mod schedule;
mod step;
mod trainer;
mod update;

pub use error::TrainError;
pub use log::{EvaluationLog, Event, StepLog};
pub use loss::{contrastive, non_contrastive};
pub use optimizer::{AdamW, AdamWConfig};
pub use recipe::{Context, Data, Recipe, RecipeError, Training, Variant};
pub use schedule::warmup_linear;
pub use trainer::{Outcome, Summary, Trainer};
