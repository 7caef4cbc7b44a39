//! `xenc clip rank`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use feature_store::dataset::SET_SIZE;
use feature_store::{FeatureStore, dataset};
use serde_json::{Map, Value};
use vision::clip::graph::Towers;
use vision::extract::{Ranked, rank};

use crate::interrupt;
use crate::pictures::DeviceArgs;
use crate::progress::Progress;

/// Ranks the images of every description's set by CLIP's cosine. Exit code 1 if sets lack images.
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
    /// Write every description's scores to this file, a JSON object a line
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Write the leaderboard's file for an unlabelled split: the best image of every description, by set
    #[arg(long, value_name = "FILE")]
    leaderboard: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Ranks, with progress on stderr and the report on stdout.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let descriptions = dataset::load_split(&args.annotations)?;
    let images = FeatureStore::open(&args.images)?;
    let tokenizer = super::tokenizer(args.vocabulary.as_deref())?;
    let model = super::Model::find(&args.model)?;
    let mut encoder = model.open(Towers::Text, &args.device.options())?;
    let progress = Progress::start("rank", "descriptions", Some(descriptions.len() as u64));
    let stop = interrupt::flag();
    let outcome = rank(&descriptions, &images, &mut encoder, &tokenizer, stop, &mut |done| {
        progress.set(done as u64, "");
    });
    progress.finish();
    let Some((report, ranked)) = outcome? else { return Ok(interrupt::exit_code()) };
    if let Some(file) = &args.predictions {
        write(file, |out| lines(out, &ranked))?;
    }
    if let Some(file) = &args.leaderboard {
        let complete =
            report.incomplete.is_empty() && ranked.iter().all(|one| one.scores.len() == SET_SIZE);
        ensure!(
            complete,
            "no leaderboard file: it needs an answer for every description, from all ten images"
        );
        write(file, |out| Ok(serde_json::to_writer_pretty(out, &answers(&ranked))?))?;
    }
    for set in report.incomplete.iter().take(5) {
        errln!("left out: the store lacks images of {set}");
    }
    if report.incomplete.len() > 5 {
        errln!("left out: {} more sets", report.incomplete.len() - 5);
    }
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        outln!(
            "descriptions {} ({} truncated to 77 tokens)",
            report.descriptions,
            report.truncated
        );
        outln!("accuracy     {:.1} %", 100.0 * report.accuracy);
        outln!("  video      {:.1} %", 100.0 * report.video);
        outln!("  static     {:.1} %", 100.0 * report.photographs);
        outln!("MRR          {:.3}", report.mrr);
    }
    Ok(ExitCode::from(u8::from(!report.incomplete.is_empty())))
}

/// A JSON object for every description.
fn lines(out: &mut impl Write, ranked: &[Ranked]) -> anyhow::Result<()> {
    for one in ranked {
        serde_json::to_writer(&mut *out, one)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// The best image of every description, by set, in the order of the split.
fn answers(ranked: &[Ranked]) -> Map<String, Value> {
    let mut answers = Map::new();
    for one in ranked {
        let answer = answers.entry(&one.directory).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(answers) = answer {
            answers.push(one.best().into());
        }
    }
    answers
}

/// Writes beside the target and renames.
fn write(
    target: &Path,
    content: impl FnOnce(&mut BufWriter<File>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut partial = target.as_os_str().to_owned();
    partial.push(".partial");
    let written = || -> anyhow::Result<()> {
        let mut out = BufWriter::new(File::create(&partial)?);
        content(&mut out)?;
        out.into_inner().map_err(|error| error.into_error())?.sync_all()?;
        Ok(std::fs::rename(&partial, target)?)
    };
    written().with_context(|| format!("cannot write {}", target.display()))
}
