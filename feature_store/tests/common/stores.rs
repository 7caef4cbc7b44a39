//! Stores and dumps of images that tell which ones they are.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use feature_store::convert::{OnError, convert};
use feature_store::formats::volta::{VoltaEncoding, VoltaSink};
use feature_store::formats::{self, FeatureSink as _};
use feature_store::{Schema, StoreWriter, WriterOptions};

#[path = "image.rs"]
mod image;

pub use image::image;

/// Set by nobody.
pub static RUN: AtomicBool = AtomicBool::new(false);

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
