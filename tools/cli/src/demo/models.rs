//! The cross-encoders: trained, and the held-out sets ranked by them.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::Context;
use crossencoders::device::Device;
use crossencoders::eval;
use crossencoders::ranker::Ranker;
use crossencoders::train::Summary as Trained;
use serde::Serialize;

use crate::child::Child;
use crate::interrupt;

/// Models of the demo: name, configuration, recipe.
const MODELS: [(&str, &str, &str); 2] = [
    (
        "vilbert",
        include_str!("../../../../configs/demo/vilbert.json"),
        include_str!("../../../../configs/demo/vilbert.toml"),
    ),
    (
        "uniter",
        include_str!("../../../../configs/demo/uniter.json"),
        include_str!("../../../../configs/demo/uniter.toml"),
    ),
];

/// What became of a model.
#[derive(Serialize)]
pub struct Summary {
    pub name: &'static str,
    /// On the held-out sets.
    pub accuracy: f64,
    pub chance: f64,
    /// Held-out sets.
    pub sets: usize,
    pub train_seconds: f64,
}

/// Trains all models and ranks the held-out sets with each; `None` if interrupted.
pub fn train_and_rank(out: &Path, device: &str) -> anyhow::Result<Option<Vec<Summary>>> {
    let ranking_device: Device = device.parse()?;
    let Some(trained) = train_models(out, device)? else { return Ok(None) };
    let ranked = MODELS
        .into_iter()
        .zip(trained)
        .map(|((name, ..), trained)| rank_held_out(out, name, &trained, ranking_device));
    ranked.collect()
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
) -> anyhow::Result<Option<Summary>> {
    let ranker = Ranker::load(&out.join(name), &[], device.get())?;
    let images = ranker.open_images(None)?;
    let test = out.join("data/test_data_unlabeled.json");
    let sets = Arc::new(ranker.image_sets(&test, &images)?);
    let flag = interrupt::flag();
    let Some(scores) = eval::score(&mut &ranker, &images, &sets, 8, flag, &mut |_| ())? else {
        return Ok(None);
    };
    sets.check_submission()?;
    let answers = eval::predictions(&sets, scores);
    let best = answers.iter().map(|answer| (answer.directory.as_str(), answer.best()));
    evaluation::write_submission(&out.join(format!("{name}_submission.json")), best)?;
    Ok(Some(Summary {
        name,
        accuracy: trained.best.all.accuracy,
        chance: trained.best.chance,
        sets: sets.sets,
        train_seconds: trained.seconds,
    }))
}
