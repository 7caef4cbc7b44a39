//! `xenc predict`: the file for ImageCoDe's leaderboard.

use std::path::PathBuf;
use std::process::ExitCode;

use crossencoders::eval;

use super::{RankArgs, Ranking};
use crate::console::shown;
use crate::interrupt;
use crate::results::check_output;

/// Rank an unlabelled split: the leaderboard's file
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    rank: RankArgs,
    /// The annotation file (test_data_unlabeled.json), or `valid` or `train` of the recipe
    #[arg(long)]
    split: String,
    /// The file to write: for every set the positions of the described images
    #[arg(long)]
    out: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

/// Ranks the split and writes the file; every set must have its images in the store.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    check_output(&args.out, args.force)?;
    let mut ranking = Ranking::open(&args.rank.model, &args.rank.options, &args.split)?;
    ranking.sets.check_submission()?;
    for remark in ranking.sets.limits.remarks("descriptions") {
        errln!("{remark}");
    }
    let progress = ranking.progress("predict");
    let scores = eval::score(
        ranking.scorer.get().as_mut(),
        &ranking.images,
        &ranking.sets,
        ranking.batch_size,
        interrupt::flag(),
        &mut |done| progress.set(done as u64, ""),
    );
    progress.finish();
    let Some(scores) = scores? else { return Ok(interrupt::exit_code()) };
    let answers = eval::predictions(&ranking.sets, scores);
    let best = answers.iter().map(|answer| (answer.directory.as_str(), answer.best()));
    evaluation::write_submission(&args.out, best)?;
    outln!("{}: {} descriptions of {} sets", shown(&args.out), answers.len(), ranking.sets.sets);
    Ok(ExitCode::SUCCESS)
}
