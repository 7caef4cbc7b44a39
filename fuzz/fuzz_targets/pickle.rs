//! Pickle streams.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = unpickle::read(data);
});
