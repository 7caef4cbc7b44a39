//! Many pictures into a feature store: found, decoded and preprocessed ahead of the network, which never waits for them
//! if it can be helped.
//!
//! A run that was interrupted goes on where it stopped when it is asked for again; a part of the pictures
//! ([`Pictures::shard`]) makes a store that merges with the others. Pictures that cannot be used are left out and named in
//! the report.

mod ahead;
mod archive;
mod boxes;
mod draw;
mod embed;
mod ids;
mod kind;
mod pictures;
mod rank;
mod regions;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use feature_store::{Schema, StoreError, validate};
use serde::Serialize;

pub use boxes::{Boxes, BoxesError};
pub use draw::{Names, draw};
pub use embed::{EmbedOptions, embed};
pub use ids::IdRule;
pub use pictures::{Pictures, PicturesError};
pub use rank::{Ranking, rank};
pub use regions::{RegionOptions, extract};

use crate::clip::EncodeError;
use crate::detector::DetectError;

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pictures.
    #[error(transparent)]
    Pictures(#[from] PicturesError),
    /// The detector: not its opinion of one picture, but itself.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// The same, on one picture: of the others nothing is known yet.
    #[error("on {picture}: {source}")]
    On {
        /// The picture.
        picture: String,
        /// What the detector says.
        source: DetectError,
    },
    /// CLIP.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A picture with boxes drawn on it cannot be written.
    #[error("{path}: {reason}")]
    Show {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A folder for drawings that holds something else.
    #[error("{path} {what}; choose another folder for drawings (--show-in)")]
    ShownIn {
        /// The folder, or a file in it.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A detector that takes boxes without any, or boxes for one that does not.
    #[error("{0}")]
    Boxes(&'static str),
    /// A store of something else than embeddings of the model.
    #[error(
        "`{id}` of the store is {found}, no embedding of {dim} values; rank with a store that `xenc clip embed` has made \
         with the same model"
    )]
    OtherEmbeddings {
        /// An image.
        id: String,
        /// What the store holds of it.
        found: String,
        /// Values of the model's embeddings.
        dim: usize,
    },
    /// A similarity that is no number: an embedding of zeros.
    #[error(
        "the embedding of a text or an image of {0} has no length: the model's weights are broken"
    )]
    NoLength(String),
    /// An interrupted run of other pictures: of more than there are now, or of another part.
    #[error(
        "{target}: the interrupted run has done {count} pictures that are not among these; take the same pictures, or \
         start anew with --force"
    )]
    OtherPictures {
        /// The store that was to be made.
        target: PathBuf,
        /// How many.
        count: u64,
    },
    /// An interrupted run of pictures that are others by now.
    #[error(
        "{target}: {count} pictures have changed since the interrupted run that has done them, {first} among them; start \
         anew with --force"
    )]
    ChangedPictures {
        /// The store that was to be made.
        target: PathBuf,
        /// How many.
        count: usize,
        /// One of them.
        first: String,
    },
    /// Not one picture could be used.
    #[error("none of the {count} pictures could be used; the first: {first}")]
    Nothing {
        /// Pictures.
        count: usize,
        /// What is wrong with the first.
        first: String,
    },
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Pictures done, those of an interrupted run included.
    pub done: usize,
    /// Pictures that were left out.
    pub broken: usize,
    /// Pictures in all.
    pub total: usize,
}

/// A picture that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// Its id.
    pub id: String,
    /// Its file, and what is wrong with it.
    pub reason: String,
}

/// Where the time went, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Timing {
    /// In all, without the validation.
    pub total: f64,
    /// In the network, and choosing among its answers.
    pub inference: f64,
    /// Waiting for a picture to be decoded and preprocessed.
    pub waiting: f64,
    /// Writing into the store.
    pub writing: f64,
}

impl Timing {
    /// The part of the time, 0 to 1, in which the network did not run.
    pub fn outside_inference(&self) -> f64 {
        if self.total > 0.0 { 1.0 - self.inference / self.total } else { 0.0 }
    }

    fn add(part: &mut f64, time: Duration) {
        *part += time.as_secs_f64();
    }
}

/// What was done.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The store's own account of itself.
    pub schema: Schema,
    /// Pictures taken over from an interrupted run.
    pub resumed: usize,
    /// Pictures that were left out.
    pub broken: Vec<Broken>,
    /// Where the time went.
    pub timing: Timing,
    /// The validation of the finished store.
    pub validation: validate::Report,
}

/// Identifies a file by its content: what a store says about the model that made it.
///
/// # Errors
/// What the system says.
pub fn fingerprint(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = xxhash_rust::xxh3::Xxh3::new();
    let mut block = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(format!("{:016x}", digest.digest()));
        }
        digest.update(&block[..read]);
    }
}
