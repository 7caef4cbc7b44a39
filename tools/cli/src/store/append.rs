//! `xenc store append`: more images into a finished store.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use feature_store::convert::{ConvertError, append};
use feature_store::formats;

use super::choices::{OnErrorArgs, SelectionArgs};
use crate::interrupt;
use crate::progress::Progress;

/// The store is copied (where the file system can, without using space), extended and swapped in when complete:
/// processes that read it see all of it or nothing new. An interrupted run goes on when the same command is given again.
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
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Appends.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let source = formats::open(&args.source).context("cannot read the source")?;
    let source = args.selection.apply(source)?;
    let on_error = args.on_error.resolve(&args.store);
    let progress = Progress::start("append", "images", None);
    let appended = append(source, &args.store, &on_error, interrupt::flag(), &mut |at| {
        progress.set(at.images, &super::skipped_remark(at.skipped));
    });
    progress.finish();
    let report = match appended {
        Err(error @ ConvertError::Interrupted { .. }) => {
            eprintln!("{error}");
            return Ok(interrupt::exit_code());
        }
        other => other.with_context(|| format!("cannot append to {}", args.store.display()))?,
    };
    for record in &report.skipped {
        eprintln!("skipped: {}", record.reason);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        let (count, skipped) = (report.schema.count, report.skipped.len());
        println!("{}: now {count} images, {skipped} skipped", args.store.display());
    }
    Ok(ExitCode::from(u8::from(!report.skipped.is_empty())))
}
