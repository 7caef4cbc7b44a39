//! The reference fixtures, and a ledger that tells which of their tensors no test has looked at.

use std::collections::BTreeSet;
use std::path::PathBuf;

use safetensors::{Dtype, SafeTensors};

/// A file or folder of the fixtures.
pub fn path(name: &str) -> PathBuf {
    let root = std::env::var_os("XENC_FIXTURES").map(PathBuf::from);
    let root = root.unwrap_or_else(|| {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/fixtures"))
    });
    root.join(name)
}

/// A JSON fixture.
pub fn json(name: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(path(name)).expect("fixture");
    serde_json::from_str(&text).expect("JSON")
}

/// A file of tensors; those that were never asked for fail the test at the end.
pub struct Tensors {
    name: String,
    bytes: Vec<u8>,
    unread: BTreeSet<String>,
}

impl Tensors {
    pub fn open(name: &str) -> Tensors {
        let bytes = std::fs::read(path(name)).expect("fixture");
        let unread = parse(&bytes).names().into_iter().map(str::to_owned).collect();
        Tensors { name: name.to_owned(), bytes, unread }
    }

    /// The names of all tensors, in order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            parse(&self.bytes).names().into_iter().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// Only the tensors whose names `wanted` accepts must be looked at.
    pub fn only(mut self, wanted: impl Fn(&str) -> bool) -> Tensors {
        self.unread.retain(|name| wanted(name));
        self
    }

    pub fn has(&self, name: &str) -> bool {
        parse(&self.bytes).tensor(name).is_ok()
    }

    pub fn shape(&self, name: &str) -> Vec<usize> {
        parse(&self.bytes).tensor(name).expect(name).shape().to_vec()
    }

    pub fn u8s(&mut self, name: &str) -> Vec<u8> {
        self.read(name, Dtype::U8)
    }

    pub fn f32s(&mut self, name: &str) -> Vec<f32> {
        let bytes = self.read(name, Dtype::F32);
        bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
    }

    pub fn i32s(&mut self, name: &str) -> Vec<i32> {
        let bytes = self.read(name, Dtype::I32);
        bytes.chunks_exact(4).map(|c| i32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
    }

    pub fn i64s(&mut self, name: &str) -> Vec<i64> {
        let bytes = self.read(name, Dtype::I64);
        let number = |c: &[u8]| i64::from_le_bytes(std::array::from_fn(|n| c[n]));
        bytes.chunks_exact(8).map(number).collect()
    }

    fn read(&mut self, name: &str, dtype: Dtype) -> Vec<u8> {
        self.unread.remove(name);
        let tensors = parse(&self.bytes);
        let tensor = tensors.tensor(name).expect(name);
        assert_eq!(tensor.dtype(), dtype, "{name}");
        tensor.data().to_vec()
    }

    /// Fails if a tensor was left out.
    pub fn finish(self) {
        assert!(self.unread.is_empty(), "{}: not compared: {:?}", self.name, self.unread);
    }
}

fn parse(bytes: &[u8]) -> SafeTensors<'_> {
    SafeTensors::deserialize(bytes).expect("safetensors")
}

/// The largest absolute difference of two lists of the same length.
pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
