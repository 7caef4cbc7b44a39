//! What can go wrong with weights.

use std::io;
use std::path::PathBuf;

use super::hub::HubError;

/// Why weights cannot be loaded or written.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be read, or is neither a safetensors nor a sound PyTorch file.
    #[error("{path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file cannot be written.
    #[error("{path} cannot be written: {source}")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says, or why there can be no such file.
        source: io::Error,
    },
    /// The weights are those of another model.
    #[error("{path} does not fit the model: {}", first(problems))]
    Misfit {
        /// The file.
        path: PathBuf,
        /// Missing and mis-shaped tensors.
        problems: Vec<String>,
    },
    /// Names of one convention become those of another only for a model that is known.
    #[error("{path} has {from}'s names, which become {to}'s only with a model configuration")]
    NeedsConfig {
        /// The file.
        path: PathBuf,
        /// Its convention.
        from: &'static str,
        /// The convention asked for.
        to: &'static str,
    },
    /// The file to write is there already.
    #[error("{path} exists: give another name, or replace it with --force")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// An address of the model hub that cannot be used.
    #[error(transparent)]
    Hub(#[from] HubError),
}

/// Most problems that a message tells.
const TOLD: usize = 8;

fn first(problems: &[String]) -> String {
    let told = problems[..problems.len().min(TOLD)].join("; ");
    match problems.len().saturating_sub(TOLD) {
        0 => told,
        more => format!("{told}; and {more} more"),
    }
}
