//! Formats of one file, told by their content: TSV (plain, gzip, zstd), HDF5, npz.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(folder) = tempfile::tempdir() else { return };
    let path = folder.path().join("input");
    if std::fs::write(&path, data).is_ok() {
        xenc_fuzz::read(&path);
    }
});
