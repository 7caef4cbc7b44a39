//! `xenc compare`: whether one run ranks better than another.

use std::path::PathBuf;
use std::process::ExitCode;

use evaluation::Comparison;
use serde::Serialize;

use super::{RankOptions, Source, SplitArgs, check_options, is_predictions, ranked};
use crate::interrupt;
use crate::results::{BootstrapArgs, print_comparison};

/// Say whether one run ranks better than another, or is only luckier
///
/// Compares the accuracy of two runs on the same descriptions: McNemar's exact test, and a bootstrap of the difference
/// over image sets.
#[derive(clap::Args)]
pub struct Args {
    /// A predictions file (*.jsonl, see `xenc eval --predictions`), a training run, a checkpoint, or a recipe
    first: PathBuf,
    /// The other
    second: PathBuf,
    #[command(flatten)]
    options: RankOptions,
    #[command(flatten)]
    split: SplitArgs,
    /// Leave out descriptions that only one of the two has ranked
    #[arg(long)]
    common: bool,
    #[command(flatten)]
    bootstrap: BootstrapArgs,
    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    runs: [Source<'a>; 2],
    #[serde(flatten)]
    comparison: &'a Comparison,
}

/// Ranks what is not ranked yet, compares and prints.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if is_predictions(&args.first) && is_predictions(&args.second) {
        check_options(&args.options, &args.split)?;
    }
    let Some(first) = ranked(&args.first, &args.options, &args.split)? else {
        return Ok(interrupt::exit_code());
    };
    let Some(second) = ranked(&args.second, &args.options, &args.split)? else {
        return Ok(interrupt::exit_code());
    };
    let [a, b] = [&first, &second].map(|ranked| &ranked.predictions.list);
    let comparison = Comparison::new(a, b, args.common, &args.bootstrap.get())?;
    if args.json {
        let runs = [first.source(), second.source()];
        let report = Report { runs, comparison: &comparison };
        outln!("{}", crate::console::json(&report)?);
    } else {
        outln!("first:  {}", first.name(&args.first));
        outln!("second: {}", second.name(&args.second));
        print_comparison(&comparison);
    }
    Ok(args.split.exit_code(&[&first, &second]))
}
