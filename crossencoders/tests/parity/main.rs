//! Comparison with the reference implementations, tensor by tensor. Sizes come from the files.

mod attention;
mod clip;
mod conventions;
mod export;
mod models;
mod paths;
mod pretraining;
mod training;
mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};

/// Folder of the reference's numbers.
fn fixtures() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/fixtures");
    std::env::var_os("XENC_FIXTURES").map_or(default, PathBuf::from)
}

/// All tensors of a safetensors file.
fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let read = Tensor::read_safetensors(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    read.into_iter().collect()
}

/// Fails unless two tensors have one shape and no element differs by more than `tolerance`.
fn assert_near(found: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(found.size(), expected.size(), "{what}");
    let difference = (found.to_kind(Kind::Double) - expected.to_kind(Kind::Double)).abs().max();
    let difference = difference.double_value(&[]);
    assert!(difference <= tolerance, "{what}: differs by {difference:e}, {tolerance:e} is allowed");
}
