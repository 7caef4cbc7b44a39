//! Foreign formats: each a [`FeatureSource`] to read and, where someone needs it back, a [`FeatureSink`] to write.
//!
//! `docs/formats.md` in the repository describes every one of them byte by byte.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::lmdb::LmdbError;
use crate::text::visible_id;
use crate::{FeatureStore, Regions, StoreError};

mod base64;
mod detect;
mod folder;
pub mod hdf5;
mod input;
mod listing;
mod lmdb_dump;
mod msgpack;
pub mod npy;
pub mod npz;
mod numbers;
pub mod select;
mod store;
pub mod tsv;
pub mod uniter;
pub mod uniter_text;
pub mod volta;

pub use detect::open;
pub use input::Input;
pub use listing::{Listing, Listings};
pub use store::StoreSource;

/// Largest array of one image that is read; the largest known dumps have 5 MB. Bounds what compressed sources can claim.
pub(crate) const MAX_ARRAY_BYTES: usize = 64 << 20;

/// What a source says about itself.
#[derive(Debug, Clone)]
pub struct SourceInfo {
    /// Name of the format.
    pub format: &'static str,
    /// Where it was opened.
    pub path: PathBuf,
    /// Number of images, if it is known without reading them.
    pub count: Option<u64>,
    /// Changes when the source does: size, date and place of its main file.
    pub fingerprint: String,
}

/// A record of a source, possibly not decoded yet.
pub trait SourceRecord: Send {
    /// The image id.
    fn id(&self) -> &str;

    /// Bytes that the record takes in memory, decoded or not, as far as that can be told without decoding it.
    fn size(&self) -> usize;

    /// The id and the regions.
    ///
    /// # Errors
    /// A record that cannot be read, with its key.
    fn decode(self: Box<Self>) -> Result<(String, Regions), RecordError>;

    /// The store that the record is of, and its id there, if it is of one: what need not be decoded is copied from it.
    fn stored(&self) -> Option<(&FeatureStore, &str)> {
        None
    }

    /// The record's bytes as they are in the source, to be kept in quarantine; empty if they are not at hand.
    fn raw(&self) -> &[u8] {
        &[]
    }
}

/// The records of a source, in its own order.
pub type Records = Box<dyn Iterator<Item = Result<Box<dyn SourceRecord>, RecordError>> + Send>;

/// Something that regions can be read from, one image after the other.
pub trait FeatureSource: Send {
    /// What is known before reading.
    fn info(&self) -> &SourceInfo;

    /// The lists of its images that a dump of this format carries beside them, or what is wrong with a list; none where the
    /// format has no such lists.
    fn listings(&self) -> Vec<Result<Listing, String>> {
        Vec::new()
    }

    /// Reads everything.
    ///
    /// # Errors
    /// If the source cannot be read at all.
    fn records(self: Box<Self>) -> Result<Records, FormatError>;
}

/// Something that regions can be written to, one image after the other.
pub trait FeatureSink {
    /// Adds an image.
    ///
    /// # Errors
    /// [`FormatError::Unwritable`] if the format cannot hold it: then nothing is written of it, and others may follow. If the
    /// disk refuses, none may.
    fn append(&mut self, id: &str, regions: &Regions) -> Result<(), FormatError>;

    /// Completes the output.
    ///
    /// # Errors
    /// As [`append`](FeatureSink::append).
    fn finish(self: Box<Self>) -> Result<(), FormatError>;

    /// Parts that this format has no place for, and how many of the images so far have them.
    fn left_out(&self) -> BTreeMap<&'static str, u64>;
}

