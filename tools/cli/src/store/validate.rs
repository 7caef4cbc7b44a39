//! `xenc store validate`: is a store sound, and does it hold what a data set needs?

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use feature_store::validate::{Coverage, Report, validate_store};
use feature_store::{FeatureStore, dataset};

use crate::interrupt;
use crate::progress::Progress;

/// Exit codes: 0 good, 1 findings, 2 could not run.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// An ImageCoDe annotation file, or a directory with some (*.json): are all its sets' images there?
    #[arg(long)]
    dataset: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Checks and prints the report.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let images = FeatureStore::open(&args.store)?.len();
    let coverage = match &args.dataset {
        Some(path) => splits(path)?,
        None => Vec::new(),
    };
    let progress = Progress::start("validate", "images", Some(images));
    let report = validate_store(&args.store, &coverage, interrupt::flag(), &mut |done| {
        progress.set(done, "")
    });
    progress.finish();
    let Some(report) = report? else { return Ok(interrupt::exit_code()) };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(ExitCode::from(u8::from(!report.is_good())))
}

/// The sets that each annotation file names; files of a directory that are no annotations are left out, with a word.
fn splits(path: &Path) -> anyhow::Result<Vec<Coverage>> {
    if path.is_file() {
        return Ok(vec![coverage(path)?]);
    }
    let entries =
        std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut files: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let mut splits = Vec::new();
    for file in files {
        match coverage(&file) {
            Ok(split) => splits.push(split),
            Err(error) => eprintln!("left out: {error:#}"),
        }
    }
    if splits.is_empty() {
        bail!("{} holds no ImageCoDe annotation file (*.json)", path.display());
    }
    Ok(splits)
}

fn coverage(file: &Path) -> anyhow::Result<Coverage> {
    let descriptions = dataset::load_split(file)?;
    let sets: BTreeSet<String> =
        descriptions.into_iter().map(|description| description.directory).collect();
    let split = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Coverage { split, sets: sets.into_iter().collect() })
}

fn print(report: &Report) {
    println!("images       {} read, {} bad", report.images, report.bad_images);
    for finding in &report.findings {
        println!("  {}: {}", finding.id, finding.what);
    }
    let unlisted = report.bad_images - report.findings.len() as u64;
    if unlisted > 0 {
        println!("  and {unlisted} more");
    }
    for finding in &report.store_findings {
        println!("store        {finding}");
    }
    for split in &report.coverage {
        println!(
            "{:<12} {} of {} sets complete",
            split.split,
            split.sets - split.incomplete,
            split.sets
        );
        for set in &split.first_incomplete {
            println!("  missing: {set}");
        }
    }
    println!("verdict      {}", if report.is_good() { "good" } else { "findings" });
}
