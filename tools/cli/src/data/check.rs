//! `xenc data check`: is a data set sound, and are all its images there?

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use dataset::{CheckOptions, CheckReport, ImagesReport, check};
use feature_store::text::visible;

use crate::console::shown;
use crate::interrupt;
use crate::progress::Progress;
use crate::store::{count, open_store};

/// Findings of a kind that are printed; more are only counted.
const LISTED: usize = 10;

/// Check a data set's files, and whether all its images are there
///
/// Reads ImageCoDe's splits in any layout (train*.json, val*.json, test*.json), its phenomena (manual_annotation*.yaml)
/// and annotators (annotator*.json), and data sets of one's own (*.jsonl, see docs/datasets.md). Finds malformed files,
/// wrong types, wrong targets, keys that come twice, empty and repeated descriptions, sets in two splits, and colliding
/// ids; with --images or --features also sets without exactly ten images, missing and superfluous images, and equal
/// pictures in a set. Exit codes: 0 good, 1 findings, 2 could not run.
#[derive(clap::Args)]
pub struct Args {
    /// A folder with a data set, or one of its files
    data: PathBuf,
    /// The folder of pictures, SET/imgN.jpg
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// A store of features
    #[arg(long, value_name = "STORE")]
    features: Option<PathBuf>,
    /// Print all findings, not only the first of each kind
    #[arg(long)]
    all: bool,
    /// Print the report as JSON, with all findings
    #[arg(long)]
    json: bool,
}

/// Checks and prints the report.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let store = args.features.as_deref().map(open_store).transpose()?;
    let options = CheckOptions {
        pictures: args.images.as_deref(),
        features: store.as_ref(),
        listed: if args.all || args.json { usize::MAX } else { LISTED },
    };
    let progress = Progress::start("check", "sets", None);
    let mut done = 0;
    let checked = check(&args.data, &options, interrupt::flag(), &mut |sets| {
        done += sets;
        progress.set(done, "");
    });
    progress.finish();
    let checked = checked.with_context(|| format!("cannot check {}", shown(&args.data)))?;
    let Some(report) = checked else { return Ok(interrupt::exit_code()) };
    if args.json {
        outln!("{}", crate::console::json(&report)?);
    } else {
        print(&report);
    }
    Ok(ExitCode::from(u8::from(!report.is_good())))
}

fn print(report: &CheckReport) {
    for file in &report.files {
        outln!(
            "{:<28} {:>6} sets {:>8} descriptions  {}",
            visible(&file.file),
            file.sets,
            file.descriptions,
            file.layout
        );
    }
    print_images("pictures", report.pictures.as_ref());
    print_images("features", report.features.as_ref());
    if !report.left_out.is_empty() {
        let names: Vec<_> = report.left_out.iter().map(|name| visible(name)).collect();
        outln!("{:<28} {}", "left out", names.join(", "));
    }
    for (kind, group) in report.findings.groups() {
        outln!("{} ({})", kind.name(), group.count);
        for finding in &group.findings {
            outln!("  {}: {}", visible(&finding.place), visible(&finding.what));
        }
        let more = group.count - group.findings.len() as u64;
        if more > 0 {
            outln!("  and {more} more (--all lists all)");
        }
    }
    outln!("{:<28} {}", "verdict", if report.is_good() { "good" } else { "findings" });
}

fn print_images(source: &str, report: Option<&ImagesReport>) {
    let Some(ImagesReport { images, sets, complete, candidates, found }) = report else { return };
    let mut parts = vec![count(*images, "image")];
    if *sets > 0 {
        parts.push(format!("{complete} of {sets} sets complete"));
    }
    if *candidates > 0 {
        parts.push(format!("{found} of {candidates} candidates"));
    }
    outln!("{source:<28} {}", parts.join(", "));
}
