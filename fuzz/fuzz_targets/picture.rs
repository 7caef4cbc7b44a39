//! A JPEG, PNG or WebP file, decoded and made the input of both networks.
#![no_main]

use vision::image;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(image) = image::decode(data, "input", &xenc_fuzz::SMALL) {
        xenc_fuzz::preprocess(image);
    }
});
