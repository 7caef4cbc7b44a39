//! An ONNX file, read and rewritten; ONNX Runtime itself is not fuzzed.
#![no_main]

use onnx::passes;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(folder) = tempfile::tempdir() else { return };
    let path = folder.path().join("input.onnx");
    if std::fs::write(&path, data).is_err() {
        return;
    }
    let Ok(model) = onnx::file::read(&path) else { return };
    let _ = (model.inputs(), model.outputs(), onnx::kernels::without_cuda(&model));
    let _ = passes::half(&model, passes::HalfOptions { kept: &[] });
    let _ = passes::quantize(&model, passes::QuantizeOptions::default());
});
