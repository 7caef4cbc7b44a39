//! `xenc`: region features in, ranked images out.
//!
//! Each subcommand is one file that turns words from the command line into calls of the libraries. What the program
//! produces goes to stdout, what it has to say goes to stderr. Exit codes: 0 done, 1 done with findings (invalid or
//! skipped records, too low an accuracy), 2 could not run, 130 interrupted.

#[macro_use]
mod console;

mod allocator;
#[cfg(feature = "onnx")]
mod analyse;
#[cfg(feature = "torch")]
mod child;
#[cfg(feature = "onnx")]
mod clip;
#[cfg(feature = "torch")]
mod dashboard;
mod data;
#[cfg(feature = "torch")]
mod demo;
#[cfg(feature = "torch")]
mod distribution;
mod doctor;
#[cfg(feature = "torch")]
mod explore;
#[cfg(feature = "onnx")]
mod export;
#[cfg(feature = "onnx")]
mod extract;
mod interrupt;
#[cfg(feature = "onnx")]
mod pictures;
#[cfg(feature = "torch")]
mod pretrain;
mod progress;
#[cfg(feature = "torch")]
mod rank;
#[cfg(feature = "torch")]
mod report;
#[cfg(feature = "torch")]
mod reproduce;
#[cfg(feature = "onnx")]
mod results;
#[cfg(feature = "torch")]
mod run_args;
mod store;
#[cfg(feature = "torch")]
mod train;
#[cfg(feature = "torch")]
mod watch;
#[cfg(feature = "torch")]
mod weights;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser, Subcommand};

const ABOUT: &str = match cfg!(feature = "torch") {
    true => env!("CARGO_PKG_DESCRIPTION"),
    false => {
        "Feature stores and data sets: convert, check, look into, compare (built without training and evaluation)"
    }
};

/// Commands that need a feature of the build.
const OF_FEATURES: [(&str, &[&str]); 2] = [
    (
        "torch",
        &[
            "train",
            "pretrain",
            "eval",
            "compare",
            "predict",
            "report",
            "reproduce",
            "explore",
            "demo",
            "weights",
        ],
    ),
    ("onnx", &["extract", "export", "clip", "analyse"]),
];

#[derive(Parser)]
#[command(name = "xenc", version, about = ABOUT, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What a command is for stands at its arguments, where `--help` finds all of it.
#[derive(Subcommand)]
enum Command {
    /// Convert, validate and look into feature stores
    #[command(subcommand)]
    Store(store::Command),
    /// Check, count and convert data sets of descriptions and candidate images
    #[command(subcommand)]
    Data(data::Command),
    #[cfg(feature = "onnx")]
    Extract(extract::Args),
    /// Write a model as an ONNX file
    #[cfg(feature = "onnx")]
    #[command(subcommand)]
    Export(export::Command),
    /// Embed pictures with CLIP, rank image sets with it
    #[cfg(feature = "onnx")]
    #[command(subcommand)]
    Clip(clip::Command),
    #[cfg(feature = "torch")]
    Train(train::Args),
    #[cfg(feature = "torch")]
    Pretrain(pretrain::Args),
    #[cfg(feature = "torch")]
    Eval(rank::eval::Args),
    #[cfg(feature = "onnx")]
    Analyse(analyse::Args),
    #[cfg(feature = "torch")]
    Compare(rank::compare::Args),
    #[cfg(feature = "torch")]
    Predict(rank::predict::Args),
    #[cfg(feature = "torch")]
    Report(report::Args),
    #[cfg(feature = "torch")]
    Reproduce(reproduce::Args),
    #[cfg(feature = "torch")]
    Explore(explore::Args),
    #[cfg(feature = "torch")]
    Demo(demo::Args),
    /// Look into files of weights and convert them
    #[cfg(feature = "torch")]
    #[command(subcommand)]
    Weights(weights::Command),
    Doctor(doctor::Args),
    /// Write shell completions to stdout
    Completions {
        /// The shell to write them for
        shell: clap_complete::Shell,
    },
    /// Write man pages, one a command, into a folder
    Man {
        /// The folder, which is made if need be
        folder: std::path::PathBuf,
    },
}

