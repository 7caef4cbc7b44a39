//! Our side of the training benchmark: whole steps and rankings at base size, from a store of random features and real
//! descriptions, as `xenc train` and `xenc eval` do them. Prints one JSON line for each measurement, like
//! `benches/peers/training.py`; `benches/training.sh` runs both in turn.
//!
//! ```sh
//! cargo bench -p crossencoders --bench training -- CONFIG.json ANNOTATIONS.json VOCAB.txt [SETS [ROUNDS [PRECISION…]]]
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crossencoders::data::{ImageSets, ImageSource, Item, Labels, Loader, by_length, shuffled};
use crossencoders::ranker::Ranker;
use crossencoders::train::{AdamW, Recipe, contrastive};
use feature_store::{Regions, StoreWriter, WriterOptions};
use tch::Device;

/// The program's own.
#[cfg(not(target_env = "msvc"))]
#[path = "../../tools/cli/src/allocator/jemalloc.rs"]
mod allocator;

/// Image sets in the store; the descriptions of more would not change the distribution of lengths by much.
const SETS: usize = 60;
const REGIONS: usize = 36;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [config, annotations, vocabulary, rest @ ..] = words.as_slice() else {
        // `cargo bench` of the whole workspace comes here too.
        eprintln!(
            "training: give CONFIG.json ANNOTATIONS.json VOCAB.txt [SETS [ROUNDS [PRECISION…]]]"
        );
        return Ok(());
    };
    let number = |at: usize, default| rest.get(at).map_or(Ok(default), |word| word.parse());
    let (sets, rounds) = (number(0, 4)?, number(1, 3)?);
    let precisions = match rest.get(2..) {
        Some(words) if !words.is_empty() => words.iter().map(String::as_str).collect(),
        _ => vec!["f32", "bf16"],
    };
    let folder = tempfile::tempdir()?;
    let files = prepare(folder.path(), annotations.as_ref())?;
    for precision in precisions {
        let recipe = files.recipe(config.as_ref(), vocabulary.as_ref(), sets, precision)?;
        let mut bench = Bench::open(recipe)?;
        let model = Path::new(config).file_stem().unwrap_or_default().to_string_lossy();
        let seconds = bench.train(rounds)?;
        report(&model, precision, "train", sets, &seconds);
        let seconds = bench.rank(rounds)?;
        report(&model, precision, "eval", sets, &seconds);
    }
    Ok(())
}

fn report(model: &str, precision: &str, work: &str, sets: usize, seconds: &[f64]) {
    let all: f64 = seconds.iter().sum();
    let best = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let line = serde_json::json!({
        "side": "xenc", "model": model, "precision": precision, "work": work, "sets": sets,
        "sets_per_second": (sets * seconds.len()) as f64 / all,
        "best_sets_per_second": sets as f64 / best,
        "peak_mib": peak_mib(),
    });
    println!("{line}");
}

/// The most memory that this process has held.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

struct Files {
    annotations: PathBuf,
    store: PathBuf,
}

/// Some sets of a split, spread over all of it, and a store with random features of their images.
fn prepare(folder: &Path, annotations: &Path) -> Result<Files, Box<dyn Error>> {
    let all: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&std::fs::read(annotations)?)?;
    let step = all.len().div_ceil(SETS).max(1);
    let some: BTreeMap<_, _> = all.into_iter().step_by(step).collect();
    let files =
        Files { annotations: folder.join("split.json"), store: folder.join("features.xenc") };
    std::fs::write(&files.annotations, serde_json::to_vec(&some)?)?;
    let mut writer = StoreWriter::create(&files.store, WriterOptions::default())?;
    let mut ids: Vec<String> = some
        .keys()
        .flat_map(|set| (0..dataset::SET_SIZE as u64).map(|number| dataset::image_id(set, number)))
        .collect();
    ids.sort();
    for (number, id) in ids.iter().enumerate() {
        writer.append(id, &image(number))?;
    }
    writer.finish()?;
    Ok(files)
}

