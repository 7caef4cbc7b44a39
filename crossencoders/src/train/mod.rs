//! Training, as ImageCoDe's scripts and pytorch_transformers 1.2.0 do it.

mod loss;
mod optimizer;
mod recipe;
mod schedule;
mod trainer;
mod update;

pub use loss::{contrastive, non_contrastive};
pub use optimizer::{AdamW, AdamWConfig};
pub use recipe::{Context, Data, Recipe, RecipeError, Training, Variant};
pub use schedule::warmup_linear;
pub use trainer::{Event, Outcome, StepLog, Summary, TrainError, Trainer};
