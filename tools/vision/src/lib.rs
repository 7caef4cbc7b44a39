//! What lies between a picture and the numbers that a model takes or gives: the region detector's and CLIP's halves that
//! are not a network.
//!
//! - [`image`]: JPEG, PNG and WebP to pixels, and resizing that equals Pillow's to the last bit.
//! - [`detector`]: preprocessing, box arithmetic, and the choice of the 36 regions.
//! - [`clip`]: preprocessing and tokens.
//! - [`weights`]: tensors from the files in which they are published.
//! - [`network`]: what the builders of both networks' graphs have in common.
#![warn(missing_docs)]

pub mod clip;
pub mod detector;
pub mod image;
pub mod network;
pub mod weights;
