//! Descriptions and their candidate images, from annotation files and a feature store to tensors.

mod batcher;
mod captions;
mod image_sets;
mod images;
mod limits;
mod loader;
pub mod masking;
mod negatives;
mod pretraining;
pub mod synthetic;
mod tokenizer;

use std::path::PathBuf;

use dataset::DatasetError;
use evaluation::SkippedSet;
use feature_store::StoreError;

pub use batcher::{by_length, shuffled};
pub use captions::{Caption, Captions};
pub use image_sets::{Example, ImageSets};
pub use images::{ImageSource, PictureSource};
pub use limits::Limits;
pub use loader::{Batch, BatchImages, Item, Labels, Loader};
pub use negatives::negatives;
pub use pretraining::{Drawing, Objective, PretrainingBatch, pretraining_batch};
pub(crate) use tokenizer::TOKENIZER_FILES;
pub use tokenizer::Tokenizer;

/// Why data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Neither a WordPiece vocabulary nor a `tokenizer.json`.
    #[error("{path} is no tokenizer: {reason}")]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file of captions.
    #[error("{path}, line {line}: {reason}")]
    Captions {
        /// The file.
        path: PathBuf,
        /// From 1; 0 for the file as a whole.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Class ids of another detector than the model predicts.
    #[error(
        "image {image} has a region of class {id}, but visual target {target} knows the classes 0 to {}",
        limit - 1
    )]
    Classes {
        /// The image.
        image: String,
        /// The class.
        id: i64,
        /// How many classes there are.
        limit: i64,
        /// VOLTA's number of the target.
        target: &'static str,
    },
    /// The annotation file.
    #[error(transparent)]
    Annotations(#[from] DatasetError),
    /// The feature store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder or archive of pictures.
    #[error(transparent)]
    Pictures(#[from] vision::extract::PicturesError),
    /// A picture cannot be used.
    #[error(transparent)]
    Picture(vision::image::ImageError),
    /// A picture that is gone.
    #[error("there is no picture `{0}`")]
    NoPicture(String),
    /// Batches cannot be assembled.
    #[error("the reader of batches stopped: {0}")]
    Reader(String),
    /// There are sets, but none has all its images in the store.
    #[error(
        "none of the {sets} image sets of {annotations} has all its images in {source_path} (first: {})",
        describe(skipped)
    )]
    NoFeatures {
        /// The annotation file.
        annotations: PathBuf,
        /// The store, or the pictures.
        source_path: PathBuf,
        /// How many sets there are.
        sets: usize,
        /// The first of them.
        skipped: Vec<SkippedSet>,
    },
}

fn describe(skipped: &[SkippedSet]) -> String {
    skipped.iter().map(SkippedSet::to_string).collect::<Vec<_>>().join("; ")
}
