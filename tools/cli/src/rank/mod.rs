//! Ranking a split with a trained model: what `xenc eval`, `xenc compare` and `xenc predict` share.

pub mod compare;
pub mod eval;
mod model;
pub mod predict;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use crossencoders::data::{ImageSets, ImageSource, Limits};
use evaluation::{Group, Metrics, Origin, Prediction, Predictions, SkippedSet, read_predictions};
use serde::Serialize;

use crate::interrupt;
use crate::progress::Progress;
use crate::results::print_ties;
use crate::run_args::Overrides;
use model::Model;

/// What is ranked by what.
#[derive(clap::Args)]
pub struct RankArgs {
    /// A training run (its best checkpoint), a checkpoint, a recipe with pre-trained weights (zero-shot), or a file that
    /// `xenc export crossencoder` has written (*.onnx)
    model: PathBuf,
    #[command(flatten)]
    options: RankOptions,
}

/// How it is ranked.
#[derive(clap::Args)]
pub struct RankOptions {
    #[command(flatten)]
    pub overrides: Overrides,
    /// The feature store, for CLIP also pictures; those of the recipe by default
    #[arg(long, value_name = "STORE")]
    pub features: Option<PathBuf>,
    /// Descriptions that are ranked at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    batch_size: u16,
    /// cpu, cuda or cuda:N; for *.onnx cpu, cuda:N or tensorrt:N
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

/// What is ranked.
#[derive(clap::Args)]
pub struct SplitArgs {
    /// `valid` or `train` of the recipe, or an annotation file in any of ImageCoDe's layouts [default: valid]
    #[arg(long)]
    split: Option<String>,
    /// Sets that lack images in the feature store are no finding: exit code 0 although they are left out
    #[arg(long)]
    allow_missing: bool,
}

impl SplitArgs {
    /// 1 if sets were left out of what was ranked, unless that is allowed.
    fn exit_code(&self, ranked: &[&Ranked]) -> ExitCode {
        let incomplete = ranked.iter().any(|ranked| ranked.is_incomplete());
        ExitCode::from(u8::from(incomplete && !self.allow_missing))
    }
}

/// A model with a split to rank.
pub struct Ranking {
    pub scorer: Model,
    pub images: ImageSource,
    /// The annotation file.
    pub split: PathBuf,
    pub sets: Arc<ImageSets>,
    pub batch_size: usize,
}

impl Ranking {
    /// Opens everything; `split` is `train`, `valid` or an annotation file.
    pub fn open(model: &Path, options: &RankOptions, split: &str) -> anyhow::Result<Ranking> {
        let scorer = Model::open(model, &options.overrides.values, &options.device)
            .with_context(|| format!("cannot load the model {}", model.display()))?;
        let images = scorer.open_images(options.features.as_deref())?;
        let split = scorer.recipe().data.split(split).to_owned();
        let sets = Arc::new(scorer.image_sets(&split, &images)?);
        let batch_size = usize::from(options.batch_size);
        Ok(Ranking { scorer, images, split, sets, batch_size })
    }

    /// Progress over the descriptions.
    pub fn progress(&self, label: &str) -> Progress {
        Progress::start(label, "descriptions", Some(self.sets.examples.len() as u64))
    }
}

/// What a model makes of a split, or has made of it; `None` if interrupted.
pub fn ranked_predictions(
    path: &Path,
    options: &RankOptions,
    split: &str,
) -> anyhow::Result<Option<Vec<Prediction>>> {
    let split = SplitArgs { split: Some(split.to_owned()), allow_missing: true };
    let split = if is_predictions(path) { SplitArgs { split: None, ..split } } else { split };
    Ok(ranked(path, options, &split)?.map(|ranked| ranked.predictions.list))
}

/// Whether a path names a predictions file rather than a model.
pub fn is_predictions(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jsonl") && !path.is_dir()
}

/// Fails if options are given that only concern ranking, but nothing is to be ranked.
fn check_options(options: &RankOptions, split: &SplitArgs) -> anyhow::Result<()> {
    let overrides = &options.overrides.values;
    if options.features.is_some() || split.split.is_some() || !overrides.is_empty() {
        bail!(
            "--features, --split and --set are about ranking with a model, but a predictions file is given"
        );
    }
    Ok(())
}

/// What a model makes of a split, now or before.
pub struct Ranked {
    predictions: Predictions,
    /// `None` if the predictions were read from a file, which does not say.
    left_out: Option<LeftOut>,
}

/// What of a split a model was not given.
#[derive(Serialize)]
struct LeftOut {
    /// Number of sets, those skipped included.
    sets: usize,
    skipped: Vec<SkippedSet>,
    limits: Limits,
}

/// Where predictions come from, as far as that is known: a part of what `--json` prints.
#[derive(Serialize)]
struct Source<'a> {
    #[serde(flatten)]
    origin: Option<&'a Origin>,
    #[serde(flatten)]
    left_out: Option<&'a LeftOut>,
}

impl Ranked {
    fn source(&self) -> Source<'_> {
        Source { origin: self.predictions.origin.as_ref(), left_out: self.left_out.as_ref() }
    }

    /// Model and split, for people; without them the file that was given.
    fn name(&self, given: &Path) -> String {
        match &self.predictions.origin {
            Some(Origin { model, split, .. }) => format!("{model} on {split}"),
            None => given.display().to_string(),
        }
    }

    /// Whether sets were left out.
    fn is_incomplete(&self) -> bool {
        self.left_out.as_ref().is_some_and(|left_out| !left_out.skipped.is_empty())
    }
}

/// Reads a predictions file, or ranks a labelled split, `valid` by default, with a model; `None` if interrupted.
fn ranked(path: &Path, options: &RankOptions, args: &SplitArgs) -> anyhow::Result<Option<Ranked>> {
    if is_predictions(path) {
        return Ok(Some(Ranked { predictions: read_predictions(path)?, left_out: None }));
    }
    let mut ranking = Ranking::open(path, options, args.split.as_deref().unwrap_or("valid"))?;
    ranking.sets.remarks().iter().for_each(|remark| errln!("{remark}"));
    let origin = Some(Origin::new(path, ranking.scorer.weights(path), &ranking.split)?);
    let progress = ranking.progress("eval");
    let predictions = crossencoders::eval::predict(
        ranking.scorer.get().as_mut(),
        &ranking.images,
        &ranking.sets,
        ranking.batch_size,
        interrupt::flag(),
        &mut |done| progress.set(done as u64, ""),
    );
    progress.finish();
    let Some(list) = predictions? else { return Ok(None) };
    let ImageSets { sets, ref skipped, limits, .. } = *ranking.sets;
    let left_out = LeftOut { sets, skipped: skipped.clone(), limits };
    let predictions = Predictions { origin, list };
    Ok(Some(Ranked { predictions, left_out: Some(left_out) }))
}

/// One line for each kind of set.
pub fn print_metrics(metrics: &Metrics) {
    outln!("{:<8} {:>12} {:>9} {:>7}", "", "descriptions", "accuracy", "MRR");
    let line = |name: &str, group: &Group| {
        if group.descriptions > 0 {
            let accuracy = 100.0 * group.accuracy;
            outln!("{name:<8} {:>12} {accuracy:>7.1} % {:>7.3}", group.descriptions, group.mrr);
        }
    };
    line("all", &metrics.all);
    line("video", &metrics.video);
    line("static", &metrics.photographs);
    outln!("{:<8} {:>12} {:>7.1} %", "chance", "", 100.0 * metrics.chance);
    print_ties(metrics.ties);
}
