//! `xenc store validate`: is a store sound, and does it hold what a data set needs?

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use feature_store::formats::Input;
use feature_store::text::{visible, visible_id};
use feature_store::validate::{
    IncompleteSet, Options, Report, SplitReport, validate_source, validate_store,
};

use super::outcome::say_quarantined;
use super::selection::splits;
use crate::console::shown;
use crate::interrupt;
use crate::progress::Progress;

/// Findings and incomplete sets that are printed; more are only counted.
const LISTED: usize = 20;
const SETS: usize = 5;

/// Check every record of a store or dump, and whether it covers a data set
///
/// Checks structure, checksums, values, boxes and confidences of every record, and whether a data set's images are
/// there. Exit codes: 0 good, 1 findings, 2 could not run.
#[derive(clap::Args)]
pub struct Args {
    /// The store, or a dump in any format: nothing is converted
    store: PathBuf,
    /// An ImageCoDe annotation file, or a directory with splits (*.json): are all images of their sets there? An image's id
    /// is its set's letters and digits, then img and the number of its file: open-images-1_a/img5.jpg is openimages1aimg5
    #[arg(long)]
    dataset: Option<PathBuf>,
    /// Also look for images that are there twice, and for statistics that no sound dump has
    #[arg(long)]
    deep: bool,
    /// List bad records, those that cannot be read and those with findings, in report.jsonl in this folder, with the
    /// reasons, beside their bytes: lines of TSV, values of foreign LMDBs, .npy and .npz files that cannot be read; of
    /// others the reason only
    #[arg(long, value_name = "FOLDER")]
    quarantine: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Checks and prints the report.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let coverage = match &args.dataset {
        Some(path) => splits(path)?,
        None => Vec::new(),
    };
    let listed = if args.json { usize::MAX } else { LISTED };
    let quarantine = args.quarantine.clone();
    let options = Options { coverage, deep: args.deep, quarantine, listed };
    let input = Input::open(&args.store)?;
    let progress = Progress::start("validate", "images", input.count());
    let mut tell = |done| progress.set(done, "");
    let checked = match input {
        Input::Store(store) => {
            validate_store(store.path(), &options, interrupt::flag(), &mut tell).map_err(Into::into)
        }
        Input::Dump(source) => validate_source(source, &options, interrupt::flag(), &mut tell),
    };
    progress.finish();
    let checked = checked.with_context(|| format!("cannot validate {}", shown(&args.store)))?;
    let Some(report) = checked else { return Ok(interrupt::exit_code()) };
    if args.json {
        outln!("{}", crate::console::json(&report)?);
    } else {
        print(&report);
    }
    if let Some(folder) = args.quarantine.filter(|_| report.quarantined > 0) {
        say_quarantined(report.quarantined, &folder);
    }
    Ok(ExitCode::from(u8::from(!report.is_good())))
}

/// Whether there is no image at all of a split: its ids may be written otherwise.
fn none_there(split: &SplitReport) -> bool {
    split.incomplete == split.sets && split.missing.iter().all(|set| set.images == 0)
}

fn print(report: &Report) {
    outln!("images       {} read, {} bad", report.images, report.bad_images);
    for finding in &report.findings {
        outln!("  {}: {}", visible_id(&finding.id), visible(&finding.what));
    }
    let unlisted = report.bad_images - report.findings.len() as u64;
    if unlisted > 0 {
        outln!("  and {unlisted} more (--json lists all)");
    }
    for finding in &report.store_findings {
        outln!("store        {}", visible(finding));
    }
    for split in &report.coverage {
        outln!(
            "{:<12} {} of {} sets complete",
            split.split,
            split.sets - split.incomplete,
            split.sets
        );
        for IncompleteSet { set, images, of } in split.missing.iter().take(SETS) {
            outln!("  missing: {} ({images} of {of} images)", visible(set));
        }
        if split.missing.len() > SETS {
            outln!("  and {} more (--json lists all)", split.missing.len() - SETS);
        }
        if let Some(prefix) = split.looked_for.as_ref().filter(|_| none_there(split)) {
            let ids: Vec<_> =
                report.examples.iter().map(|id| format!("`{}`", visible_id(id))).collect();
            outln!(
                "  looked for: `{prefix}N`; ids here: {}; `convert --rename` changes them",
                ids.join(", ")
            );
        }
    }
    if !report.coverage.is_empty() {
        outln!("superfluous  {} images are in none of the sets", report.superfluous);
    }
    if let Some(statistics) = &report.statistics {
        outln!(
            "features     mean {:.4}, {:.1} % zero, {:.1} % negative, at most {:.2}",
            statistics.mean,
            100.0 * statistics.zeros,
            100.0 * statistics.negative,
            statistics.largest
        );
        outln!("boxes        {:.1} % of the image on average", 100.0 * statistics.box_area);
    }
    outln!("verdict      {}", if report.is_good() { "good" } else { "findings" });
}
