//! What can be wrong with a picture.

use std::path::PathBuf;

/// A picture that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {fault}")]
pub struct ImageError {
    /// The file, or its name within an archive.
    pub name: String,
    /// What is wrong with it.
    #[source]
    pub fault: ImageFault,
}

/// What can be wrong with a picture.
#[derive(Debug, thiserror::Error)]
pub enum ImageFault {
    /// The file system refuses.
    #[error("{0}")]
    Io(#[source] std::io::Error),
    /// No format of ours, by its first bytes.
    #[error("neither JPEG, PNG nor WebP (its first bytes are {0})")]
    UnknownFormat(String),
    /// The file ends before the picture does.
    #[error("truncated: the file ends before the picture does")]
    Truncated,
    /// The decoder's own words.
    #[error("damaged: {0}")]
    Damaged(String),
    /// More bytes than are read.
    #[error(
        "{bytes} bytes are more than the limit of {limit} bytes; no picture of that many pixels is as large"
    )]
    TooManyBytes {
        /// Of the file.
        bytes: u64,
        /// What is allowed.
        limit: u64,
    },
    /// More pixels than are decoded: perhaps a decompression bomb.
    #[error(
        "{width}x{height} pixels are more than the limit of {limit} pixels; raise it (--max-pixels) if the file is to be trusted"
    )]
    TooManyPixels {
        /// Width that the file declares.
        width: u64,
        /// Height that the file declares.
        height: u64,
        /// Pixels that are allowed.
        limit: u64,
    },
    /// A picture without pixels.
    #[error("{width}x{height} pixels are no picture")]
    Empty {
        /// Width that the file declares.
        width: u64,
        /// Height that the file declares.
        height: u64,
    },
    /// A picture so narrow that nothing is left of it at the size that the model takes.
    #[error(
        "a picture of {width}x{height} pixels would become one of {new_width}x{new_height}, too thin for the model"
    )]
    TooNarrow {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Width it would be resized to.
        new_width: usize,
        /// Height it would be resized to.
        new_height: usize,
    },
}

impl ImageFault {
    /// The fault with the name of the picture that has it.
    pub fn of(self, name: impl Into<String>) -> ImageError {
        ImageError { name: name.into(), fault: self }
    }

    /// As [`ImageFault::of`], for a file.
    pub(crate) fn of_file(self, path: &std::path::Path) -> ImageError {
        self.of(PathBuf::from(path).display().to_string())
    }
}
