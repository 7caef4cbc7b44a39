//! `xenc compare`: whether one run ranks better than another.

use std::path::PathBuf;
use std::process::ExitCode;

use crossencoders::eval::Comparison;

use super::{BootstrapArgs, RankOptions, check_options, is_predictions, predictions, table};
use crate::interrupt;

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
    /// What models are compared on: `valid` or `train` of the recipe, or an annotation file [default: valid]
    #[arg(long)]
    split: Option<String>,
    /// Leave out descriptions that only one of the two has ranked
    #[arg(long)]
    common: bool,
    #[command(flatten)]
    bootstrap: BootstrapArgs,
    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,
}

/// Ranks what is not ranked yet, compares and prints.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let split = args.split.as_deref();
    if is_predictions(&args.first) && is_predictions(&args.second) {
        check_options(&args.options, split)?;
    }
    let Some(first) = predictions(&args.first, &args.options, split)? else {
        return Ok(interrupt::exit_code());
    };
    let Some(second) = predictions(&args.second, &args.options, split)? else {
        return Ok(interrupt::exit_code());
    };
    let comparison = Comparison::new(&first, &second, args.common, &args.bootstrap.get())?;
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&comparison)?);
    } else {
        table::print_comparison(&comparison);
    }
    Ok(ExitCode::SUCCESS)
}
