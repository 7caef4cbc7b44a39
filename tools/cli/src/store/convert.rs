//! `xenc store convert`: a feature dump becomes a store.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::ValueEnum;
use feature_store::convert::{ConvertError, OnError, convert};
use feature_store::{Precision, WriterOptions, formats};

use crate::interrupt;
use crate::progress::Progress;

/// An interrupted conversion goes on where it stopped when the same command is given again.
#[derive(clap::Args)]
pub struct Args {
    /// The dump: a VOLTA LMDB directory (found by its content)
    source: PathBuf,
    /// The store to write: a directory that does not exist yet
    target: PathBuf,
    /// How features are stored
    #[arg(long, value_enum, default_value_t = PrecisionArg::F32)]
    precision: PrecisionArg,
    /// What to do with a record that cannot be read
    #[arg(long, value_enum, default_value_t = OnErrorArg::Fail)]
    on_error: OnErrorArg,
    /// Replace the target if it exists, once the new store is complete
    #[arg(long)]
    force: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionArg {
    /// Lossless
    F32,
    /// Half the size, rounded
    F16,
}

#[derive(Clone, Copy, ValueEnum)]
enum OnErrorArg {
    /// Stop at the first one
    Fail,
    /// Leave it out, report it, exit with 1
    Skip,
}

/// Converts, with progress on stderr and the report on stdout.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let source = formats::open(&args.source).context("cannot read the source")?;
    let info = source.info().clone();
    let options = WriterOptions {
        precision: match args.precision {
            PrecisionArg::F32 => Precision::F32,
            PrecisionArg::F16 => Precision::F16,
        },
        overwrite: args.force,
        ..WriterOptions::default()
    };
    let on_error = match args.on_error {
        OnErrorArg::Fail => OnError::Fail,
        OnErrorArg::Skip => OnError::Skip,
    };
    let started = Instant::now();
    let progress = Progress::start("convert", "images", info.count);
    let converted =
        convert(source, &args.target, options, on_error, interrupt::flag(), &mut |at| {
            let remark =
                if at.skipped > 0 { format!("{} skipped", at.skipped) } else { String::new() };
            progress.set(at.images, &remark);
        });
    progress.finish();
    let report = match converted {
        Err(error @ ConvertError::Interrupted { .. }) => {
            eprintln!("{error}");
            return Ok(interrupt::exit_code());
        }
        other => other.with_context(|| format!("cannot convert {}", args.source.display()))?,
    };
    for record in &report.skipped {
        eprintln!("skipped: {}", record.reason);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        let schema = &report.schema;
        println!(
            "{}: {} images of {} x {}, {} skipped, {} taken over, {:.1} s",
            args.target.display(),
            schema.count,
            super::info::region_count(schema),
            schema.dim,
            report.skipped.len(),
            report.resumed,
            started.elapsed().as_secs_f64(),
        );
    }
    Ok(ExitCode::from(u8::from(!report.skipped.is_empty())))
}
