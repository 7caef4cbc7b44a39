//! What the fuzz targets have in common.

use std::path::Path;

use vision::image::{Image, Limits};
use vision::{clip, detector};

/// Pictures of more would only take time.
pub const SMALL: Limits = Limits { pixels: 1 << 20, bytes: 1 << 20 };

/// Makes a picture the input of both networks.
pub fn preprocess(image: Image) {
    let _ = clip::Preprocess::new(24).apply(image.clone());
    let sizing = detector::Sizing { short: 24, longest: 40 };
    let _ = detector::Preprocess { sizing, ..Default::default() }.apply(image);
}

/// Reads all records that can be read.
pub fn read(path: &Path) {
    let Ok(source) = feature_store::formats::open(path) else { return };
    let Ok(records) = source.records() else { return };
    for record in records.take(50).flatten() {
        let _ = record.decode();
    }
}
