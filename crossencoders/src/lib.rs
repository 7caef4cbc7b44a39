//! Vision-and-language cross-encoders in libtorch: models, data, training, evaluation.
#![warn(missing_docs)]

pub mod config;
pub mod data;
pub mod eval;
pub mod model;
pub mod train;
pub mod weights;
