//! `xenc eval`: how well a model ranks a labelled split.

use std::process::ExitCode;

use crossencoders::eval;

use super::{RankArgs, Ranking, print_metrics};
use crate::interrupt;

/// What to evaluate.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    rank: RankArgs,
    /// `valid` or `train` of the recipe, or an annotation file in any of ImageCoDe's layouts
    #[arg(long, default_value = "valid")]
    split: String,
    /// Print the metrics as JSON
    #[arg(long)]
    json: bool,
}

/// Evaluates and prints.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let ranking = Ranking::open(&args.rank, &args.split)?;
    if let Some(message) = ranking.sets.skip_message() {
        eprintln!("{message}");
    }
    let progress = ranking.progress("eval");
    let metrics = eval::evaluate(
        &ranking.ranker,
        &ranking.store,
        &ranking.sets,
        ranking.batch_size,
        interrupt::flag(),
        &mut |done| progress.set(done as u64, ""),
    );
    progress.finish();
    let Some(metrics) = metrics? else { return Ok(interrupt::exit_code()) };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&metrics)?);
    } else {
        print_metrics(&metrics);
    }
    Ok(ExitCode::SUCCESS)
}
