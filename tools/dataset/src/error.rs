//! Why an annotation file cannot be used.

use std::path::{Path, PathBuf};

/// Why an annotation file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not JSON; the position is in the source error.
    #[error("{path} is not valid JSON: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// JSON in none of the three layouts.
    #[error("{path}, `{entry}`: {what}")]
    Layout {
        /// The file.
        path: PathBuf,
        /// The set directory, or the number of the entry.
        entry: String,
        /// What is wrong.
        what: String,
    },
    /// A line of a JSON Lines file.
    #[error("{path}, line {line}: {what}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, with the key.
        what: String,
    },
    /// A file of phenomena.
    #[error("{path}: {what}; {layout} is expected")]
    Phenomena {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        what: String,
        /// What should be there.
        layout: &'static str,
    },
    /// A pickle beside VOLTA's questions.
    #[error("{path}: {what}")]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A folder without a data set.
    #[error(
        "{0} holds no data set: neither ImageCoDe's files (train*.json, val*.json, test*.json) nor JSON Lines (*.jsonl)"
    )]
    NoDataSet(PathBuf),
    /// VOLTA's questions where there is nothing else to check.
    #[error(
        "{0} holds VOLTA's questions, which are not checked as they are; `xenc data convert {0} own.jsonl --to jsonl` \
         says what is wrong with them, or writes a file that can be checked"
    )]
    Questions(PathBuf),
    /// A store of features that images are looked for in.
    #[error(transparent)]
    Store(#[from] feature_store::StoreError),
    /// No description at all.
    #[error("{0} holds no descriptions")]
    Empty(PathBuf),
    /// `annotator_split_valid.json`, which has the layout of a labelled split.
    #[error(
        "{0} tells who has written the descriptions, not what they say; name the split itself (valid_data.json)"
    )]
    Annotators(PathBuf),
}

impl DatasetError {
    /// Says which file the system refuses.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> DatasetError + '_ {
        |source| DatasetError::Io { path: path.to_owned(), source }
    }
}
