//! Training, as ImageCoDe's scripts and pytorch_transformers 1.2.0 do it.
//!
//! [`Trainer`] tells the story; one file each for the order of the data, a step, checkpoints, and what is logged.

mod average;
mod checkpoint;
pub mod distributed;
mod error;
mod folder;
mod groups;
mod log;
mod loss;
mod optimizer;
mod order;
pub mod pretrain;
mod recipe;
mod schedule;
mod settings;
mod step;
pub(crate) mod tensorboard;
mod tfrecord;
mod trainer;
mod update;

pub use error::{Cause, StepIds, TrainError};
pub use log::{EvaluationLog, Event, StepLog};
pub use loss::{contrastive, non_contrastive};
pub use optimizer::{AdamW, AdamWConfig};
pub use recipe::{Context, Data, Recipe, RecipeError, Variant};
pub use schedule::warmup_linear;
pub use settings::{Group, Precision, Training};
pub use trainer::{Outcome, Summary, Trainer};
