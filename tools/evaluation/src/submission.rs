//! The file that ImageCoDe's leaderboard takes: `{set directory: [position of the image, …]}`, in the order of
//! the unlabelled split.

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use dataset::SET_SIZE;
use serde::Serialize;
use serde_json::{Map, Value};

use super::whole_file::write_whole;

/// Sets named in an error.
const NAMED: usize = 10;

/// A set that cannot be used because images of it are not in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkippedSet {
    /// Its directory.
    pub directory: String,
    /// How many images the store has of it.
    pub found: usize,
    /// How many it should have.
    pub of: usize,
}

impl fmt::Display for SkippedSet {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let SkippedSet { directory, found, of } = self;
        write!(out, "{directory}: {found} of {of} images")
    }
}

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

/// Fails unless a split of so many sets, of which some are skipped, can be answered in full; `candidates` counts those of every
/// description. To be asked before the work of scoring it.
///
/// # Errors
/// [`SubmissionError::Incomplete`], [`SubmissionError::Candidates`].
pub fn check_submission(
    sets: usize,
    skipped: &[SkippedSet],
    candidates: impl IntoIterator<Item = usize>,
) -> Result<(), SubmissionError> {
    if !skipped.is_empty() {
        return Err(SubmissionError::Incomplete {
            missing: skipped.len(),
            sets,
            named: skipped.iter().take(NAMED).cloned().collect(),
        });
    }
    match candidates.into_iter().find(|&candidates| candidates != SET_SIZE) {
        Some(candidates) => Err(SubmissionError::Candidates(candidates)),
        None => Ok(()),
    }
}

/// Writes the best candidate of every description of a split that [`check_submission`] has passed, in its order, each given
/// with the directory of its set; the file is complete or not there.
///
/// # Errors
/// [`SubmissionError::Io`].
pub fn write_submission<'a>(
    path: &Path,
    best: impl IntoIterator<Item = (&'a str, usize)>,
) -> Result<(), SubmissionError> {
    let mut answers = Map::new();
    for (directory, best) in best {
        let answer = answers.entry(directory).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(answers) = answer {
            answers.push(best.into());
        }
    }
    write_whole(path, |out| {
        serde_json::to_writer_pretty(&mut *out, &answers)?;
        out.write_all(b"\n")
    })
    .map_err(|source| SubmissionError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_splits_of_ten_have_a_file() {
        let skipped =
            |n: usize| SkippedSet { directory: format!("set{n}"), found: n, of: SET_SIZE };
        check_submission(3, &[], [SET_SIZE; 4]).unwrap();
        let error = check_submission(3, &[], [SET_SIZE, 2]).unwrap_err().to_string();
        assert!(error.contains("2 candidates"), "{error}");
        let many: Vec<SkippedSet> = (0..NAMED + 1).map(skipped).collect();
        let error = check_submission(20, &many, []).unwrap_err().to_string();
        assert!(error.starts_with("11 of 20 sets lack images"), "{error}");
        assert!(error.contains("set9") && error.ends_with("; …"), "{error}");
    }

    #[test]
    fn answers_stand_by_set_in_the_order_of_the_split() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.json");
        write_submission(&path, [("b", 3), ("a", 0), ("b", 9)]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let compact: String = text.split_whitespace().collect();
        assert_eq!(compact, r#"{"b":[3,9],"a":[0]}"#);
    }
}
