//! ImageCoDe's split by annotator, `annotator_split_valid.json`: `{set directory: {number: "unseen_worker" or
//! "train_worker"}}`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{AnnotationsError, read};
use crate::Prediction;

const LAYOUT: &str =
    "JSON of set directories, description numbers, `unseen_worker` or `train_worker`";

/// Whether a model can have learnt an annotator's habits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Annotator {
    /// The description's annotator has described images of the training split, too.
    #[serde(rename = "train_worker")]
    Seen,
    /// None of the annotator's descriptions is in the training split.
    #[serde(rename = "unseen_worker")]
    Unseen,
}

/// The annotators of descriptions.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotators {
    path: PathBuf,
    entries: HashMap<String, HashMap<usize, Annotator>>,
}

impl Annotators {
    /// Reads a file.
    ///
    /// # Errors
    /// [`AnnotationsError::Io`], [`AnnotationsError::Layout`].
    pub fn load(path: &Path) -> Result<Annotators, AnnotationsError> {
        let entries = serde_json::from_str(&read(path)?).map_err(|error| {
            let (path, what) = (path.to_owned(), error.to_string());
            AnnotationsError::Layout { path, what, layout: LAYOUT }
        })?;
        Ok(Annotators { path: path.to_owned(), entries })
    }

    /// Who has written a description; `None` if the file does not have it.
    pub fn of(&self, directory: &str, number: usize) -> Option<Annotator> {
        self.entries.get(directory)?.get(&number).copied()
    }

    /// Makes sure that the file is about these descriptions.
    ///
    /// # Errors
    /// [`AnnotationsError::OtherSplit`] if it has none of them.
    pub fn check(&self, predictions: &[Prediction]) -> Result<(), AnnotationsError> {
        let known = predictions
            .iter()
            .filter(|prediction| self.of(&prediction.directory, prediction.number).is_some())
            .count();
        super::check_known(&self.path, known, predictions)
    }
}
