//! A zip, a tar, a list of pictures, or boxes in JSON.
#![no_main]

use vision::extract::{Boxes, IdRule, Pictures};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(folder) = tempfile::tempdir() else { return };
    let path = folder.path().join("input");
    if std::fs::write(&path, data).is_err() {
        return;
    }
    if let Ok(boxes) = Boxes::open(&path) {
        let _ = boxes.of("img0");
    }
    let Ok(pictures) = Pictures::open(&path, IdRule::Auto) else { return };
    for n in 0..pictures.len().min(10) {
        if let Ok(image) = pictures.read(n, &xenc_fuzz::SMALL) {
            xenc_fuzz::preprocess(image);
        }
    }
});
