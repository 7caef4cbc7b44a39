//! `xenc clip rank`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use feature_store::{FeatureStore, dataset};
use vision::clip::Tokenizer;
use vision::clip::graph::Towers;
use vision::extract::{Ranked, rank};

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
    /// CLIP: an exported .onnx with the text tower, or the weights
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
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Ranks, with progress on stderr and the report on stdout.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let descriptions = dataset::load_split(&args.annotations)?;
    let images = FeatureStore::open(&args.images)?;
    let vocabulary = match &args.vocabulary {
        Some(file) => file.clone(),
        None => Tokenizer::find_vocabulary().context(
            "CLIP's vocabulary was not found: run `make setup`, or name it with --vocabulary",
        )?,
    };
    let tokenizer = Tokenizer::open(&vocabulary)?;
    let mut encoder = super::open(&args.model, Towers::Text, &args.device.options())?;
    let progress = Progress::start("rank", "descriptions", Some(descriptions.len() as u64));
    let outcome = rank(&descriptions, &images, &mut encoder, &tokenizer, &mut |done| {
        progress.set(done as u64, "");
    });
    progress.finish();
    let (report, ranked) = outcome?;
    if let Some(file) = &args.predictions {
        write_lines(file, &ranked).with_context(|| format!("cannot write {}", file.display()))?;
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

/// Written beside the target and renamed.
fn write_lines(target: &Path, ranked: &[Ranked]) -> anyhow::Result<()> {
    let mut partial = target.as_os_str().to_owned();
    partial.push(".partial");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&partial)?);
    for one in ranked {
        serde_json::to_writer(&mut file, one)?;
        file.write_all(b"\n")?;
    }
    file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    Ok(std::fs::rename(&partial, target)?)
}
