//! The file that ImageCoDe's leaderboard takes: `{set directory: [position of the image, …]}`, in the order of
//! the unlabelled split.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use feature_store::dataset::SET_SIZE;
use serde_json::{Map, Value};

use super::predictions::best;
use super::whole_file::write_whole;
use crate::data::{ImageSets, SkippedSet};

/// Sets named in an error.
const NAMED: usize = 10;

/// Why there is no leaderboard file.
#[derive(Debug, thiserror::Error)]
pub enum SubmissionError {
    /// The leaderboard wants an answer for every description.
    #[error(
        "{missing} of {sets} sets lack images in the feature store: {}{}",
        named.iter().map(SkippedSet::to_string).collect::<Vec<_>>().join("; "),
        if missing > &named.len() { "; …" } else { "" }
    )]
    Incomplete {
        /// How many sets are incomplete.
        missing: usize,
        /// How many there are.
        sets: usize,
        /// The first incomplete ones.
        named: Vec<SkippedSet>,
    },
    /// ImageCoDe-simple has no leaderboard.
    #[error(
        "the split's descriptions have {0} candidates, the leaderboard is about sets of {SET_SIZE}"
    )]
    Candidates(usize),
    /// The file cannot be written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Fails unless a split can be answered in full; to be asked before the work of scoring it.
///
/// # Errors
/// [`SubmissionError::Incomplete`], [`SubmissionError::Candidates`].
pub fn check(sets: &ImageSets) -> Result<(), SubmissionError> {
    if !sets.skipped.is_empty() {
        return Err(SubmissionError::Incomplete {
            missing: sets.skipped.len(),
            sets: sets.sets,
            named: sets.skipped.iter().take(NAMED).cloned().collect(),
        });
    }
    match sets.examples.iter().find(|example| example.images.len() != SET_SIZE) {
        Some(example) => Err(SubmissionError::Candidates(example.images.len())),
        None => Ok(()),
    }
}

/// Writes the best candidate of every description; the file is complete or not there.
///
/// # Errors
/// [`SubmissionError`].
pub fn write_submission(
    sets: &ImageSets,
    scores: &[Vec<f32>],
    path: &Path,
) -> Result<(), SubmissionError> {
    check(sets)?;
    let mut answers = Map::new();
    for (example, scores) in sets.examples.iter().zip(scores) {
        let answer = answers.entry(&example.directory).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(answers) = answer {
            answers.push(best(scores).into());
        }
    }
    write_whole(path, |out| {
        serde_json::to_writer_pretty(&mut *out, &answers)?;
        out.write_all(b"\n")
    })
    .map_err(|source| SubmissionError::Io { path: path.to_owned(), source })
}
