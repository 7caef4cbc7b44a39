//! How well the images of sets are ranked, whatever has ranked them: predictions, metrics with intervals by kind of set,
//! annotator and phenomenon, comparison of two runs, the leaderboard's file.
//!
//! It knows neither models nor devices, so that everything in it can be had without libtorch and ONNX Runtime.

pub mod analysis;
mod annotations;
mod bootstrap;
mod comparison;
mod digest;
mod evaluation;
mod metrics;
mod predictions;
mod submission;
mod whole_file;

pub use annotations::{AnnotationsError, Annotator, Annotators, Phenomena, phenomenon_name};
pub use bootstrap::{Bootstrap, FEWEST_SETS, Interval};
pub use comparison::{CompareError, Comparison, Difference, mcnemar};
pub use digest::digest;
pub use evaluation::{
    ByAnnotator, ByPhenomenon, Estimate, Evaluation, EvaluationError, Phenomenon, Row,
};
pub use metrics::{Group, Metrics};
pub use predictions::{
    Origin, Prediction, Predictions, PredictionsError, Question, read_predictions,
    write_predictions,
};
pub use submission::{SkippedSet, SubmissionError, check_submission, write_submission};
pub use whole_file::write_whole;
