//! Why training stops.

use std::path::PathBuf;

use crate::data::DataError;
use crate::eval::EvalError;
use crate::ranker::RankerError;
use crate::run::RunError;
use crate::weights::WeightsError;

/// Why training stops.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The model cannot be made or saved.
    #[error(transparent)]
    Ranker(#[from] RankerError),
    /// The optimiser's state.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The run's folder.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The validation split cannot be ranked.
    #[error("validation: {0}")]
    Eval(#[from] EvalError),
    /// A recipe without anything to train.
    #[error("the variant zero_shot is not trained: give the recipe to `eval` or `predict`")]
    ZeroShot,
    /// A split to train on or to validate with has no answers.
    #[error("{0} is not labelled")]
    Unlabelled(PathBuf),
    /// The loss is no number any more.
    #[error(
        "the loss at step {step} is {loss}: try a lower learning rate; the last checkpoint is as it was"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// The loss.
        loss: f64,
    },
    /// A checkpoint that cannot be gone on from.
    #[error("{path}: {reason}; --force begins anew")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl From<DataError> for TrainError {
    fn from(error: DataError) -> Self {
        TrainError::Ranker(error.into())
    }
}
