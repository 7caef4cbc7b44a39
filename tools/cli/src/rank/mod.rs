//! Ranking a split with a trained model: what `xenc eval` and `xenc predict` share.

pub mod eval;
pub mod predict;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use crossencoders::data::ImageSets;
use crossencoders::device::Device;
use crossencoders::eval::{Group, Metrics};
use crossencoders::ranker::Ranker;
use feature_store::FeatureStore;

use crate::progress::Progress;

/// What is ranked by what.
#[derive(clap::Args)]
pub struct RankArgs {
    /// A training run (its best checkpoint), a checkpoint, or a recipe with pre-trained weights (zero-shot)
    model: PathBuf,
    /// The feature store; that of the recipe by default
    #[arg(long, value_name = "STORE")]
    features: Option<PathBuf>,
    /// Descriptions that are ranked at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    batch_size: u16,
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// A model with a split to rank.
pub struct Ranking {
    pub ranker: Ranker,
    pub store: FeatureStore,
    pub sets: Arc<ImageSets>,
    pub batch_size: usize,
}

impl Ranking {
    /// Opens everything; `split` is `train`, `valid` or an annotation file.
    pub fn open(args: &RankArgs, split: &str) -> anyhow::Result<Ranking> {
        let device: Device = args.device.parse()?;
        let ranker = Ranker::load(&args.model, device.get())
            .with_context(|| format!("cannot load the model {}", args.model.display()))?;
        let store = ranker.open_store(args.features.as_deref())?;
        let path = match split {
            "train" => &ranker.recipe.data.train,
            "valid" => &ranker.recipe.data.valid,
            other => Path::new(other),
        };
        let sets = Arc::new(ranker.image_sets(path, &store)?);
        Ok(Ranking { ranker, store, sets, batch_size: usize::from(args.batch_size) })
    }

    /// Progress over the descriptions.
    pub fn progress(&self, label: &str) -> Progress {
        Progress::start(label, "descriptions", Some(self.sets.examples.len() as u64))
    }
}

/// One line for each kind of set.
pub fn print_metrics(metrics: &Metrics) {
    println!("{:<8} {:>12} {:>9} {:>7}", "", "descriptions", "accuracy", "MRR");
    let line = |name: &str, group: &Group| {
        if group.descriptions > 0 {
            let accuracy = 100.0 * group.accuracy;
            println!("{name:<8} {:>12} {accuracy:>7.1} % {:>7.3}", group.descriptions, group.mrr);
        }
    };
    line("all", &metrics.all);
    line("video", &metrics.video);
    line("static", &metrics.photographs);
    println!("{:<8} {:>12} {:>7.1} %", "chance", "", 100.0 * metrics.chance);
    if metrics.ties > 0 {
        println!(
            "{} descriptions have several best candidates; the first one counts",
            metrics.ties
        );
    }
}
