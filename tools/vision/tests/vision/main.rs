//! The crate through its public door, against the reference fixtures.

mod boxes;
mod fixtures;
mod images;
mod preprocess;
mod tokenizer;
mod weights;
