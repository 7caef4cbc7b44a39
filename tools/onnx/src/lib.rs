//! Builds, checks, rewrites and runs ONNX graphs, without Python.
//!
//! - [`GraphBuilder`] makes graphs from operators whose types and shapes are checked on the spot; [`Model`] is the result,
//!   written to and read from files by [`mod@file`].
//! - [`passes`] rewrite a model: half precision, 8-bit products.
//! - [`runtime`] opens the ONNX Runtime that is on the machine and runs files on a [`runtime::Device`]: what was asked for,
//!   or an error that says what is missing.
//! - [`kernels`] knows which operators run on CUDA in this version of ONNX Runtime.
//!
//! No graph built here computes a shape: a reshape keeps sides (0) or takes what is left (-1). Shape computations would
//! run on the CPU in the middle of a graph on a GPU.
#![warn(missing_docs)]

mod builder;
mod error;
pub mod file;
pub mod kernels;
mod model;
pub mod passes;
pub mod proto;
pub mod runtime;
mod shape;
mod tensor;

pub use builder::{ConvOptions, GraphBuilder, PoolOptions, Value};
pub use error::{BuildError, BuildFault};
pub use model::Model;
pub use shape::{Dim, Shape};
pub use tensor::{Dtype, Elements, TensorData, TensorError};

#[cfg(target_endian = "big")]
compile_error!("numbers are written as they lie in memory, which files need little-endian");

/// Version of the standard operators that every graph uses: the first with `LayerNormalization`, and before 22, in which
/// ONNX Runtime has no kernel for `MaxRoiPool`.
pub const OPSET: i64 = 17;

/// Version of the file format that belongs to [`OPSET`].
pub const IR_VERSION: i64 = 8;
