//! `xenc store repair` and `xenc store compact`: what can still be read of a damaged store; one without unused pages.

use std::path::PathBuf;
use std::process::ExitCode;

use feature_store::append::compact;
use feature_store::repair::repair;

use crate::interrupt;
use crate::progress::Progress;

/// Every page of the damaged file is looked at; whatever is a record whose checksum fits is written to a new store.
/// Exit codes: 0 nothing is lost, 1 something is, 2 could not run.
#[derive(clap::Args)]
pub struct RepairArgs {
    /// The damaged store: a directory with a data.mdb
    damaged: PathBuf,
    /// The store to write
    target: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Salvages.
pub fn run_repair(args: RepairArgs) -> anyhow::Result<ExitCode> {
    let progress = Progress::start("repair", "pages", None);
    let repaired = repair(&args.damaged, &args.target, interrupt::flag(), &mut |page, _| {
        progress.set(page, "")
    });
    progress.finish();
    let Some(report) = repaired? else { return Ok(interrupt::exit_code()) };
    let found = report.schema.count;
    let missing = report.expected.map(|expected| expected.saturating_sub(found));
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}: {found} images salvaged", args.target.display());
        match (report.expected, missing) {
            (Some(expected), Some(missing)) => println!("{missing} of {expected} are lost"),
            _ => println!("how many there were is lost, too"),
        }
        for (id, what) in &report.lost {
            println!("lost: {id}: {what}");
        }
    }
    Ok(ExitCode::from(u8::from(missing != Some(0))))
}

/// A finished store is compact already unless its images came in no order and are very small.
#[derive(clap::Args)]
pub struct CompactArgs {
    /// The store
    store: PathBuf,
}

/// Compacts.
pub fn run_compact(args: CompactArgs) -> anyhow::Result<ExitCode> {
    let (before, after) = compact(&args.store)?;
    println!("{}: {before} bytes before, {after} after", args.store.display());
    Ok(ExitCode::SUCCESS)
}
