//! Stores and dumps of images that tell which ones they are.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use feature_store::convert::{OnError, convert};
use feature_store::formats::volta::{VoltaEncoding, VoltaSink};
use feature_store::formats::{self, FeatureSink as _};
use feature_store::{Regions, Schema, StoreWriter, WriterOptions};

/// Set by nobody.
pub static RUN: AtomicBool = AtomicBool::new(false);

/// An image of `dim` values in two regions; every seed gives other values.
pub fn image(seed: u32, dim: usize) -> Regions {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state % 4096) as f32 / 512.0
    };
    Regions {
        width: 100,
        height: 80,
        boxes: vec![[1.0, 2.0, 50.0, 60.0], [0.0, 0.0, 100.0, 80.0]],
        features: (0..2 * dim).map(|_| next()).collect(),
        dim,
        ..Regions::default()
    }
}

pub fn write(path: &Path, ids: impl IntoIterator<Item = u32>, dim: usize) -> Schema {
    let mut writer = StoreWriter::create(path, WriterOptions::default()).unwrap();
    ids.into_iter().for_each(|n| writer.append(&format!("img{n:07}"), &image(n, dim)).unwrap());
    writer.finish().unwrap()
}

pub fn volta(path: &Path, ids: impl IntoIterator<Item = u32>, dim: usize) {
    let mut sink = VoltaSink::create(path, VoltaEncoding::Raw).unwrap();
    ids.into_iter().for_each(|n| sink.append(&format!("img{n:07}"), &image(n, dim)).unwrap());
    Box::new(sink).finish().unwrap();
}

pub fn to_store(source: &Path, target: &Path) -> Schema {
    let source = formats::open(source).unwrap();
    let options = WriterOptions::default();
    convert(source, target, options, &OnError::Fail, &RUN, &mut |_| {}).unwrap().schema
}
