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
    /// A weight that f16 cannot hold.
    #[error(
        "`{name}` holds {largest:e}, and f16 reaches only to ±65504; export it in f32, without half precision (`--fp16`)"
    )]
    Range {
        /// The constant: a tensor of the weights, or what was folded of it.
        name: String,
        /// Its value that is farthest from zero.
        largest: f32,
    },
}
