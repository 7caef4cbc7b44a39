//! `xenc eval`: how well a model ranks a labelled split.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use evaluation::{Evaluation, write_predictions};
use serde::Serialize;

use super::{RankOptions, Source, SplitArgs, check_options, is_predictions, ranked};
use crate::interrupt;
use crate::results::{EvaluationArgs, check_output, print_evaluation};

/// Rank a labelled split: accuracy and mean reciprocal rank, with intervals
#[derive(clap::Args)]
pub struct Args {
    /// A training run (its best checkpoint), a checkpoint, a recipe with pre-trained weights (zero-shot), an exported model
    /// (*.onnx), or a predictions file (*.jsonl)
    #[arg(required_unless_present = "onnx")]
    model: Option<PathBuf>,
    /// The exported model, instead of MODEL
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    onnx: Option<PathBuf>,
    #[command(flatten)]
    options: RankOptions,
    #[command(flatten)]
    split: SplitArgs,
    /// Write every description's scores and rank, one a line (*.jsonl)
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Write the metrics as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Replace these files if they are there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    evaluation: EvaluationArgs,
    /// Print the metrics as JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    source: Source<'a>,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
}

/// Evaluates, writes the files that are asked for, and prints.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let model = args.model.as_deref().or(args.onnx.as_deref()).context("a model is missing")?;
    check_outputs(&args, model)?;
    let evaluator = args.evaluation.load()?;
    let Some(ranked) = ranked(model, &args.options, &args.split)? else {
        return Ok(interrupt::exit_code());
    };
    // First what has taken long to compute.
    if let Some(file) = &args.predictions {
        write_predictions(file, &ranked.predictions)?;
    }
    let evaluation = evaluator
        .evaluate(&ranked.predictions.list)
        .with_context(|| format!("cannot evaluate {}", ranked.name(model)))?;
    if let Some(file) = &args.csv {
        evaluation.write_csv(file).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if args.json {
        let report = Report { source: ranked.source(), evaluation: &evaluation };
        outln!("{}", crate::console::json(&report)?);
    } else {
        outln!("{}", ranked.name(model));
        print_evaluation(&evaluation);
    }
    Ok(args.split.exit_code(&[&ranked]))
}

fn check_outputs(args: &Args, model: &Path) -> anyhow::Result<()> {
    if is_predictions(model) {
        check_options(&args.options, &args.split)?;
    }
    for file in [&args.predictions, &args.csv].into_iter().flatten() {
        check_output(file, args.force)?;
    }
    match &args.predictions {
        Some(file) if file.extension().is_none_or(|extension| extension != "jsonl") => bail!(
            "--predictions {}: a predictions file is known by its name; let it end with .jsonl",
            file.display()
        ),
        _ => Ok(()),
    }
}
