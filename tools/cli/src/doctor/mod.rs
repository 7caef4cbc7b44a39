//! `xenc doctor`: what this machine can do, and why not the rest.

mod machine;
mod software;

use std::process::ExitCode;

use serde::Serialize;

use machine::{Limits, Machine};
use software::{Libtorch, Mpi, OnnxRuntime};

/// Say what this machine can do, and why not the rest
///
/// Looks at the processor, limits, ONNX Runtime, GPUs, libtorch and MPI. Nothing is installed or changed.
#[derive(clap::Args)]
pub struct Args {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// All that was found.
#[derive(Serialize)]
struct Report {
    machine: Machine,
    limits: Limits,
    onnxruntime: OnnxRuntime,
    libtorch: Libtorch,
    mpi: Mpi,
}

/// Prints what was found; finding little is no failure.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let report = Report {
        machine: Machine::look(),
        limits: Limits::look(),
        onnxruntime: OnnxRuntime::look(),
        libtorch: Libtorch::look(),
        mpi: Mpi::look(),
    };
    if args.json {
        outln!("{}", crate::console::json(&report)?);
    } else {
        report.machine.print();
        report.limits.print();
        report.onnxruntime.print();
        report.libtorch.print();
        report.mpi.print();
    }
    Ok(ExitCode::SUCCESS)
}

/// One line: what, and what of it.
fn line(what: &str, words: &str) {
    outln!("{what:<13}{words}");
}
