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
pub mod target;
mod validate;

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use feature_store::{FeatureStore, formats};

use crate::console::shown;

/// The commands below `xenc store`; what each is for stands at its arguments, where `--help` finds all of it.
#[derive(Subcommand)]
pub enum Command {
    Convert(convert::Args),
    Validate(validate::Args),
    Info(info::Args),
    Ls(ls::Args),
    Get(get::Args),
    Diff(diff::Args),
    Append(append::Args),
    Merge(merge::Args),
    Shard(shard::Args),
    Compact(repair::CompactArgs),
    Repair(repair::RepairArgs),
    Bench(bench::Args),
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
pub fn open_store(path: &Path) -> anyhow::Result<FeatureStore> {
    let error = match FeatureStore::open(path) {
        Ok(store) => return Ok(store),
        Err(error) => error,
    };
    match formats::open(path).map(|source| source.info().format) {
        Ok(format) if format != "store" => bail!(
            "{path} is a dump ({format}), not a feature store; make one of it with `xenc store convert {path} STORE`",
            path = shown(path)
        ),
        _ => Err(error.into()),
    }
}

/// "1 image", "2 images".
pub fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
