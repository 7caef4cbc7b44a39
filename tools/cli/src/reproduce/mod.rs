//! `xenc reproduce`: rows of ImageCoDe's table.

mod needs;
pub mod row;
pub mod table;
pub mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;

use crate::interrupt;
use crate::run_args::Overrides;
use row::Row;
use table::{Format, Line};
use work::{MODELS_AT_ONCE, Work, listed};

/// Make rows of ImageCoDe's table: train, evaluate, and print them beside the published ones
///
/// A row is a model trained in one of five ways, such as uniter/temporal. What it begins with is made first; what lacks is
/// said, with its source, before anything begins. An interrupted row goes on when the same command is given again, and one
/// that is done is not made again. Accuracies are on the validation split, published ones on the test split, for which
/// submission.json in a row's run is the leaderboard's file. Without --row and --all the table of what is done is printed.
/// Exit codes: 0 done, 1 something lacks, 2 could not run.
#[derive(clap::Args)]
pub struct Args {
    /// A row: clip, uniter or vilbert, a slash, and zero_shot, non_contrastive, contrastive, contextual or temporal. May be
    /// given several times
    #[arg(long = "row", value_name = "ROW")]
    rows: Vec<Row>,
    /// All fifteen rows
    #[arg(long, conflicts_with = "rows")]
    all: bool,
    /// Only say what lacks
    #[arg(long)]
    check: bool,
    /// How the table is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "markdown", num_args = 0..=1, default_missing_value = "markdown")]
    table: Format,
    #[command(flatten)]
    overrides: Overrides,
    /// Folder with a recipe for each row, MODEL_VARIANT.toml
    #[arg(long, value_name = "DIR", default_value = "configs/recipes")]
    recipes: PathBuf,
    /// Folder for the runs, one a row
    #[arg(long, value_name = "DIR", default_value = "runs")]
    runs: PathBuf,
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Models whose rows are made at once, each with its part of the cores
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=MODELS_AT_ONCE as i64))]
    jobs: u8,
}

/// Makes the rows and prints the table.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { recipes, runs, device, .. } = &args;
    let _: crossencoders::device::Device = device.parse()?;
    let overrides = &args.overrides.values;
    if !recipes.is_dir() {
        bail!(
            "{} is no folder: --recipes names the one with the rows' recipes, configs/recipes in xenc's repository",
            recipes.display()
        );
    }
    let work = Work { recipes, runs, overrides, device, jobs: args.jobs.into() };
    let chosen: Vec<Row> = match args.all {
        true => Row::all().collect(),
        false => args.rows.clone(),
    };
    if args.check && chosen.is_empty() {
        bail!("name the rows to be checked: --row or --all");
    }
    let ready = ready(&work, &chosen)?;
    if args.check {
        ready.iter().for_each(|row| outln!("{row} has all it needs"));
        return Ok(ExitCode::from(u8::from(ready.len() < chosen.len())));
    }
    if work.make_all(&ready)?.is_none() {
        errln!("interrupted; the same command goes on from there");
        return Ok(interrupt::exit_code());
    }
    let shown: Vec<Row> = if chosen.is_empty() { Row::all().collect() } else { chosen.clone() };
    print(&work, &shown, args.table)?;
    Ok(ExitCode::from(u8::from(ready.len() < chosen.len())))
}

/// The rows that have all they need; of the others it says what lacks.
fn ready(work: &Work, rows: &[Row]) -> anyhow::Result<Vec<Row>> {
    let mut ready = Vec::new();
    for &row in rows {
        let needs = work.needs(row)?;
        if needs.missing.is_empty() {
            ready.push(row);
        } else {
            errln!("{row} lacks:{}", listed(&needs.missing));
        }
    }
    Ok(ready)
}

/// Prints the table of some rows.
pub fn print(work: &Work, rows: &[Row], format: Format) -> anyhow::Result<()> {
    let line = |&row: &Row| Line::read(row, &work.predictions(row));
    let lines: Vec<Line> = rows.iter().map(line).collect::<anyhow::Result<_>>()?;
    out!("{}", table::write(&lines, &table::published()?, format));
    Ok(())
}
