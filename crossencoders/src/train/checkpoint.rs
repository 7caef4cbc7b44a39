//! What a run needs to go on as if it had never stopped.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::Device;

use super::TrainError;
use super::distributed::Ranks;
use super::folder::Folder;
use super::log::Interval;
use super::step::Learner;
use crate::eval::Metrics;
use crate::ranker::Ranker;
use crate::run::{LAST, RunError};

const OPTIMIZER: &str = "optimizer.safetensors";
const AVERAGE: &str = "average.safetensors";
const STATE: &str = "state.json";

/// What a checkpoint knows beside weights.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// Steps done.
    pub step: u64,
    /// Epochs that are validated.
    pub evaluated: u64,
    /// The best epoch and its metrics.
    pub best: Option<(u64, Metrics)>,
    /// Since the last logged line.
    pub interval: Interval,
    /// Length of `metrics.jsonl`.
    pub logged: u64,
    /// Seconds so far.
    pub seconds: f64,
}

/// Replaces the last checkpoint.
pub(super) fn save(run: &Folder, learner: &Learner, state: &State) -> Result<(), TrainError> {
    run.save(LAST, |folder| {
        learner.ranker.save(folder)?;
        learner.optimizer.save(&folder.join(OPTIMIZER))?;
        if let Some(average) = &learner.average {
            average.save(&folder.join(AVERAGE))?;
        }
        let path = folder.join(STATE);
        let state = serde_json::to_string_pretty(state).unwrap_or_default();
        std::fs::write(&path, state)
            .map_err(|source| TrainError::Run(RunError::Io { path, source }))
    })
}

/// The model, its optimiser and the state of a checkpoint that [`save`] has written.
pub(super) fn load(
    folder: &Path,
    device: Device,
    ranks: &Ranks,
) -> Result<(Learner, State), TrainError> {
    let state = read_state(folder)?;
    let mut learner = Learner::new(Ranker::load_checkpoint(folder, device)?, ranks)?;
    learner.optimizer.load(&folder.join(OPTIMIZER))?;
    if let Some(average) = &mut learner.average {
        average.load(&folder.join(AVERAGE))?;
    }
    Ok((learner, state))
}

fn read_state(folder: &Path) -> Result<State, TrainError> {
    let path = folder.join(STATE);
    let text = std::fs::read_to_string(&path)
        .map_err(|source| RunError::Io { path: path.clone(), source })?;
    serde_json::from_str(&text)
        .map_err(|error| TrainError::Checkpoint { path, reason: error.to_string() })
}
