//! A file of weights: TorchScript, a PyTorch file, safetensors, a pickle; and the networks that may be made of them.
#![no_main]

use vision::weights::Weights;
use vision::{clip, detector};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(folder) = tempfile::tempdir() else { return };
    let path = folder.path().join("input");
    if std::fs::write(&path, data).is_err() {
        return;
    }
    let Ok(weights) = Weights::open(&path) else { return };
    for name in weights.names() {
        let _ = weights.read(name);
    }
    let (rule, sizing) = (detector::ProposalRule::default(), detector::Sizing::default());
    let _ = detector::build(&weights, &rule, sizing, false, onnx::runtime::Device::Cpu);
    if let Ok(architecture) = clip::Architecture::of_file(&weights)
        && let Ok(loaded) = weights.load(&architecture.expected(), "CLIP")
    {
        let _ = clip::graph::build(&loaded, clip::graph::Options::default());
    }
});
