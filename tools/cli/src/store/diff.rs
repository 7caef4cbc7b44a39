//! `xenc store diff`: what two stores or dumps differ in.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use feature_store::diff::{DiffReport, Options, diff};
use feature_store::formats::Input;
use feature_store::text::{visible, visible_id};

use crate::console::shown;
use crate::interrupt;
use crate::progress::Progress;

/// Differences that are printed; more are only counted.
const LISTED: usize = 20;

/// Say what two stores or dumps differ in
///
/// Compares ids, sizes, boxes, labels and features, and names all that is different of an image. Two dumps are read side
/// by side, so they have to list their images in one order (of two in different orders, convert one into a store first); a
/// store and a dump may differ in it. Where one cannot be read to its end, what was found up to there is reported as
/// incomplete, and nothing is said of what follows. Exit codes: 0 equal, 1 different, 2 could not run to the end.
#[derive(clap::Args)]
pub struct Args {
    /// A store, or a dump in any format
    first: PathBuf,
    /// What it is compared with
    second: PathBuf,
    /// Largest difference of a feature that counts as none
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true, value_parser = tolerance)]
    tolerance: f32,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn tolerance(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(tolerance) if tolerance.is_finite() && tolerance >= 0.0 => Ok(tolerance),
        _ => Err("a number from 0 on is expected".into()),
    }
}

/// Compares and prints the report.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (first, second) = (Input::open(&args.first)?, Input::open(&args.second)?);
    let listed = if args.json { usize::MAX } else { LISTED };
    let options = Options { tolerance: args.tolerance, listed };
    let progress = Progress::start("diff", "images", first.count().max(second.count()));
    let compared =
        diff(first, second, &options, interrupt::flag(), &mut |done| progress.set(done, ""));
    progress.finish();
    let what = || format!("cannot compare {} and {}", shown(&args.first), shown(&args.second));
    let Some(report) = compared.with_context(what)? else { return Ok(interrupt::exit_code()) };
    if args.json {
        outln!("{}", crate::console::json(&report)?);
    } else {
        print(&report);
    }
    let code = ExitCode::from(u8::from(!report.is_equal()));
    report.incomplete.map_or(Ok(code), |error| Err(error).with_context(|| what() + " to the end"))
}

fn print(report: &DiffReport) {
    outln!("in both      {}", report.common);
    outln!("only first   {}", report.only_first);
    outln!("only second  {}", report.only_second);
    outln!("different    {}", report.different);
    outln!("features     differ by at most {}", report.largest_difference);
    for difference in &report.findings {
        outln!("  {}: {}", visible_id(&difference.id), difference.what.join("; "));
    }
    let more = report.differences - report.findings.len() as u64;
    if more > 0 {
        outln!("  and {more} more (--json lists all)");
    }
    if let Some(error) = &report.incomplete {
        outln!("incomplete   what follows was not compared: {}", visible(&error.to_string()));
    }
}
