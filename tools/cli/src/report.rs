//! `xenc report`: a training run as one HTML page.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use crossencoders::device::Device;
use crossencoders::report::{Options, Report, is_report};

use crate::interrupt;
use crate::progress::Progress;

/// Write a training run as one HTML page
///
/// Curves, accuracy, the most confident mistakes with attention, configuration: one file that needs no other.
#[derive(clap::Args)]
pub struct Args {
    /// The training run
    run: PathBuf,
    /// The page to write; RUN/report.html by default
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The feature store; that of the recipe by default
    #[arg(long, value_name = "STORE")]
    features: Option<PathBuf>,
    /// Folder of the pictures (DIR/SET/imgN.jpg), which are put into the page
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Annotations of phenomena (ImageCoDe's manual_annotation_valid.yaml)
    #[arg(long, value_name = "FILE")]
    phenomena: Option<PathBuf>,
    /// What is ranked: `valid` or `train` of the recipe, or an annotation file
    #[arg(long, default_value = "valid")]
    split: String,
    /// What `xenc eval RUN --predictions FILE` has written of this split; otherwise the split is ranked now
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// How many mistakes are shown
    #[arg(long, value_name = "N", default_value_t = 12)]
    mistakes: usize,
    /// Only curves and configuration: needs neither model nor features
    #[arg(long, conflicts_with_all = ["features", "images", "phenomena", "split", "predictions"])]
    curves_only: bool,
    /// Replace a file that is no report, too
    #[arg(long)]
    force: bool,
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// Writes the page and prints its path.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let out = args.out.unwrap_or_else(|| args.run.join(crossencoders::run::REPORT));
    // Before the work, not after it.
    if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty())
        && args.run.is_dir()
        && !folder.is_dir()
    {
        bail!("cannot write {}: {} is no folder", out.display(), folder.display());
    }
    if out.exists() && !args.force && !is_report(&out) {
        bail!(
            "{} is there already, and no report of a run; --force replaces it all the same",
            out.display()
        );
    }
    let options = Options {
        curves_only: args.curves_only,
        features: args.features,
        images: args.images,
        phenomena: args.phenomena,
        split: args.split,
        predictions: args.predictions,
        mistakes: args.mistakes,
        device: args.device.parse::<Device>()?.get(),
    };
    let mut progress: Option<Progress> = None;
    let report = Report::new(&args.run, &options, interrupt::flag(), &mut |done, total| {
        progress
            .get_or_insert_with(|| Progress::start("rank", "descriptions", Some(total as u64)))
            .set(done as u64, "");
    });
    if let Some(progress) = progress {
        progress.finish();
    }
    let Some(report) = report? else { return Ok(interrupt::exit_code()) };
    report.write(&out)?;
    outln!("{}", out.display());
    Ok(ExitCode::SUCCESS)
}
