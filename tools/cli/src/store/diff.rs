//! `xenc store diff`: what two stores differ in.

use std::path::PathBuf;
use std::process::ExitCode;

use feature_store::FeatureStore;
use feature_store::diff::diff;

use crate::interrupt;
use crate::progress::Progress;

/// Compares ids, sizes, boxes, labels and features. Exit codes: 0 equal, 1 different, 2 could not run.
#[derive(clap::Args)]
pub struct Args {
    /// One store
    first: PathBuf,
    /// The other
    second: PathBuf,
    /// Largest difference of a feature that counts as none
    #[arg(long, default_value_t = 0.0)]
    tolerance: f32,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Compares and prints the report.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (first, second) = (FeatureStore::open(&args.first)?, FeatureStore::open(&args.second)?);
    let progress = Progress::start("diff", "images", Some(first.len().max(second.len())));
    let compared = diff(&first, &second, args.tolerance, interrupt::flag(), &mut |done| {
        progress.set(done, "")
    });
    progress.finish();
    let Some(report) = compared? else { return Ok(interrupt::exit_code()) };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("in both      {}", report.common);
        println!("only first   {}", report.only_first);
        println!("only second  {}", report.only_second);
        println!("different    {}", report.different);
        println!("features     differ by at most {}", report.largest_difference);
        for (id, what) in &report.findings {
            println!("  {id}: {what}");
        }
    }
    Ok(ExitCode::from(u8::from(!report.is_equal())))
}
