//! Writes a full-size network with random weights as ONNX, to measure or to try a pipeline out:
//!
//!     cargo run --release -p vision --example random_network -- NETWORK OUT.onnx [fp16|int8]
//!
//! NETWORK: `detector`, `detector-given`, `detector-backbone`, `detector-heads`; `pooling` (of regions alone); each with
//! `-cpu` for the form that `xenc` runs on a processor; `clip:NAME`, `clip-image:NAME`, `clip-text:NAME` with NAME one of ViT-B/32, ViT-B/16,
//! ViT-L/14, RN50.

use std::path::Path;
use std::process::ExitCode;

use onnx::file::{Placement, write};
use onnx::passes::{QuantizeOptions, quantize};
use onnx::{Model, kernels};
use vision::clip::graph::{self as clip, Architecture, Towers};
use vision::detector::Anchors;
use vision::detector::graph::{self as detector, Part, Pooling, pooling_graph};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let [network, out, rest @ ..] = &words[..] else {
        eprintln!("usage: random_network NETWORK OUT.onnx [fp16|int8]");
        return ExitCode::from(2);
    };
    match run(network, Path::new(out), rest.first().map(String::as_str)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(network: &str, out: &Path, precision: Option<&str>) -> Result<(), Failure> {
    let (kind, name) = network.split_once(':').unwrap_or((network, ""));
    let (kind, pooling) = match kind.strip_suffix("-cpu") {
        Some(kind) => (kind, Pooling::MaxRoiPool),
        None => (kind, Pooling::Gathers),
    };
    let model = match kind {
        "clip" => clip_model(name, Towers::Both, precision)?,
        "clip-image" => clip_model(name, Towers::Image, precision)?,
        "clip-text" => clip_model(name, Towers::Text, precision)?,
        "detector" => detector_model(Part::Whole, pooling, precision)?,
        "detector-given" => detector_model(Part::Given, pooling, precision)?,
        "detector-backbone" => detector_model(Part::Backbone, pooling, precision)?,
        "detector-heads" => detector_model(Part::Heads, pooling, precision)?,
        "pooling" => pooling_graph(1024, 14, 1333, pooling)?,
        _ => return Err(format!("no network `{network}`").into()),
    };
    let model = if precision == Some("int8") {
        quantize(&model, QuantizeOptions::default())?
    } else {
        model
    };
    write(&model, out, Placement::Auto)?;
    let lacking = kernels::without_cuda(&model);
    println!(
        "{}: {} nodes, {} MB of constants",
        out.display(),
        model.nodes().len(),
        model.constant_bytes() >> 20
    );
    println!(
        "without a CUDA kernel: {}",
        if lacking.is_empty() { "none".into() } else { lacking.join(", ") }
    );
    Ok(())
}

fn clip_model(name: &str, towers: Towers, precision: Option<&str>) -> Result<Model, Failure> {
    let architecture = Architecture::published(name).ok_or_else(|| format!("no CLIP `{name}`"))?;
    let weights = vision::clip::random_weights(&architecture, 1);
    let weights = weights.load(&architecture.expected(), name)?;
    let model = clip::build(&weights, clip::Options { towers, outputs: &[] })?;
    Ok(if precision == Some("fp16") { clip::half(&model)? } else { model })
}

fn detector_model(part: Part, pooling: Pooling, precision: Option<&str>) -> Result<Model, Failure> {
    let anchors = Anchors::default().cell();
    let options = detector::Options { part, pooling, ..detector::Options::new(&anchors) };
    let weights = vision::detector::random_weights(1);
    let weights =
        weights.load(&vision::detector::Architecture::default().expected(), "detector")?;
    let model = detector::build(&weights, &options)?;
    Ok(if precision == Some("fp16") { detector::half(&model)? } else { model })
}
