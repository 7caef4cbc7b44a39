//! `xenc store`: everything about feature stores.

mod convert;
mod get;
mod info;
mod ls;
mod validate;

use std::process::ExitCode;

use clap::Subcommand;

/// The commands below `xenc store`.
#[derive(Subcommand)]
pub enum Command {
    /// Convert a feature dump into a store
    Convert(convert::Args),
    /// Check every record of a store, and whether it covers a data set
    Validate(validate::Args),
    /// Say what a store holds
    Info(info::Args),
    /// List image ids
    Ls(ls::Args),
    /// Show the regions of one image
    Get(get::Args),
}

/// Runs one of them.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Convert(args) => convert::run(args),
        Command::Validate(args) => validate::run(args),
        Command::Info(args) => info::run(args),
        Command::Ls(args) => ls::run(args),
        Command::Get(args) => get::run(args),
    }
}