/// A source that cannot be read, or a target that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The LMDB environment.
    #[error(transparent)]
    Lmdb(#[from] LmdbError),
    /// A store as source.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// None of the known formats.
    #[error(
        "{path}: {what}; known are LMDB directories (VOLTA's, UNITER's, our own), TSV (plain, gzip, zstd), HDF5, and \
         folders of .npy or .npz files"
    )]
    Unknown {
        /// The file or directory.
        path: PathBuf,
        /// What was found instead.
        what: String,
    },
    /// A known format, but damaged or of a kind that is not supported.
    #[error("{path}: {what}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The target format has no place for an image.
    #[error("{path}: image `{}` cannot be written: {what}", visible_id(.id))]
    Unwritable {
        /// The target.
        path: PathBuf,
        /// The image id.
        id: String,
        /// Why, and what to do.
        what: String,
    },
    /// Two images under one id, of which the target would lose one.
    #[error(
        "{path}: image `{}` comes again with other contents than before; keep the ids apart with --rename, or choose one \
         by making a store first (`xenc store convert SOURCE STORE --on-conflict first`) and writing that",
        visible_id(.id)
    )]
    Duplicate {
        /// The target.
        path: PathBuf,
        /// The image id.
        id: String,
    },
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl FormatError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> FormatError + '_ {
        move |source| FormatError::Io { path: path.to_owned(), source }
    }
}

/// One record that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}, record `{}`: {reason}", visible_id(.key))]
pub struct RecordError {
    /// The source.
    pub path: PathBuf,
    /// The record's key.
    pub key: String,
    /// Why; with the byte offset where one is known.
    pub reason: String,
    /// The record's bytes as they are in the source, if they are at hand.
    pub raw: Vec<u8>,
}

impl RecordError {
    pub(crate) fn new(path: &Path, key: impl Into<String>, reason: impl ToString) -> RecordError {
        let (path, key, reason) = (path.to_owned(), key.into(), reason.to_string());
        RecordError { path, key, reason, raw: Vec::new() }
    }
}

/// Size, date and place of a file, as a fingerprint of its content: the shards of a dump may be of one size and date.
pub(crate) fn fingerprint(file: &Path) -> Result<String, StoreError> {
    let metadata = std::fs::metadata(file).map_err(StoreError::io(file))?;
    let modified = metadata.modified().ok();
    let modified = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let modified = modified.unwrap_or_default().as_nanos();
    Ok(format!("{}-{modified}-{:016x}", metadata.len(), place(file)))
}

fn place(path: &Path) -> u64 {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    xxhash_rust::xxh3::xxh3_64(real.as_os_str().as_encoded_bytes())
}

/// Refuses the shape of an array that is neither a plain list nor a matrix with a row for each of `n` regions.
fn check_rows(shape: &[usize], name: &str, n: usize) -> Result<(), String> {
    match *shape {
        [_] => Ok(()),
        [rows, _] if rows == n => Ok(()),
        _ => Err(format!("its `{name}` have the shape {shape:?} for {n} boxes")),
    }
}

/// Parts of regions that only some formats have a place for, and how many images have them.
struct LeftOut(BTreeMap<&'static str, u64>);

impl LeftOut {
    fn new() -> LeftOut {
        LeftOut(BTreeMap::new())
    }

    /// Notes a part of an image that is there although the format has no place for it.
    fn note(&mut self, name: &'static str, is_there: bool) {
        if is_there {
            *self.0.entry(name).or_default() += 1;
        }
    }
}

/// The path of an image's file in a folder.
///
/// # Errors
/// An id that is no plain file name: it must not lead out of the folder.
fn file_of(folder: &Path, id: &str, suffix: &str) -> Result<PathBuf, FormatError> {
    let plain = !id.is_empty()
        && !id.contains(['/', '\\', '\0'])
        && id != "."
        && id != ".."
        && id.len() + suffix.len() <= 255;
    if plain {
        return Ok(folder.join(format!("{id}{suffix}")));
    }
    let what = "its id is no file name; rename it with --rename".to_owned();
    Err(FormatError::Unwritable { path: folder.to_owned(), id: id.to_owned(), what })
}

/// A fingerprint of many files: their number, total size, latest date, and the first one's place.
fn fingerprint_of_all(files: &[PathBuf]) -> String {
    let (mut bytes, mut latest) = (0, std::time::UNIX_EPOCH);
    for metadata in files.iter().filter_map(|file| std::fs::metadata(file).ok()) {
        bytes += metadata.len();
        latest = latest.max(metadata.modified().unwrap_or(latest));
    }
    let latest = latest.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let place = files.first().map_or(0, |file| place(file));
    format!("{}-{bytes}-{}-{place:016x}", files.len(), latest.as_nanos())
}
