//! Foreign formats: each a [`FeatureSource`], found by its content.

use std::path::{Path, PathBuf};

use crate::Regions;
use crate::lmdb::LmdbError;

pub mod volta;

/// What a source says about itself.
#[derive(Debug, Clone)]
pub struct SourceInfo {
    /// Name of the format.
    pub format: &'static str,
    /// Where it was opened.
    pub path: PathBuf,
    /// Number of images, if it is known without reading them.
    pub count: Option<u64>,
    /// Changes when the source does: size and date of its main file.
    pub fingerprint: String,
}

/// A record of a source, possibly not decoded yet.
pub trait SourceRecord: Send {
    /// The image id.
    fn id(&self) -> &str;

    /// The id and the regions.
    ///
    /// # Errors
    /// A record that cannot be read, with its key.
    fn decode(self: Box<Self>) -> Result<(String, Regions), RecordError>;
}

/// The records of a source, in its own order.
pub type Records = Box<dyn Iterator<Item = Result<Box<dyn SourceRecord>, RecordError>> + Send>;

/// Something that regions can be read from, one image after the other.
pub trait FeatureSource: Send {
    /// What is known before reading.
    fn info(&self) -> &SourceInfo;

    /// Reads everything.
    ///
    /// # Errors
    /// If the source cannot be read at all.
    fn records(self: Box<Self>) -> Result<Records, FormatError>;
}

/// A source that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The LMDB environment.
    #[error(transparent)]
    Lmdb(#[from] LmdbError),
    /// None of the known formats.
    #[error(
        "{path}: {what}; known: VOLTA's LMDB directories (image id -> pickled record, and `keys`)"
    )]
    Unknown {
        /// The file or directory.
        path: PathBuf,
        /// What was found instead.
        what: String,
    },
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// One record that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}, record `{key}`: {reason}")]
pub struct RecordError {
    /// The source.
    pub path: PathBuf,
    /// The record's key.
    pub key: String,
    /// Why; with the byte offset where one is known.
    pub reason: String,
}

/// Opens a source, its format found from its content.
///
/// # Errors
/// [`FormatError::Unknown`] for what is none of the formats.
pub fn open(path: &Path) -> Result<Box<dyn FeatureSource>, FormatError> {
    Ok(Box::new(volta::VoltaSource::open(path)?))
}
