//! Model files: writing, reading, and constants that lie in a second file because the first may hold 2 GiB at most.

mod read;
mod write;

use std::path::PathBuf;

pub use read::{outside, read};
pub use write::{Placement, replace, write};

use crate::tensor::TensorError;

/// What can be wrong with a model file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The bytes are no ONNX message.
    #[error("{path} is no ONNX file, or is damaged: {what}")]
    NotOnnx {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A constant is not what the file says it is.
    #[error("{path}: constant `{name}`: {fault}")]
    Constant {
        /// The file.
        path: PathBuf,
        /// Name of the constant.
        name: String,
        /// What is wrong.
        fault: ConstantFault,
    },
    /// More than 2 GiB without the constants.
    #[error(
        "{path} would have {bytes} bytes without the constants outside; 2 GiB is the most that the format allows"
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
}

/// What can be wrong with a constant of a file.
#[derive(Debug, thiserror::Error)]
pub enum ConstantFault {
    /// Type, shape or number of bytes.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The second file cannot be read.
    #[error("its values should lie in {path}: {source}; keep that file beside the model")]
    Missing {
        /// The second file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The second file is too short.
    #[error("its values should lie at bytes {offset} to {end} of {path}, which has {bytes}")]
    Short {
        /// The second file.
        path: PathBuf,
        /// First byte.
        offset: u64,
        /// One past the last byte.
        end: u64,
        /// Bytes there.
        bytes: u64,
    },
    /// The second file's name leads elsewhere.
    #[error("its values should lie in `{0}`; only a file beside the model is read")]
    Elsewhere(String),
    /// Offset or length that is no number.
    #[error("`{0}` is no offset or length")]
    Number(String),
}

impl FileError {
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> FileError {
        let path = path.to_owned();
        move |source| FileError::Io { path, source }
    }
}
