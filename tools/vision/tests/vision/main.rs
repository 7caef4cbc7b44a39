//! The crate through its public door, against the reference fixtures.

mod fixtures;
mod images;
mod preprocess;
mod tokenizer;