fn main() -> ExitCode {
    allocator::keep_freed_memory();
    set_signals();
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(said) if said.use_stderr() => {
            if let Some(error) = left_out(&said) {
                return fail(&error);
            }
            said.exit()
        }
        // Help or the version: what was asked for, on stdout.
        Err(said) => {
            if let Err(error) = said.print().and_then(|()| std::io::stdout().flush()) {
                console::give_up(&error);
            }
            return ExitCode::SUCCESS;
        }
    };
    if let Err(error) = interrupt::install() {
        return fail(&error.context("cannot set up the handler for Ctrl-C"));
    }
    match run(command) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Store(command) => store::run(command),
        Command::Data(command) => data::run(command),
        #[cfg(feature = "onnx")]
        Command::Extract(args) => extract::run(args),
        #[cfg(feature = "onnx")]
        Command::Export(command) => export::run(command),
        #[cfg(feature = "onnx")]
        Command::Clip(command) => clip::run(command),
        #[cfg(feature = "torch")]
        Command::Train(args) => train::run(args),
        #[cfg(feature = "torch")]
        Command::Pretrain(args) => pretrain::run(args),
        #[cfg(feature = "torch")]
        Command::Eval(args) => rank::eval::run(args),
        #[cfg(feature = "onnx")]
        Command::Analyse(args) => analyse::run(args),
        #[cfg(feature = "torch")]
        Command::Compare(args) => rank::compare::run(args),
        #[cfg(feature = "torch")]
        Command::Predict(args) => rank::predict::run(args),
        #[cfg(feature = "torch")]
        Command::Report(args) => report::run(args),
        #[cfg(feature = "torch")]
        Command::Reproduce(args) => reproduce::run(args),
        #[cfg(feature = "torch")]
        Command::Explore(args) => explore::run(args),
        #[cfg(feature = "torch")]
        Command::Demo(args) => demo::run(args),
        #[cfg(feature = "torch")]
        Command::Weights(command) => weights::run(command),
        Command::Doctor(args) => doctor::run(args),
        Command::Completions { shell } => {
            // The generator takes every failed write for a mistake of its own.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "xenc", &mut script);
            outln!("{}", String::from_utf8_lossy(&script).trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { folder } => {
            let written = std::fs::create_dir_all(&folder)
                .and_then(|()| clap_mangen::generate_to(Cli::command(), &folder));
            written.with_context(|| format!("cannot write to {}", folder.display()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// That a command is there, but not in this build.
fn left_out(said: &clap::Error) -> Option<anyhow::Error> {
    let Some(ContextValue::String(name)) = said.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    let (feature, _) = OF_FEATURES.iter().find(|(_, names)| names.contains(&name.as_str()))?;
    // Below another command the name may be any.
    let is_first = std::env::args().nth(1).is_some_and(|first| first == *name);
    is_first.then(|| {
        anyhow!("this xenc was built without `{name}`; build it with `--features {feature}`")
    })
}

/// Prints the error with its causes, one a line.
fn fail(error: &anyhow::Error) -> ExitCode {
    errln!("error: {error}");
    // A cause that its parent has already spelled out would only be noise.
    let mut said = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !said.contains(&cause) {
            errln!("  because: {cause}");
            said = cause;
        }
    }
    if error.chain().any(is_no_room) {
        errln!(
            "  what to do: free some space there or write to another place, and give the command again; what was complete before is as it was"
        );
    }
    ExitCode::from(2)
}

/// Whether a disk, a quota or the limit of a file's size leaves no room to write to.
fn is_no_room(error: &(dyn std::error::Error + 'static)) -> bool {
    let Some(error) = error.downcast_ref::<std::io::Error>() else { return false };
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::EFBIG) {
        return true;
    }
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Lets `xenc store ls | head` end quietly: Rust ignores SIGPIPE, and would go on writing to the closed pipe. A limit on
/// the size of files is an error like a full disk, not a signal that leaves half a file behind.
fn set_signals() {
    #[cfg(unix)]
    // SAFETY: called first in main, before any thread exists, with valid signals and dispositions.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}
