//! What the fuzz targets have in common.

use std::path::Path;

/// Reads all records that can be read.
pub fn read(path: &Path) {
    let Ok(source) = feature_store::formats::open(path) else { return };
    let Ok(records) = source.records() else { return };
    for record in records.take(50).flatten() {
        let _ = record.decode();
    }
}
