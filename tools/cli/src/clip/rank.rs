//! `xenc clip rank`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;
use evaluation::{
    Evaluation, Origin, Predictions, SkippedSet, check_submission, write_predictions,
    write_submission,
};
use feature_store::FeatureStore;
use serde::Serialize;
use vision::clip::check_embedded_by;
use vision::clip::graph::Towers;
use vision::extract::{Ranking, rank};

use crate::interrupt;
use crate::pictures::DeviceArgs;
use crate::progress::Progress;
use crate::results::{EvaluationArgs, check_output, print_evaluation};

/// Sets named as left out.
const NAMED: usize = 5;

/// Rank the images of ImageCoDe's sets by how well they fit the descriptions, without training
///
/// Ranks the images of every description's set by CLIP's cosine, with intervals of accuracy and mean reciprocal rank. Exit
/// code 1 if sets lack images.
#[derive(clap::Args)]
pub struct Args {
    /// An ImageCoDe annotation file
    annotations: PathBuf,
    /// Embeddings of the images, from `xenc clip embed` with the same model
    #[arg(long, value_name = "STORE")]
    images: PathBuf,
    /// CLIP: an exported .onnx with the text tower, the weights, or a training run
    #[arg(long, value_name = "FILE")]
    model: String,
    /// CLIP's vocabulary (bpe_simple_vocab_16e6.txt.gz); by default the one that `make setup` fetched
    #[arg(long, value_name = "FILE")]
    vocabulary: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Write every description's scores and rank, one a line (*.jsonl): `xenc eval` and `xenc compare` read it
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Write the leaderboard's file for an unlabelled split: the best image of every description, by set
    #[arg(long, value_name = "FILE")]
    leaderboard: Option<PathBuf>,
    /// Replace these files if they are there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    evaluation: EvaluationArgs,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    origin: Option<&'a Origin>,
    /// Descriptions that are ranked.
    ranked: usize,
    /// Of them, those that are longer than CLIP reads.
    truncated: usize,
    /// Number of sets, those skipped included.
    sets: usize,
    skipped: &'a [SkippedSet],
    /// Of a labelled split.
    #[serde(flatten)]
    evaluation: Option<&'a Evaluation>,
}

/// Ranks, with progress on stderr and the report on stdout.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    check_outputs(&args)?;
    let evaluator = args.evaluation.load()?;
    let Some((ranking, origin)) = ranked(&args)? else { return Ok(interrupt::exit_code()) };
    let Ranking { predictions: list, truncated, sets, skipped } = ranking;
    let predictions = Predictions { origin, list };
    if let Some(file) = &args.predictions {
        write_predictions(file, &predictions)?;
    }
    let Predictions { origin, list } = &predictions;
    if let Some(file) = &args.leaderboard {
        check_submission(sets, &skipped, list.iter().map(|one| one.images.len()))?;
        write_submission(file, list.iter().map(|one| (one.directory.as_str(), one.best())))?;
    }
    // Of a split without labels there is nothing to compare with.
    let is_labelled = list.iter().any(|one| one.target.is_some());
    let evaluation = is_labelled.then(|| evaluator.evaluate(list)).transpose()?;
    tell_skipped(&skipped);
    if args.json {
        let (ranked, skipped) = (list.len(), &*skipped);
        let evaluation = evaluation.as_ref();
        let origin = origin.as_ref();
        let report = Report { origin, ranked, truncated, sets, skipped, evaluation };
        outln!("{}", crate::console::json(&report)?);
    } else {
        outln!("{} on {}", args.model, args.annotations.display());
        outln!("{} descriptions, {truncated} of them cut to the 77 tokens CLIP reads", list.len());
        match &evaluation {
            Some(evaluation) => print_evaluation(evaluation),
            None if list.is_empty() => {
                outln!("no set has all of its images in the store: nothing is ranked")
            }
            None => {
                outln!("the split is not labelled: no accuracy");
                if args.predictions.is_none() && args.leaderboard.is_none() {
                    outln!("--predictions FILE.jsonl or --leaderboard FILE.json keeps the ranking");
                }
            }
        }
    }
    Ok(ExitCode::from(u8::from(!skipped.is_empty())))
}

fn check_outputs(args: &Args) -> anyhow::Result<()> {
    for file in [&args.predictions, &args.leaderboard].into_iter().flatten() {
        check_output(file, args.force)?;
    }
    if let Some(file) = &args.predictions {
        ensure!(
            file.extension().is_some_and(|extension| extension == "jsonl"),
            "--predictions {}: a predictions file is known by its name; let it end with .jsonl",
            file.display()
        );
    }
    Ok(())
}

/// What CLIP makes of the split, and what that is of; `None` if interrupted.
fn ranked(args: &Args) -> anyhow::Result<Option<(Ranking, Option<Origin>)>> {
    let descriptions = dataset::load_split(&args.annotations)?;
    let images = FeatureStore::open(&args.images)?;
    let tokenizer = super::tokenizer(args.vocabulary.as_deref())?;
    let model = super::Model::find(&args.model)?;
    let mut encoder = model.open(Towers::Text, &args.device.options())?;
    if let Some(tower) = model.image_tower(&encoder)? {
        check_embedded_by(&images, &tower)?;
    }
    let weights = super::weights_file(args.model.as_ref());
    // Drawn weights have no file.
    let origin = weights
        .is_file()
        .then(|| Origin::new(args.model.as_ref(), &weights, &args.annotations))
        .transpose()?;
    let progress = Progress::start("rank", "descriptions", Some(descriptions.len() as u64));
    let stop = interrupt::flag();
    let ranking = rank(&descriptions, &images, &mut encoder, &tokenizer, stop, &mut |done| {
        progress.set(done as u64, "");
    });
    progress.finish();
    Ok(ranking?.map(|ranking| (ranking, origin)))
}

fn tell_skipped(skipped: &[SkippedSet]) {
    for set in skipped.iter().take(NAMED) {
        errln!("left out: the store lacks images of {set}");
    }
    if skipped.len() > NAMED {
        errln!("left out: {} more sets", skipped.len() - NAMED);
    }
}
