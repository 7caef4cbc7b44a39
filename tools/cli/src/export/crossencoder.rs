//! `xenc export crossencoder`: a trained model becomes a graph.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use crossencoders::export::{self, Form};
use crossencoders::ranker::Ranker;
use crossencoders::tch::Device;
use onnx::passes::{HalfOptions, half};
use onnx::runtime::{Options, Session};

use super::FileArgs;
use super::difference::Comparison;
use crate::console::shown;

/// A ViLBERT-, UNITER-, LXMERT-, VisualBERT- or VL-BERT-style model with its ranking head
///
/// Recipe, configuration and tokenizer go into the file, so that `xenc eval FILE.onnx` ranks with it.
#[derive(clap::Args)]
pub struct Args {
    /// A training run (its best checkpoint), a checkpoint, or a zero-shot recipe
    model: PathBuf,
    #[command(flatten)]
    file: FileArgs,
    /// How inputs are laid out
    #[arg(long, value_enum, default_value_t = Layout::Sets)]
    form: Layout,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Layout {
    /// Descriptions with several candidates each: features sets × candidates × regions × dim, scores sets × candidates
    Sets,
    /// Descriptions with one image each: features pairs × regions × dim, one score a pair
    Pairs,
}

/// Exports.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.file.check(&args.model)?;
    let ranker = Ranker::load(&args.model, &[], Device::Cpu)
        .with_context(|| format!("cannot load the model {}", shown(&args.model)))?;
    let form = match args.form {
        Layout::Sets => Form::Sets,
        Layout::Pairs => Form::Pairs,
    };
    let exact = export::export(&ranker, form)?;
    // Positions are counted in f32: f16 knows whole numbers up to 2048 only.
    let kept = HalfOptions { kept: &["positions/", "coordinates/"] };
    let model = args.file.rounded(exact, |model| half(model, kept))?;
    let made_of = args.model.display().to_string();
    args.file.finish(&model, &made_of, |file| {
        let mut session = Session::open(file, &Options::default())?;
        Ok(Comparison::with_libtorch(export::verify(&mut session, &ranker, form)?))
    })
}
