//! Making a row: what it begins with, training, embeddings, evaluation, the leaderboard's file. Each is a command of its own,
//! which goes on where an interrupted one stopped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::SystemTime;

use anyhow::{Context, anyhow, bail};
use crossencoders::run::{BEST, checkpoint};
use serde::Deserialize;

use super::needs::{Missing, Needs};
use super::row::Row;
use crate::child::Child;

/// The leaderboard's split, beside the one that is evaluated.
const TEST: &str = "test_data_unlabeled.json";

/// Models whose rows can be made at once.
pub const MODELS_AT_ONCE: usize = 3;

/// Where rows are made, and how.
pub struct Work<'a> {
    pub recipes: &'a Path,
    pub runs: &'a Path,
    pub overrides: &'a [String],
    pub device: &'a str,
    /// Models whose rows are made at once, each with its part of the cores: small ones keep no more than one busy.
    pub jobs: usize,
}

/// What `xenc eval` prints that is of interest here.
#[derive(Deserialize)]
struct Evaluated {
    #[serde(default)]
    skipped: Vec<serde_json::Value>,
}

impl Work<'_> {
    /// The folder of a row's run.
    pub fn run(&self, row: Row) -> PathBuf {
        self.runs.join(row.name())
    }

    /// The scores of a row, once it is made.
    pub fn predictions(&self, row: Row) -> PathBuf {
        self.run(row).join("predictions.jsonl")
    }

    /// What a row needs.
    pub fn needs(&self, row: Row) -> anyhow::Result<Needs> {
        Needs::of(row, self.recipes, self.overrides)
    }

    /// Makes rows, those of a model one after the other; `None` if interrupted.
    ///
    /// # Errors
    /// What is missing; a command that fails. The other rows are made nevertheless.
    pub fn make_all(&self, rows: &[Row]) -> anyhow::Result<Option<()>> {
        let mut models: Vec<&str> = rows.iter().map(|row| row.model()).collect();
        models.dedup();
        let waiting = Mutex::new(models.into_iter());
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        let of_models = || {
            let mut outcome = Ok(Some(()));
            while let Some(model) = next() {
                for &row in rows.iter().filter(|row| row.model() == model) {
                    match self.make(row) {
                        Ok(Some(())) => {}
                        Ok(None) => return Ok(None),
                        Err(error) if outcome.is_ok() => outcome = Err(error),
                        Err(error) => errln!("{row}: {error:#}"),
                    }
                }
            }
            outcome
        };
        let outcomes: Vec<anyhow::Result<Option<()>>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.jobs.max(1)).map(|_| scope.spawn(of_models)).collect();
            let failed = |_| Err(anyhow!("a thread has failed"));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(failed)).collect()
        });
        let outcomes: Vec<Option<()>> = outcomes.into_iter().collect::<anyhow::Result<_>>()?;
        Ok(outcomes.into_iter().collect())
    }

    /// Trains and ranks; `None` if interrupted.
    fn make(&self, row: Row) -> anyhow::Result<Option<()>> {
        let Some(changes) = self.train(row)? else { return Ok(None) };
        self.rank(row, &changes)
    }

    /// Trains, if the row is one that is; returns what its recipe has to be told.
    fn train(&self, row: Row) -> anyhow::Result<Option<Vec<String>>> {
        let needs = self.needs(row)?;
        if !needs.missing.is_empty() {
            bail!("{row} lacks what it is made from:{}", listed(&needs.missing));
        }
        let mut changes = self.overrides.to_vec();
        if let Some(first) = needs.begins_with {
            if !self.weights(first).exists() && self.train(first)?.is_none() {
                return Ok(None);
            }
            changes.push(format!("init={}", self.run(first).display()));
        }
        if let Some((pictures, by)) = &needs.embeddings {
            let store = &needs.recipe.data.features;
            let mut embed = self.command(&["clip", "embed"]);
            embed.arg(pictures).arg(store).arg("--model").arg(self.run(*by));
            if self.start(*by, embed)?.finish_with_text()?.is_none() {
                return Ok(None);
            }
        }
        if row.is_trained() {
            let mut train = self.command(&["train"]);
            train.arg(row.recipe(self.recipes)).arg("--out").arg(self.run(row));
            train.args(["--device", self.device]).args(set(&changes));
            if self.start(row, train)?.finish_with_text()?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(changes))
    }

    /// Ranks the validation split, and the leaderboard's if it is there.
    fn rank(&self, row: Row, changes: &[String]) -> anyhow::Result<Option<()>> {
        let needs = self.needs(row)?;
        let (run, predictions) = (self.run(row), self.predictions(row));
        std::fs::create_dir_all(&run).with_context(|| format!("cannot make {}", run.display()))?;
        let weights = match row.is_trained() {
            true => self.weights(row),
            false => row.recipe(self.recipes),
        };
        if is_newer(&predictions, &weights) {
            return Ok(Some(()));
        }
        let of_model = |mut command: Command| {
            match row.is_trained() {
                true => command.arg(&run),
                false => command.arg(row.recipe(self.recipes)).args(set(changes)),
            };
            command.args(["--device", self.device]);
            command
        };
        let test = needs.recipe.data.valid.with_file_name(TEST);
        if test.exists() {
            let mut predict = of_model(self.command(&["predict"]));
            predict.arg("--split").arg(&test).arg("--force");
            predict.arg("--out").arg(run.join("submission.json"));
            if self.start(row, predict)?.finish_with_text()?.is_none() {
                return Ok(None);
            }
        } else {
            errln!("{row}: no leaderboard file: {} is not there", test.display());
        }
        // Last: that it is there says that the row is done.
        let mut eval = of_model(self.command(&["eval"]));
        eval.arg("--predictions").arg(&predictions);
        eval.args(["--force", "--allow-missing", "--json"]);
        let Some(evaluated) = self.start(row, eval)?.finish::<Evaluated>()? else {
            return Ok(None);
        };
        if !evaluated.skipped.is_empty() {
            errln!("{row}: {} sets are left out for want of images", evaluated.skipped.len());
        }
        Ok(Some(()))
    }

    fn weights(&self, row: Row) -> PathBuf {
        checkpoint(&self.run(row), BEST).join("model.safetensors")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap_or_else(|_| "xenc".into()));
        command.args(words);
        if self.jobs > 1 {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            let threads = (cores / self.jobs).max(1).to_string();
            command.env("OMP_NUM_THREADS", &threads).env("RAYON_NUM_THREADS", &threads);
        }
        command
    }

    fn start(&self, row: Row, command: Command) -> anyhow::Result<Child> {
        Child::start(&row.to_string(), command)
    }
}

/// What is missing, a line each.
pub fn listed(missing: &[Missing]) -> String {
    let line = |missing: &Missing| {
        format!("\n  `{}`: {} is not there; {}", missing.key, missing.path.display(), missing.from)
    };
    missing.iter().map(line).collect()
}

fn set(changes: &[String]) -> impl Iterator<Item = &str> {
    changes.iter().flat_map(|change| ["--set", change])
}

/// Whether a file is there and not older than what it was made of.
fn is_newer(file: &Path, than: &Path) -> bool {
    let modified = |path: &Path| -> Option<SystemTime> { path.metadata().ok()?.modified().ok() };
    matches!((modified(file), modified(than)), (Some(file), Some(than)) if file >= than)
}
