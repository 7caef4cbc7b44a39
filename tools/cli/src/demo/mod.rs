//! `xenc demo`: the whole road once, on a data set that is drawn on the spot.

mod features;
mod models;
mod pictures;
mod rows;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use feature_store::FeatureStore;
use serde::Serialize;

use crate::interrupt;

/// Draw a small data set, convert, validate, train, evaluate: everything once, without a download
///
/// Pictures, descriptions, features, store, tiny networks exported and run, training, evaluation, leaderboard file; no
/// download.
#[derive(clap::Args)]
pub struct Args {
    /// Folder for everything that is made
    #[arg(long, default_value = "runs/demo")]
    out: PathBuf,
    /// Replace what an earlier demo left there
    #[arg(long)]
    force: bool,
    /// Instead of two models all fifteen rows of ImageCoDe's table; takes about an hour
    #[arg(long)]
    rows: bool,
    /// Of the data set
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// `summary.json`.
#[derive(Serialize)]
struct Summary {
    seconds: f64,
    models: Vec<models::Summary>,
    pictures: pictures::Summary,
    store: StoreSummary,
}

#[derive(Serialize)]
struct StoreSummary {
    images: u64,
    bytes: u64,
}

/// Runs the demo; exit code 130 if interrupted.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    // Words for a device are the same for libtorch and ONNX Runtime; each is to know it before the work begins.
    let _: crossencoders::device::Device = args.device.parse()?;
    let device = args.device.parse()?;
    prepare(&args.out, args.force)?;
    if args.rows {
        return all_rows(&args);
    }
    let Some(summary) = stages(&args, device, started)? else {
        // What its parts say of going on is not true of the whole.
        errln!(
            "the demo as a whole does not go on, whatever its parts say: --force begins it anew"
        );
        return Ok(interrupt::exit_code());
    };
    let json = serde_json::to_string_pretty(&summary)? + "\n";
    let path = args.out.join("summary.json");
    std::fs::write(&path, &json).with_context(|| format!("cannot write {}", path.display()))?;
    if args.json {
        out!("{json}")
    } else {
        print(&summary, &args.out)
    }
    Ok(ExitCode::SUCCESS)
}

/// The data set, and all rows on it.
fn all_rows(args: &Args) -> anyhow::Result<ExitCode> {
    let made = match features::make(&args.out, args.seed)? {
        true => rows::make(&args.out, &args.device)?,
        false => None,
    };
    if made.is_none() {
        let out = args.out.display();
        errln!(
            "once the data is there, `xenc reproduce --all --recipes {out}/recipes --runs {out}/rows` goes on from here"
        );
        return Ok(interrupt::exit_code());
    }
    Ok(ExitCode::SUCCESS)
}

/// One after the other; `None` if interrupted.
fn stages(
    args: &Args,
    device: onnx::runtime::Device,
    started: Instant,
) -> anyhow::Result<Option<Summary>> {
    let out = &*args.out;
    if !features::make(out, args.seed)? {
        return Ok(None);
    }
    let pictures = pictures::Stage { out, seed: args.seed, device };
    let Some(pictures) = pictures.run()? else { return Ok(None) };
    let Some(models) = models::train_and_rank(out, &args.device)? else { return Ok(None) };
    let store = out.join("features.xenc");
    let store = StoreSummary { images: FeatureStore::open(&store)?.len(), bytes: size(&store)? };
    let seconds = started.elapsed().as_secs_f64();
    Ok(Some(Summary { seconds, models, pictures, store }))
}

/// An empty folder; an earlier demo goes only if it is one and the user wants that.
fn prepare(out: &Path, force: bool) -> anyhow::Result<()> {
    const MARK: &str = ".xenc-demo";
    if out.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        if !out.join(MARK).is_file() {
            bail!("{} is not empty and not a demo's; choose another --out", out.display());
        }
        if !force {
            bail!("{} holds a demo already; --force replaces it", out.display());
        }
        std::fs::remove_dir_all(out).with_context(|| format!("cannot clear {}", out.display()))?;
    }
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    std::fs::write(out.join(MARK), "").with_context(|| format!("cannot write to {}", out.display()))
}

fn size(store: &Path) -> anyhow::Result<u64> {
    let entries = store.read_dir()?.collect::<std::io::Result<Vec<_>>>()?;
    entries.iter().map(|entry| Ok(entry.metadata()?.len())).sum()
}

fn print(summary: &Summary, out: &Path) {
    outln!();
    outln!("{:<10} {:>9} {:>8} {:>6} {:>11}", "model", "accuracy", "chance", "sets", "training");
    for model in &summary.models {
        outln!(
            "{:<10} {:>7.1} % {:>6.0} % {:>6} {:>9.0} s",
            model.name,
            100.0 * model.accuracy,
            100.0 * model.chance,
            model.sets,
            model.train_seconds
        );
    }
    let pictures::Summary { images, detector, clip } = &summary.pictures;
    outln!(
        "detector   tiny, drawn weights: {} regions of each of {images} pictures, {:.0} s",
        detector.regions,
        detector.seconds
    );
    outln!(
        "CLIP       tiny, drawn weights: {images} pictures, {:.0} s; ranking as good as chance: {:.1} % of {:.0} %",
        clip.seconds,
        100.0 * clip.accuracy,
        100.0 * clip.chance
    );
    let megabytes = summary.store.bytes as f64 / 1e6;
    outln!("store      {} images, {megabytes:.0} MB", summary.store.images);
    outln!("all of it  {:.0} s, in {}", summary.seconds, out.display());
}
