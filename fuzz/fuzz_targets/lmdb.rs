//! LMDB directories: VOLTA's, UNITER's, UNITER's text data base, our own store.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(folder) = tempfile::tempdir() else { return };
    if std::fs::write(folder.path().join("data.mdb"), data).is_err() {
        return;
    }
    xenc_fuzz::read(folder.path());
    if let Ok(records) = feature_store::formats::uniter_text::records(folder.path()) {
        records.take(50).for_each(drop);
    }
});
