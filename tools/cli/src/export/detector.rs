//! `xenc export detector`: weights of the region detector become a graph.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use onnx::runtime::Device;
use onnx::{Model, TensorData};
use vision::detector::{ProposalRule, Sizing, build, graph, random_weights};
use vision::weights::Weights;

use super::FileArgs;
use super::difference::{Comparison, noise, run_alone};

/// Sides of the picture that is compared with: small, and no multiples of the stride.
const SIZE: [usize; 2] = [200, 264];

/// The region detector
///
/// From a preprocessed picture to features, class and attribute logits, and box deltas of all proposals; `xenc extract`
/// takes the file and does the rest.
#[derive(clap::Args)]
pub struct Args {
    /// Weights: faster_rcnn_from_caffe_attr.pkl, pytorch_model.bin or safetensors; `random:SEED` for drawn ones
    weights: String,
    #[command(flatten)]
    file: FileArgs,
    /// Where it is to run: regions are pooled by an operator that GPUs do not have, or by others that give the same
    #[arg(long = "for", value_enum, default_value_t = Target::Cpu)]
    device: Target,
    /// Describe boxes that are given instead of finding some
    #[arg(long)]
    given_boxes: bool,
    /// Longest side of a picture that it is asked about, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = Sizing::default().longest,
        value_parser = RangedU64ValueParser::<usize>::new().range(16..=16_384))]
    longest: usize,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Target {
    Cpu,
    Cuda,
}

/// Exports.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.file.check(Path::new(&args.weights))?;
    if args.device == Target::Cuda {
        args.file.check_gpu()?;
    }
    let weights = match args.weights.strip_prefix("random:") {
        Some(seed) => random_weights(seed.parse().context("a seed is a whole number: random:1")?),
        None => Weights::open(Path::new(&args.weights))?,
    };
    let sizing = Sizing { longest: args.longest, ..Sizing::default() };
    let device = match args.device {
        Target::Cpu => Device::Cpu,
        Target::Cuda => Device::Cuda(0),
    };
    let graph_of = |given| build(&weights, &ProposalRule::default(), sizing, given, device);
    let exact = graph_of(args.given_boxes)?;
    let model = args.file.rounded(exact.clone(), graph::half)?;
    args.file.finish(&model, &args.weights, |file| {
        if args.given_boxes || (!args.file.fp16 && !args.file.int8) {
            return compare(&exact, file);
        }
        // Rounding changes which proposals there are: the file has to run, but what is compared is how given boxes are
        // described.
        run_alone(file, &inputs(&exact)?)?;
        let exact = graph_of(true)?;
        let rounded = args.file.rounded(exact.clone(), graph::half)?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join(file.file_name().unwrap_or_default());
        super::write(&rounded, &file)?;
        Ok(Comparison { compared: ROUNDED, ..compare(&exact, &file)? })
    })
}

const ROUNDED: &str = "a network of the same rounded weights that takes boxes, in ONNX Runtime (the file ran, but rounding \
                       changes which boxes it finds),";

/// How far a file is from the f32 graph of the same weights.
pub fn compare(exact: &Model, file: &Path) -> anyhow::Result<Comparison> {
    Comparison::with_graph(exact, file, &inputs(exact)?)
}

/// A picture of noise and, for a graph that takes boxes, four.
fn inputs(graph: &Model) -> anyhow::Result<Vec<(&'static str, TensorData)>> {
    let [height, width] = SIZE;
    let pixels = noise(3 * height * width).into_iter().map(|value| 100.0 * value);
    let pixels = TensorData::new([1, 3, height, width], pixels.collect::<Vec<_>>())?;
    let mut inputs = vec![("image", pixels)];
    if graph.inputs().iter().any(|(name, ..)| name == "boxes") {
        inputs.push(("boxes", boxes()?));
    }
    Ok(inputs)
}

/// Four boxes of different sizes.
fn boxes() -> anyhow::Result<TensorData> {
    let boxes = vec![
        0.0f32, 0.0, 263.0, 199.0, 10.0, 20.0, 90.0, 120.0, 100.0, 50.0, 140.0, 190.0, 60.0, 60.0,
        75.0, 71.0,
    ];
    Ok(TensorData::new([4, 4], boxes)?)
}