fn image(number: usize) -> Regions {
    let dim = 2048;
    let value = |at: usize| ((at * 7919 + number * 104_729) % 1009) as f32 / 1009.0;
    Regions {
        width: 640,
        height: 480,
        boxes: vec![[10.0, 20.0, 300.0, 400.0]; REGIONS],
        features: (0..REGIONS * dim).map(value).collect(),
        dim,
        ..Regions::default()
    }
}

impl Files {
    fn recipe(
        &self,
        config: &Path,
        vocabulary: &Path,
        sets: usize,
        precision: &str,
    ) -> Result<Recipe, Box<dyn Error>> {
        let path = self.store.with_file_name("recipe.toml");
        let here = |path: &Path| std::path::absolute(path).map(|path| path.display().to_string());
        let text = format!(
            "variant = 'contrastive'\nmodel = '{}'\n[data]\nfeatures = '{}'\ntrain = '{}'\n\
             valid = '{}'\ntokenizer = '{}'\n[train]\nbatch_size = {sets}\nprecision = '{precision}'\n",
            here(config)?,
            self.store.display(),
            self.annotations.display(),
            self.annotations.display(),
            here(vocabulary)?,
        );
        std::fs::write(&path, text)?;
        Ok(Recipe::load(&path, &[])?)
    }
}

struct Bench {
    ranker: Ranker,
    images: ImageSource,
    sets: Arc<ImageSets>,
}

impl Bench {
    fn open(recipe: Recipe) -> Result<Bench, Box<dyn Error>> {
        let ranker = Ranker::create(recipe, Device::Cpu)?;
        let images = ranker.open_images(None)?;
        let sets = Arc::new(ranker.image_sets(&ranker.recipe.data.train, &images)?);
        Ok(Bench { ranker, images, sets })
    }

    /// So many full batches, spread over all that there are.
    fn loader(&self, batches: Vec<Vec<usize>>, count: usize) -> Loader {
        let size = self.ranker.recipe.train.batch_size;
        let step = (batches.len() / count).max(1);
        let batches = batches.into_iter().filter(|batch| batch.len() == size).step_by(step);
        let items = |batch: Vec<usize>| batch.into_iter().map(Item::Set).collect();
        let batches = batches.take(count).map(items).collect();
        Loader::start(
            self.images.clone(),
            Arc::clone(&self.sets),
            self.ranker.batch_spec(),
            batches,
        )
    }

    fn train(&mut self, rounds: usize) -> Result<Vec<f64>, Box<dyn Error>> {
        let size = self.ranker.recipe.train.batch_size;
        let mut loader = self.loader(shuffled(&self.sets.lengths(), size, 0, 0), rounds + 1);
        let mut optimizer = AdamW::new(&self.ranker.variables, self.ranker.recipe.optimizer());
        time(rounds, || {
            let batch = loader.next().ok_or("too few descriptions for so many rounds")??;
            let Labels::Targets(targets) = &batch.labels else { return Err("no labels".into()) };
            let loss = contrastive(&self.ranker.scores(&batch, true), targets);
            optimizer.zero_grad();
            loss.backward();
            optimizer.clip_grad_norm(1.0);
            optimizer.step(2e-5);
            Ok(())
        })
    }

    fn rank(&self, rounds: usize) -> Result<Vec<f64>, Box<dyn Error>> {
        let size = self.ranker.recipe.train.batch_size;
        let mut loader = self.loader(by_length(&self.sets.lengths(), size), rounds + 1);
        time(rounds, || {
            let batch = loader.next().ok_or("too few descriptions for so many rounds")??;
            let _scores = tch::no_grad(|| self.ranker.scores(&batch, false));
            Ok(())
        })
    }
}

/// Seconds of each round but the first, which allocates what the others reuse.
fn time(
    rounds: usize,
    mut round: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut seconds = Vec::new();
    for _ in 0..=rounds {
        let start = Instant::now();
        round()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(seconds.split_off(1))
}
