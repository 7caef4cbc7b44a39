//! The run's folder as a rank sees it: rank 0 writes it, the others read checkpoints from it.

use std::path::{Path, PathBuf};

use super::TrainError;
use super::distributed::Ranks;
use crate::run::{LAST, Run, RunError, checkpoint};

/// The folder of a training run.
#[derive(Debug)]
pub(super) enum Folder {
    /// Of this process alone, or of rank 0.
    Written(Run),
    /// What other ranks know: where it is.
    Read(PathBuf),
}

impl Folder {
    /// Opens the folder as [`Run::open`] does, on rank 0; the others wait until it is as it should be.
    pub fn open(
        ranks: &Ranks,
        path: &Path,
        recipe: &str,
        replace: bool,
    ) -> Result<Folder, TrainError> {
        let folder = match ranks.is_root() {
            true => Folder::Written(Run::open(path, recipe, replace)?),
            false => Folder::Read(path.to_owned()),
        };
        ranks.barrier()?;
        Ok(folder)
    }

    /// Where to go on from, if there is a checkpoint.
    pub fn last(&self) -> Option<PathBuf> {
        match self {
            Folder::Written(run) => run.last(),
            Folder::Read(path) => Some(checkpoint(path, LAST)).filter(|last| last.is_dir()),
        }
    }

    /// Adds a line to `metrics.jsonl`.
    pub fn log(&mut self, line: &impl serde::Serialize) -> Result<(), RunError> {
        match self {
            Folder::Written(run) => run.log(line),
            Folder::Read(_) => Ok(()),
        }
    }

    /// Bytes in `metrics.jsonl`; only the rank that writes it knows.
    pub fn logged(&self) -> Result<u64, RunError> {
        match self {
            Folder::Written(run) => run.logged(),
            Folder::Read(_) => Ok(0),
        }
    }

    /// See [`Run::truncate_log`].
    pub fn truncate_log(&mut self, bytes: u64) -> Result<(), RunError> {
        match self {
            Folder::Written(run) => run.truncate_log(bytes),
            Folder::Read(_) => Ok(()),
        }
    }

    /// See [`Run::save`].
    pub fn save<E: From<RunError>>(
        &self,
        name: &str,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Folder::Written(run) => run.save(name, write),
            Folder::Read(_) => Ok(()),
        }
    }
}
