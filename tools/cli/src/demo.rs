//! `xenc demo`: the whole road once, on a data set that is drawn on the spot.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use crossencoders::data::synthetic::{self, SyntheticConfig};
use crossencoders::device::Device;
use crossencoders::eval;
use crossencoders::ranker::Ranker;
use crossencoders::train::Summary as Trained;
use feature_store::convert::{ConvertError, OnError, convert};
use feature_store::validate::{Coverage, Options, validate_store};
use feature_store::{FeatureStore, Precision, WriterOptions, dataset, formats};
use serde::Serialize;

use crate::child::Child;
use crate::interrupt;
use crate::progress::Progress;

/// Models of the demo: name, configuration, recipe.
const MODELS: [(&str, &str, &str); 2] = [
    (
        "vilbert",
        include_str!("../../../configs/demo/vilbert.json"),
        include_str!("../../../configs/demo/vilbert.toml"),
    ),
    (
        "uniter",
        include_str!("../../../configs/demo/uniter.json"),
        include_str!("../../../configs/demo/uniter.toml"),
    ),
];

/// Pictures, descriptions, features, store, training, evaluation, leaderboard file; no download.
#[derive(clap::Args)]
pub struct Args {
    /// Folder for everything that is made
    #[arg(long, default_value = "runs/demo")]
    out: PathBuf,
    /// Replace what an earlier demo left there
    #[arg(long)]
    force: bool,
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
    models: Vec<ModelSummary>,
    store: StoreSummary,
}

#[derive(Serialize)]
struct ModelSummary {
    name: &'static str,
    /// On the held-out sets.
    accuracy: f64,
    chance: f64,
    /// Held-out sets.
    sets: usize,
    train_seconds: f64,
}

#[derive(Serialize)]
struct StoreSummary {
    images: u64,
    bytes: u64,
}

/// What its parts say of going on is not true of the whole.
fn interrupted() -> ExitCode {
    errln!("the demo does not go on from here: --force begins it anew");
    interrupt::exit_code()
}

/// Runs the demo; exit code 130 if interrupted.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let device: Device = args.device.parse()?;
    prepare(&args.out, args.force)?;
    let data = args.out.join("data");
    let store = args.out.join("features.xenc");
    if !draw(&data, args.seed)? || !convert_features(&data, &store)? || !validate(&data, &store)? {
        return Ok(interrupted());
    }
    let Some(trained) = train_models(&args.out, &args.device)? else {
        return Ok(interrupted());
    };
    let mut models = Vec::new();
    for ((name, ..), trained) in MODELS.into_iter().zip(trained) {
        match rank_held_out(&args.out, name, &trained, device)? {
            Some(model) => models.push(model),
            None => return Ok(interrupted()),
        }
    }
    let summary = Summary {
        seconds: started.elapsed().as_secs_f64(),
        models,
        store: StoreSummary { images: FeatureStore::open(&store)?.len(), bytes: size(&store)? },
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

fn draw(data: &Path, seed: u64) -> anyhow::Result<bool> {
    let config = SyntheticConfig { seed, ..SyntheticConfig::default() };
    let images = (config.train_sets + config.valid_sets) * dataset::SET_SIZE;
    let progress = Progress::start("draw", "images", Some(images as u64));
    let drawn = synthetic::draw(&config, data, interrupt::flag(), &mut |done| {
        progress.set(done as u64, "")
    });
    progress.finish();
    let Some(drawn) = drawn? else { return Ok(false) };
    errln!(
        "drew {} images in sets of {}, {} descriptions to train on, {} held out: {}",
        drawn.images,
        dataset::SET_SIZE,
        drawn.train_descriptions,
        drawn.valid_descriptions,
        data.display()
    );
    Ok(true)
}

fn convert_features(data: &Path, store: &Path) -> anyhow::Result<bool> {
    let source = formats::open(&data.join("features.lmdb"))?;
    let progress = Progress::start("convert", "images", source.info().count);
    let options = WriterOptions { precision: Precision::F16, ..WriterOptions::default() };
    let converted = convert(source, store, options, &OnError::Fail, interrupt::flag(), &mut |at| {
        progress.set(at.images, "")
    });
    progress.finish();
    let report = match converted {
        Err(ConvertError::Interrupted { .. }) => return Ok(false),
        other => other?,
    };
    errln!("converted {} images to {}", report.schema.count, store.display());
    Ok(true)
}

fn validate(data: &Path, store: &Path) -> anyhow::Result<bool> {
    let mut coverage = Vec::new();
    for split in ["train_data", "valid_data"] {
        let descriptions = dataset::load_split(&data.join(format!("{split}.json")))?;
        let mut sets: Vec<String> = descriptions.into_iter().map(|d| d.directory).collect();
        sets.dedup();
        coverage.push(Coverage { split: split.into(), sets });
    }
    let options = Options { coverage, ..Options::default() };
    let Some(report) = validate_store(store, &options, interrupt::flag(), &mut |_| ())? else {
        return Ok(false);
    };
    if !report.is_good() {
        bail!("the store is not sound: see `xenc store validate {}`", store.display());
    }
    errln!("validated {} images, {} splits complete", report.images, report.coverage.len());
    Ok(true)
}

/// Trains all models at once, each by `xenc train` in a process of its own: models as small as these keep one core busy
/// each, and no more. `None` if interrupted.
fn train_models(out: &Path, device: &str) -> anyhow::Result<Option<Vec<Trained>>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (cores / MODELS.len()).max(1).to_string();
    let mut children = Vec::new();
    for (name, config, recipe) in MODELS {
        for (file, text) in [("json", config), ("toml", recipe)] {
            let path = out.join(format!("{name}.{file}"));
            std::fs::write(&path, text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("train")
            .arg(out.join(format!("{name}.toml")))
            .arg("--out")
            .arg(out.join(name))
            .args(["--json", "--device", device])
            .envs([("OMP_NUM_THREADS", &threads), ("RAYON_NUM_THREADS", &threads)]);
        children.push(Child::start(name, command)?);
    }
    let trained: Vec<Option<Trained>> =
        children.into_iter().map(Child::finish).collect::<anyhow::Result<_>>()?;
    Ok(trained.into_iter().collect())
}

/// Writes a leaderboard file for the held-out sets; `None` if interrupted.
fn rank_held_out(
    out: &Path,
    name: &'static str,
    trained: &Trained,
    device: Device,
) -> anyhow::Result<Option<ModelSummary>> {
    let ranker = Ranker::load(&out.join(name), &[], device.get())?;
    let images = ranker.open_images(None)?;
    let test = out.join("data/test_data_unlabeled.json");
    let sets = Arc::new(ranker.image_sets(&test, &images)?);
    let flag = interrupt::flag();
    let Some(scores) = eval::score(&mut &ranker, &images, &sets, 8, flag, &mut |_| ())? else {
        return Ok(None);
    };
    eval::write_submission(&sets, &scores, &out.join(format!("{name}_submission.json")))?;
    Ok(Some(ModelSummary {
        name,
        accuracy: trained.best.all.accuracy,
        chance: trained.best.chance,
        sets: sets.sets,
        train_seconds: trained.seconds,
    }))
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
    let megabytes = summary.store.bytes as f64 / 1e6;
    outln!("store      {} images, {megabytes:.0} MB", summary.store.images);
    outln!("all of it  {:.0} s, in {}", summary.seconds, out.display());
}
