//! `xenc store repair` and `xenc store compact`: what can still be read of a damaged store; one without unused pages.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use feature_store::append::compact;
use feature_store::repair::repair;
use feature_store::text::visible;
use serde_json::json;

use super::target::check_store;
use super::{count, open_store};
use crate::console::shown;
use crate::interrupt;
use crate::progress::Progress;

/// Lost records that are printed; more are only counted.
const LISTED: usize = 20;

/// Salvage what can be read of a damaged store
///
/// Every page of the damaged file is looked at; whatever is a record whose checksum fits is written to a new store. Of an
/// image that was replaced, the record before may still be there: it is taken only if the last one is not found, and
/// listed. Exit codes: 0 nothing is lost, 1 something is or may be older, 2 could not run.
#[derive(clap::Args)]
pub struct RepairArgs {
    /// The damaged store: a directory with a data.mdb
    damaged: PathBuf,
    /// The store to write
    target: PathBuf,
    /// Replace the target if it is a store, once the new one is complete
    #[arg(long)]
    force: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Salvages.
pub fn run_repair(args: RepairArgs) -> anyhow::Result<ExitCode> {
    check_store(&args.target)?;
    let progress = Progress::start("repair", "pages", None);
    let repaired =
        repair(&args.damaged, &args.target, args.force, interrupt::flag(), &mut |page, _| {
            progress.set(page, "")
        });
    progress.finish();
    let repaired = repaired.with_context(|| format!("cannot repair {}", shown(&args.damaged)))?;
    let Some(report) = repaired else {
        errln!("interrupted; the same command goes on with what is salvaged");
        return Ok(interrupt::exit_code());
    };
    let found = report.schema.count;
    let missing = report.expected.map(|expected| expected.saturating_sub(found));
    if args.json {
        outln!("{}", crate::console::json(&report)?);
    } else {
        outln!("{}: {} salvaged", shown(&args.target), count(found, "image"));
        match (report.expected, missing) {
            (Some(expected), Some(missing)) => outln!("{missing} of {expected} are lost"),
            _ => outln!("how many there were is lost, too"),
        }
        list("lost", &report.lost);
        list("perhaps not the last one", &report.older);
        if !report.is_certain && !report.is_whole {
            outln!(
                "which index was the last one is lost: images that were ever replaced may be what they were before"
            );
        }
    }
    let is_sure = report.is_whole || (report.is_certain && report.older.is_empty());
    let is_good = missing == Some(0) && is_sure;
    Ok(ExitCode::from(u8::from(!is_good)))
}

/// Prints the first images of a list.
fn list(what: &str, images: &[(String, &'static str)]) {
    for (id, why) in images.iter().take(LISTED) {
        outln!("{what}: {}: {why}", visible(id));
    }
    if images.len() > LISTED {
        outln!("{what}: {} more (--json lists all)", images.len() - LISTED);
    }
}

/// Rewrite a store without unused pages
///
/// A finished store is compact already unless its images came in no order and are very small.
#[derive(clap::Args)]
pub struct CompactArgs {
    /// The store
    store: PathBuf,
    /// Print the sizes as JSON
    #[arg(long)]
    json: bool,
}

/// Compacts.
pub fn run_compact(args: CompactArgs) -> anyhow::Result<ExitCode> {
    open_store(&args.store)?;
    let (before, after) = compact(&args.store)?;
    if args.json {
        let sizes = json!({ "bytes_before": before, "bytes_after": after });
        outln!("{}", crate::console::json(&sizes)?);
    } else {
        outln!("{}: {before} bytes before, {after} after", shown(&args.store));
    }
    Ok(ExitCode::SUCCESS)
}
