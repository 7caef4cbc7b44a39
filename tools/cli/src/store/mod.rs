//! `xenc store`: everything about feature stores.

mod append;
mod bench;
mod captions;
pub mod choices;
mod convert;
mod diff;
mod get;
pub mod info;
mod ls;
mod merge;
mod outcome;
mod repair;
mod selection;
mod shard;
mod validate;

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use feature_store::{FeatureStore, formats};

/// The commands below `xenc store`.
#[derive(Subcommand)]
pub enum Command {
    /// Convert a feature dump into a store, or into another format
    Convert(convert::Args),
    /// Check every record of a store or dump, and whether it covers a data set
    Validate(validate::Args),
    /// Say what a store holds
    Info(info::Args),
    /// List image ids
    Ls(ls::Args),
    /// Show the regions of one image
    Get(get::Args),
    /// Say what two stores or dumps differ in
    Diff(diff::Args),
    /// Add images to a store
    Append(append::Args),
    /// Make one store of several stores or dumps
    Merge(merge::Args),
    /// Divide a store
    Shard(shard::Args),
    /// Rewrite a store without unused pages
    Compact(repair::CompactArgs),
    /// Salvage what can be read of a damaged store
    Repair(repair::RepairArgs),
    /// Measure how fast a store is read, beside memcpy
    Bench(bench::Args),
    /// List the descriptions in UNITER's text data base
    Captions(captions::Args),
}

/// Runs one of them.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Convert(args) => convert::run(args),
        Command::Validate(args) => validate::run(args),
        Command::Info(args) => info::run(args),
        Command::Ls(args) => ls::run(args),
        Command::Get(args) => get::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Append(args) => append::run(args),
        Command::Merge(args) => merge::run(args),
        Command::Shard(args) => shard::run(args),
        Command::Compact(args) => repair::run_compact(args),
        Command::Repair(args) => repair::run_repair(args),
        Command::Bench(args) => bench::run(args),
        Command::Captions(args) => captions::run(args),
    }
}

/// Opens a store; of a dump in another format it says which, and what makes a store of it.
fn open_store(path: &Path) -> anyhow::Result<FeatureStore> {
    let error = match FeatureStore::open(path) {
        Ok(store) => return Ok(store),
        Err(error) => error,
    };
    match formats::open(path).map(|source| source.info().format) {
        Ok(format) if format != "store" => bail!(
            "{path} is a dump ({format}), not a feature store; make one of it with `xenc store convert {path} STORE`",
            path = path.display()
        ),
        _ => Err(error.into()),
    }
}

/// "1 image", "2 images".
fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
