//! Rewriting of whole models. A pass reads the types of values off the model, so it needs one that tells of all of them, as
//! those of [`crate::GraphBuilder`] do.

mod half;
mod quantize;

pub use half::{HalfOptions, half};
pub use quantize::{QuantizeOptions, quantize};

use crate::tensor::TensorError;

/// What can go wrong with a pass.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PassError {
    /// The model does not tell a value's type.
    #[error("the model does not tell the type of `{0}`; run shape inference on it first")]
    Untyped(String),
    /// A constant that cannot be read.
    #[error("constant `{name}`: {source}")]
    Constant {
        /// Its name.
        name: String,
        /// What is wrong.
        source: TensorError,
    },
}
