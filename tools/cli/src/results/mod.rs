//! What commands that rank have in common, whatever ranks: intervals, tables, files.

mod names;
mod table;

use std::path::Path;

use anyhow::bail;
use std::path::PathBuf;

use evaluation::{
    AnnotationsError, Annotators, Bootstrap, Evaluation, EvaluationError, Phenomena, Prediction,
};

pub use names::distinct_names;
pub use table::print_evaluation;
#[cfg(feature = "torch")]
pub use table::{print_comparison, print_ties};

/// How intervals are made.
#[derive(clap::Args)]
pub struct BootstrapArgs {
    /// Resamples of the image sets for the bootstrap intervals
    #[arg(long, default_value_t = Bootstrap::default().resamples, value_parser = clap::value_parser!(u32).range(1..))]
    resamples: u32,
    /// Part of the resamples that an interval spans, between 0 and 1
    #[arg(long, default_value_t = Bootstrap::default().confidence, value_parser = parse_confidence)]
    confidence: f64,
    /// Seed of the resamples
    #[arg(long, default_value_t = Bootstrap::default().seed)]
    seed: u64,
}

impl BootstrapArgs {
    pub fn get(&self) -> Bootstrap {
        Bootstrap { resamples: self.resamples, confidence: self.confidence, seed: self.seed }
    }
}

/// How predictions are evaluated.
#[derive(clap::Args)]
pub struct EvaluationArgs {
    /// Phenomena of the descriptions (ImageCoDe's manual_annotation_valid.yaml): accuracy for each
    #[arg(long, value_name = "FILE")]
    phenomena: Option<PathBuf>,
    /// Annotators of the descriptions (ImageCoDe's annotator_split_valid.json): accuracy for seen and unseen ones
    #[arg(long, value_name = "FILE")]
    annotators: Option<PathBuf>,
    #[command(flatten)]
    bootstrap: BootstrapArgs,
}

/// What predictions are evaluated with.
pub struct Evaluator {
    phenomena: Option<Phenomena>,
    annotators: Option<Annotators>,
    bootstrap: Bootstrap,
}

impl EvaluationArgs {
    /// Reads the files: before the work, which a fault in them would waste.
    pub fn load(&self) -> Result<Evaluator, AnnotationsError> {
        Ok(Evaluator {
            phenomena: self.phenomena.as_deref().map(Phenomena::load).transpose()?,
            annotators: self.annotators.as_deref().map(Annotators::load).transpose()?,
            bootstrap: self.bootstrap.get(),
        })
    }
}

impl Evaluator {
    /// Evaluates the predictions of a labelled split.
    pub fn evaluate(&self, predictions: &[Prediction]) -> Result<Evaluation, EvaluationError> {
        let Evaluator { phenomena, annotators, bootstrap } = self;
        Evaluation::new(predictions, annotators.as_ref(), phenomena.as_ref(), bootstrap)
    }
}

fn parse_confidence(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(confidence) if 0.0 < confidence && confidence < 1.0 => Ok(confidence),
        _ => Err("a number between 0 and 1 is expected".into()),
    }
}

/// Fails if a file cannot be written because there is no such folder, or would take the place of another: before the work,
/// not after it.
pub fn check_output(file: &Path, force: bool) -> anyhow::Result<()> {
    if file.exists() && !force {
        bail!("{} is there already; --force replaces it", file.display());
    }
    match file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) if !folder.is_dir() => {
            bail!("cannot write {}: {} is no folder", file.display(), folder.display())
        }
        _ => Ok(()),
    }
}
