//! `xenc export clip --towers head`: what a training run has put on CLIP becomes a graph.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use crossencoders::export;
use crossencoders::ranker::Ranker;
use crossencoders::tch::Device;
use onnx::passes::{HalfOptions, half};
use onnx::runtime::{Options, Session};

use super::FileArgs;
use super::difference::Comparison;

/// Exports the head of a run, a checkpoint, or a zero-shot recipe.
pub fn run(run: &str, file: &FileArgs) -> anyhow::Result<ExitCode> {
    let ranker = Ranker::load(Path::new(run), &[], Device::Cpu)
        .with_context(|| {
            format!("cannot load {run}; a head is part of a training run of CLIP (`xenc train`), not of its weights")
        })?;
    let exact = export::export_clip_head(&ranker)?;
    // Positions are counted in f32: f16 knows whole numbers up to 2048 only.
    let kept = HalfOptions { kept: &["positions/"] };
    let model = file.rounded(exact, |model| half(model, kept))?;
    file.finish(&model, run, |path| {
        let mut session = Session::open(path, &Options::default())?;
        Ok(Comparison::with_libtorch(export::verify_clip_head(&mut session, &ranker)?))
    })
}
