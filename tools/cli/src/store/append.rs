//! `xenc store append`: more images into a finished store.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use feature_store::append::AppendOptions;
use feature_store::convert::{ConvertError, append};
use feature_store::formats;
use feature_store::target::outside_of;

use super::choices::{ConflictArg, OnErrorArgs};
use super::outcome::{
    explain, interrupted, report_json, say_settled, say_skipped, skipped_remark, verdict,
};
use super::selection::SelectionArgs;
use super::{count, open_store};
use crate::console::shown;
use crate::interrupt;
use crate::progress::Progress;

/// Add images to a store
///
/// The store is copied (where the file system can, without using space), extended and swapped in when complete:
/// processes that read it see all of it or nothing new. An interrupted run goes on when the same command is given again.
/// Exit codes: 0 done, 1 done with findings, skipped records, or ids that are not there, 2 could not run.
#[derive(clap::Args)]
pub struct Args {
    /// The store to extend
    store: PathBuf,
    /// What to add, in any format
    source: PathBuf,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    on_error: OnErrorArgs,
    /// What to do with an image that the store holds with other contents
    #[arg(long, value_enum, default_value_t = ConflictArg::Fail)]
    on_conflict: ConflictArg,
    /// Drop what an interrupted append of another source has left
    #[arg(long)]
    force: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Appends.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    open_store(&args.store)?;
    let source = formats::open(&args.source).context("cannot read the source")?;
    outside_of(&args.store, &args.source)?;
    let (source, asked) = args.selection.apply(source)?;
    let options = AppendOptions { conflict: args.on_conflict.into(), restart: args.force };
    let on_error = args.on_error.resolve(&args.store);
    let progress = Progress::start("append", "images", None);
    let appended = append(source, &args.store, options, &on_error, interrupt::flag(), &mut |at| {
        progress.set(at.images, &skipped_remark(at.skipped));
    });
    progress.finish();
    let report = match appended {
        Err(error @ ConvertError::Interrupted { .. }) => return Ok(interrupted(&error)),
        other => other
            .map_err(|error| explain(error, &asked))
            .with_context(|| format!("cannot append to {}", shown(&args.store)))?,
    };
    say_skipped(&report.skipped, &on_error, args.json);
    if args.json {
        outln!("{}", report_json(&report, &asked)?);
    } else {
        outln!(
            "{}: {} added, {} already there, {} of other contents, {} skipped; now {}",
            shown(&args.store),
            count(report.added, "image"),
            report.present,
            report.conflicts,
            report.skipped.len(),
            count(report.schema.count, "image")
        );
    }
    say_settled(report.conflicts, &report.settled, Some(&asked), args.json);
    Ok(verdict(&report.skipped, &report.findings, &args.store, &asked))
}
