//! What can be wrong with a store.

use std::path::PathBuf;

use crate::lmdb::LmdbError;
use crate::text::visible;

/// What can be wrong with a store, and where.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The LMDB environment cannot be opened or read.
    #[error(transparent)]
    Lmdb(#[from] LmdbError),
    /// A sound LMDB environment that is no store of ours.
    #[error(
        "{path} is an LMDB environment but not a feature store; convert it with `xenc store convert`"
    )]
    NotAStore {
        /// The directory.
        path: PathBuf,
    },
    /// What a run that was interrupted, or is still going on, has written so far.
    #[error("{path} is an unfinished store; run the command that writes it again to finish it")]
    Unfinished {
        /// The directory.
        path: PathBuf,
    },
    /// Written by another version of this program.
    #[error("{path} has format version {found}, this program reads {expected}")]
    Version {
        /// The directory.
        path: PathBuf,
        /// Version in the file.
        found: u8,
        /// Version of this program.
        expected: u8,
    },
    /// No record under this id.
    #[error("{path} holds no image `{}`", visible(.id))]
    NotFound {
        /// The directory.
        path: PathBuf,
        /// The image id.
        id: String,
    },
    /// A record or the schema does not read back as it was written.
    #[error("{path}: the record of `{}` is damaged: {what}; convert the source again", visible(.key))]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// Image id, or `schema`.
        key: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A store with more or fewer images than its schema says.
    #[error(
        "{path} says that it holds {says} images, and holds {holds}; get a sound copy, or `xenc store repair` makes a store \
         of what is there"
    )]
    Count {
        /// The directory.
        path: PathBuf,
        /// Images it says that it holds.
        says: u64,
        /// Images it holds.
        holds: u64,
    },
    /// A store whose records are not what its schema says.
    #[error(
        "{path} is damaged or was changed: its schema does not fit the record of `{}` ({what}); `xenc store validate` lists \
         what does not fit, `xenc store repair` makes a store of what does",
        visible(.id)
    )]
    Schema {
        /// The directory.
        path: PathBuf,
        /// The image id.
        id: String,
        /// What is otherwise.
        what: String,
    },
    /// An id that LMDB cannot hold.
    #[error("image id `{}` has {bytes} bytes; 1 to 511 are possible", visible(.id))]
    IdLength {
        /// The id, shortened.
        id: String,
        /// Its length.
        bytes: usize,
    },
    /// Two different records under one id.
    #[error(
        "image `{}` comes again with other contents than before ({differs}); `--on-conflict first` or `last` chooses one, \
         `--rename` keeps the ids of different images apart",
        visible(.id)
    )]
    Duplicate {
        /// The image id.
        id: String,
        /// What is different, and where that is known, where the records are.
        differs: String,
    },
    /// Regions that contradict themselves or the rest of the store.
    #[error("image `{}`: {what}", visible(.id))]
    Regions {
        /// The image id.
        id: String,
        /// What is wrong with them.
        what: String,
    },
    /// The target is there already.
    #[error("{0} exists; remove it, or replace it with `--force`")]
    Exists(PathBuf),
    /// The target is or holds what is to be read.
    #[error("{path} is or holds the source {input}, which would be lost; choose another target")]
    HoldsSource {
        /// The target.
        path: PathBuf,
        /// The source.
        input: PathBuf,
    },
    /// What is to be written lies inside a store, a dump, or the target itself.
    #[error("{path} is or lies inside {inside}; choose another place for {what}")]
    Inside {
        /// What was to be written.
        path: PathBuf,
        /// What it lies in.
        inside: PathBuf,
        /// What it is: the target, the quarantine.
        what: &'static str,
    },
    /// The target is there and neither a store nor an export like the one to be written.
    #[error(
        "{path} exists and holds {what}; only stores, and exports in the format that is written, are ever replaced: \
         choose another target, or move it away"
    )]
    Irreplaceable {
        /// The target.
        path: PathBuf,
        /// What is there.
        what: String,
    },
    /// Two stores whose records cannot stand beside each other.
    #[error("{path} has {what} ({other}); make them alike with `xenc store convert`")]
    Mismatch {
        /// The store that differs.
        path: PathBuf,
        /// From which.
        other: PathBuf,
        /// In what.
        what: String,
    },
    /// Two stores whose boxes are meant differently.
    #[error(
        "{path} has boxes {convention}, {other} {others}; they cannot stand in one store: only the sizes of the images \
         would tell one from the other"
    )]
    Boxes {
        /// The store that differs.
        path: PathBuf,
        /// How its boxes are meant.
        convention: &'static str,
        /// From which.
        other: PathBuf,
        /// How that one's are.
        others: &'static str,
    },
    /// What is written beside the target has the name of something that no command of this program has left there.
    #[error("{0} is in the way and not of xenc's making; move it to another place, or remove it")]
    InTheWay(PathBuf),
    /// Another process is writing the same store.
    #[error("another process is writing {0}")]
    Locked(PathBuf),
    /// What an unfinished run left behind comes from another source or is encoded otherwise.
    #[error(
        "{target}: an unfinished run with another {differs} has left {partial}; the command of that run goes on with \
         it, `--force` drops it and starts anew"
    )]
    OtherPartial {
        /// The store that was to be written.
        target: PathBuf,
        /// What is left of it.
        partial: PathBuf,
        /// What is different about the two runs.
        differs: String,
    },
    /// What an interrupted run left behind cannot be read any more.
    #[error(
        "{target}: what an unfinished run has left in {partial} cannot be used ({what}); remove that folder, or `--force` \
         drops it and starts anew"
    )]
    DamagedPartial {
        /// The store that was to be written.
        target: PathBuf,
        /// What is left of it.
        partial: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Fewer images than shards.
    #[error("{path} holds {images} images: {shards} shards would not all have one")]
    Shards {
        /// The directory.
        path: PathBuf,
        /// Images in it.
        images: u64,
        /// Shards asked for.
        shards: u32,
    },
    /// A damaged store of which nothing is left.
    #[error("{path}: nothing can be salvaged; {what}")]
    NothingLeft {
        /// The directory.
        path: PathBuf,
        /// What was found instead of records.
        what: String,
    },
    /// A batch was asked for that cannot be made.
    #[error("batch: {0}")]
    Batch(String),
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl StoreError {
    /// What is wrong, where the path and the id are told anyhow.
    pub(crate) fn reason(&self) -> String {
        match self {
            StoreError::Damaged { what, .. } => format!("it is damaged: {what}"),
            StoreError::IdLength { bytes, .. } => {
                format!("its id has {bytes} bytes; 1 to {} are possible", crate::MAX_ID_BYTES)
            }
            StoreError::Regions { what, .. } => what.clone(),
            other => other.to_string(),
        }
    }

    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| StoreError::Io { path, source }
    }
}
