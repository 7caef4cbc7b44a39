//! The phenomena of predicted descriptions (see [`dataset::Phenomena`]).

use std::path::{Path, PathBuf};

use dataset::DatasetError;

use super::AnnotationsError;
use crate::Prediction;

pub use dataset::phenomenon_name;

/// The phenomena of descriptions.
#[derive(Debug, Clone, PartialEq)]
pub struct Phenomena {
    path: PathBuf,
    entries: dataset::Phenomena,
}

impl Phenomena {
    /// Reads a file.
    ///
    /// # Errors
    /// [`AnnotationsError::Io`], [`AnnotationsError::Phenomena`]; the latter also if a set or a description occurs twice.
    pub fn load(path: &Path) -> Result<Phenomena, AnnotationsError> {
        let entries = dataset::Phenomena::load(path).map_err(|error| match error {
            DatasetError::Io { path, source } => AnnotationsError::Io { path, source },
            other => AnnotationsError::Phenomena(other),
        })?;
        Ok(Phenomena { path: path.to_owned(), entries })
    }

    /// The codes of a description's phenomena, as [`dataset::Phenomena::of`] gives them.
    pub fn of(&self, directory: &str, number: usize) -> Option<&[String]> {
        self.entries.of(directory, number)
    }

    /// Makes sure that the file is about these descriptions, and counts those whose text is another one there: a few of
    /// the published file are. Differences of white space do not count.
    ///
    /// # Errors
    /// [`AnnotationsError::OtherSplit`] if it has none of them, [`AnnotationsError::OtherText`] if it has another text
    /// for more than half of those that it has.
    pub fn check(&self, predictions: &[Prediction]) -> Result<usize, AnnotationsError> {
        let mut known = 0;
        let mut others = Vec::new();
        for prediction in predictions {
            let Prediction { directory, number, text, .. } = prediction;
            let Some(annotated) = self.entries.text(directory, *number) else { continue };
            known += 1;
            if self.entries.has_text(directory, *number, text) == Some(false) {
                others.push((prediction, annotated));
            }
        }
        super::check_known(&self.path, known, predictions)?;
        match others.first() {
            Some((prediction, annotated)) if 2 * others.len() > known => {
                Err(AnnotationsError::OtherText {
                    path: self.path.clone(),
                    others: others.len(),
                    known,
                    directory: prediction.directory.clone(),
                    number: prediction.number,
                    annotated: (*annotated).to_owned(),
                    ranked: prediction.text.clone(),
                })
            }
            _ => Ok(others.len()),
        }
    }
}
