//! What can be wrong with a file of weights.

use std::path::PathBuf;

/// Weights that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be read, or is of no kind that is known.
    #[error("{path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file's pickle calls something that no weights need: perhaps an attack. Nothing was executed.
    #[error(
        "{path}: its pickle would call `{call}`, which no file of weights needs; do not trust it"
    )]
    Refused {
        /// The file.
        path: PathBuf,
        /// What would have been called.
        call: String,
    },
    /// A tensor that is not there.
    #[error("{path} has no tensor `{name}`")]
    NoTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// Values that are not numbers.
    #[error("{path}: `{name}` holds NaN or infinite values; the weights are broken")]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A batch normalisation that cannot be: its variance is below zero.
    #[error("{path}: {}", crate::network::negative_variance(.name, *.value))]
    Variance {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its lowest value.
        value: f32,
    },
    /// Weights of another model.
    #[error("{path} does not fit {model}: {}", problems.join("; "))]
    Misfit {
        /// The file.
        path: PathBuf,
        /// The model.
        model: String,
        /// Missing and mis-shaped tensors.
        problems: Vec<String>,
    },
}
