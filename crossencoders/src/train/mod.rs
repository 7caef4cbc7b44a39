//! Parts of a training step, as ImageCoDe's training scripts and pytorch_transformers 1.2.0 have them.

mod loss;
mod optimizer;
mod schedule;

pub use loss::{contrastive, non_contrastive};
pub use optimizer::{AdamW, AdamWConfig};
pub use schedule::warmup_linear;
