//! Pictures: decoded with the limits of [`Limits`], resized as Pillow does it.
//!
//! JPEG goes through libjpeg-turbo's decoder, so that the pixels are those of Pillow and OpenCV to the last bit. Nothing
//! is converted while decoding, because CLIP's and the detector's original loaders convert at different stages: see
//! [`colour`].

pub mod colour;
mod error;
mod jpeg;
mod orientation;
mod png;
mod read;
pub mod resize;
mod webp;

pub use error::{ImageError, ImageFault};
pub use orientation::Orientation;
pub use read::{Limits, decode, read};

/// A decoded picture, as it lies in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Width in pixels, before any rotation.
    pub width: usize,
    /// Height in pixels, before any rotation.
    pub height: usize,
    /// The pixels, row by row, in the file's own kind.
    pub pixels: Pixels,
    /// How the camera says it was held; not applied yet.
    pub orientation: Orientation,
}

/// Pixels, 8 bits a channel, interleaved, row by row; of 16 bits the upper 8 are kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// Brightness `[height, width]`.
    Grey(Vec<u8>),
    /// Brightness and opacity `[height, width, 2]`.
    GreyAlpha(Vec<u8>),
    /// Red, green, blue `[height, width, 3]`.
    Rgb(Vec<u8>),
    /// Red, green, blue, opacity `[height, width, 4]`.
    Rgba(Vec<u8>),
    /// Ink: cyan, magenta, yellow, black `[height, width, 4]`; 255 is full.
    Cmyk(Vec<u8>),
    /// Indices `[height, width]` into a palette of RGB; pictures of one bit as well.
    Indexed {
        /// One per pixel.
        indices: Vec<u8>,
        /// Colours; indices beyond its end are black.
        palette: Vec<[u8; 3]>,
    },
}

/// Pixels in rows without gaps: what resizing takes and gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Raster<const CHANNELS: usize> {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, CHANNELS]`.
    pub data: Vec<u8>,
}
