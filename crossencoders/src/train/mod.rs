//! Training, as ImageCoDe's scripts and pytorch_transformers 1.2.0 do it.
//!
//! `course.rs` tells the story of every run; [`Trainer`] and [`Pretrainer`](pretrain::Pretrainer) say what is learnt in it.

mod average;
mod course;
pub mod distributed;
mod error;
mod folder;
mod groups;
mod log;
mod loss;
mod optimisation;
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

pub use course::{Outcome, Summary};
pub use error::{Cause, StepIds, TrainError};
pub use log::{Event, StepLog, ValidLog};
pub use loss::{contrastive, non_contrastive};
pub use optimizer::{AdamRule, AdamW, AdamWConfig};
pub(crate) use recipe::expect;
pub use recipe::{Context, Data, Recipe, RecipeError, Variant};
pub use schedule::{Schedule, warmup_linear};
pub use settings::{Group, Precision, Training};
pub use trainer::Trainer;
