//! An LMDB-backed store of region features.
#![warn(missing_docs)]

pub mod regions;

pub use regions::{Labels, Regions};
