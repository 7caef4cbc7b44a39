//! `xenc export clip`: weights of CLIP become a graph.

use std::path::Path;
use std::process::ExitCode;

use clap::ValueEnum;
#[cfg(feature = "torch")]
use onnx::runtime::{Options, Session};
use onnx::{Model, TensorData};
use vision::clip::graph::{self, Towers};
use vision::clip::{Architecture, image_tower_digest};
use vision::weights::Weights;

use super::FileArgs;
use super::difference::{Comparison, noise};

/// CLIP's image tower, text tower, both with logits, or the head of a training run
///
/// Sizes follow from the weights. `xenc clip embed` and `xenc clip rank` take the file as they take weights.
#[derive(clap::Args)]
pub struct Args {
    /// Weights: OpenAI's archives (*.pt), a state dictionary, safetensors, or Hugging Face's; a training run;
    /// `random:ViT-B/32` (ViT-B/16, ViT-L/14, RN50) for drawn ones
    weights: String,
    #[command(flatten)]
    file: FileArgs,
    /// Which towers
    #[arg(long, value_enum, default_value_t = Which::Both)]
    towers: Which,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Which {
    /// Pictures to features
    Image,
    /// Descriptions to features
    Text,
    /// Both, and how well each picture fits each description
    Both,
    /// Of a training run: features of pictures and descriptions to scores, with the contextual module if it has one
    #[cfg(feature = "torch")]
    Head,
}

/// Exports.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.file.check(Path::new(&args.weights))?;
    let towers = match args.towers {
        Which::Image => Towers::Image,
        Which::Text => Towers::Text,
        Which::Both => Towers::Both,
        #[cfg(feature = "torch")]
        Which::Head => return super::clip_head::run(&args.weights, &args.file),
    };
    let weights = crate::clip::weights(&args.weights)?;
    let mut exact = build(&weights, towers)?;
    exact.set_metadata(graph::IMAGE_TOWER, image_tower_digest(&weights)?);
    let model = args.file.rounded(exact.clone(), graph::half)?;
    args.file.finish(&model, &args.weights, |file| verify(&exact, &weights, file))
}

/// The f32 graph of a file of weights.
pub fn build(weights: &Weights, towers: Towers) -> anyhow::Result<Model> {
    let expected = Architecture::of_file(weights)?.expected();
    let loaded = weights.load(&expected, "CLIP")?;
    Ok(graph::build(&loaded, graph::Options { towers, outputs: &[] })?)
}

/// How far a file is from the same weights in libtorch.
#[cfg(feature = "torch")]
fn verify(_: &Model, weights: &Weights, file: &Path) -> anyhow::Result<Comparison> {
    let mut session = Session::open(file, &Options::default())?;
    Ok(Comparison::with_libtorch(crossencoders::export::verify_clip(&mut session, weights)?))
}

/// Without libtorch, how far it is from what it was before it was written.
#[cfg(not(feature = "torch"))]
fn verify(exact: &Model, weights: &Weights, file: &Path) -> anyhow::Result<Comparison> {
    compare(exact, weights, file)
}

/// How far a file is from the f32 graph of the same weights, on two pictures of noise and two descriptions.
pub fn compare(exact: &Model, weights: &Weights, file: &Path) -> anyhow::Result<Comparison> {
    let architecture = Architecture::of_file(weights)?;
    let side = architecture.image.size();
    let image = TensorData::new([2, 3, side, side], noise(2 * 3 * side * side))?;
    // Two descriptions between start and end, the two largest ids; the second is padded with zeros.
    let vocabulary = architecture.text.vocabulary as i64;
    let (start, end) = (vocabulary - 2, vocabulary - 1);
    let tokens = vec![start, 5, 17, 3, end, start, 11, end, 0, 0];
    let tokens = TensorData::new([2, 5], tokens)?;
    let mut inputs = vec![("image", image), ("tokens", tokens)];
    inputs.retain(|(name, _)| exact.inputs().iter().any(|(known, ..)| known == name));
    Comparison::with_graph(exact, file, &inputs)
}
