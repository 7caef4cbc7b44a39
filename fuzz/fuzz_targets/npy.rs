//! A folder of `.npy` and `_info.npy`: the first half of the input is one, the second the other.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(folder) = tempfile::tempdir() else { return };
    let (features, info) = data.split_at(data.len() / 2);
    let written = std::fs::write(folder.path().join("a.npy"), features)
        .and_then(|()| std::fs::write(folder.path().join("a_info.npy"), info));
    if written.is_ok() {
        xenc_fuzz::read(folder.path());
    }
});
