//! `xenc store merge`: several stores into one.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use feature_store::convert::ConvertError;
use feature_store::merge::merge;

use super::choices::ConflictArg;
use super::count;
use super::outcome::{interrupted, say_findings, say_settled};
use super::target::check_store;
use crate::console::shown;
use crate::interrupt;
use crate::progress::Progress;

/// Make one store of several stores or dumps
///
/// Records of stores are copied as they are: all need the same dim, precision and compression. Those of dumps are
/// encoded as the stores are, or in f32 if there are none. Exit codes: 0 done, 1 done with findings, 2 could not run.
#[derive(clap::Args)]
pub struct Args {
    /// The store to write
    target: PathBuf,
    /// The stores to merge, or dumps in any format
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// What to do with an image that several inputs hold with different contents
    #[arg(long, value_enum, default_value_t = ConflictArg::Fail)]
    on_conflict: ConflictArg,
    /// Replace the target if it is a store, once the new one is complete, and drop what an interrupted run has left
    #[arg(long)]
    force: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Merges.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    check_store(&args.target).context("the first name is that of the store to write")?;
    if let (true, [.., last]) = (args.target.exists(), &args.inputs[..])
        && !last.exists()
    {
        bail!(
            "{} is not there, and {} is: the store to write comes first, `xenc store merge TARGET INPUT...`",
            shown(last),
            shown(&args.target)
        );
    }
    let conflict = args.on_conflict.into();
    let progress = Progress::start("merge", "images", None);
    let merged =
        merge(&args.inputs, &args.target, conflict, args.force, interrupt::flag(), &mut |done| {
            progress.set(done, "")
        });
    progress.finish();
    let report = match merged {
        Err(error @ ConvertError::Interrupted { .. }) => return Ok(interrupted(&error)),
        other => other.with_context(|| format!("cannot merge into {}", shown(&args.target)))?,
    };
    if args.json {
        outln!("{}", crate::console::json(&report)?);
    } else {
        outln!(
            "{}: {}, {} repeated, {}",
            shown(&args.target),
            count(report.schema.count, "image"),
            report.repeated,
            count(report.conflicts, "conflict")
        );
    }
    say_settled(report.conflicts, &report.settled, None, args.json);
    Ok(ExitCode::from(u8::from(say_findings(&report.findings, &args.target))))
}
