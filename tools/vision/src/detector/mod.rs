//! The bottom-up-attention detector (Faster R-CNN, ResNet-101 C4, Visual Genome): everything that is not its network.

pub mod graph;
mod preprocess;

pub use preprocess::{NetworkImage, PIXEL_MEANS, Preprocess, Sizing, Variant};
