//! The crate through its public door, against the reference fixtures.

mod boxes;
mod extraction;
mod fixtures;
mod images;
mod misfits;
mod pictures;
mod preprocess;
mod runners;
mod tokenizer;
mod weights;
