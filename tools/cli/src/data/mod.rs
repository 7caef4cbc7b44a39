//! `xenc data`: everything about descriptions and which images they may be about.

mod check;
mod convert;
mod stats;

use std::process::ExitCode;

use clap::Subcommand;

/// The commands below `xenc data`; what each is for stands at its arguments, where `--help` finds all of it.
#[derive(Subcommand)]
pub enum Command {
    Check(check::Args),
    Stats(stats::Args),
    Convert(convert::Args),
}

/// Runs one of them.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check(args) => check::run(args),
        Command::Stats(args) => stats::run(args),
        Command::Convert(args) => convert::run(args),
    }
}
