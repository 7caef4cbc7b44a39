//! An image, and what a validation says of the dump that it is in.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use feature_store::Regions;
use feature_store::formats;
use feature_store::validate::{Options, Report, validate_source};

/// Nobody asks to stop.
pub static RUN: AtomicBool = AtomicBool::new(false);

/// Two regions of two values.
pub fn image() -> Regions {
    Regions {
        width: 100,
        height: 80,
        boxes: vec![[1.0, 2.0, 50.0, 60.0], [0.0, 0.0, 100.0, 80.0]],
        features: vec![0.5, 1.5, 2.5, 3.5],
        dim: 2,
        ..Regions::default()
    }
}

/// What a validation finds in a dump.
pub fn validated(path: &Path, options: &Options) -> Report {
    let source = formats::open(path).unwrap();
    validate_source(source, options, &RUN, &mut |_| {}).unwrap().unwrap()
}
