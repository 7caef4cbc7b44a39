//! The folder of a training run.
//!
//! ```text
//! RUN/recipe.toml          what is trained, all values spelt out
//! RUN/metrics.jsonl        one line per logged step and evaluation
//! RUN/events.out.tfevents.* the same for TensorBoard
//! RUN/checkpoints/best/    the weights that rank the validation split best
//! RUN/checkpoints/last/    weights, optimiser and state to go on from
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use evaluation::write_whole;

use crate::digests::{self, DigestError};
use crate::ranker::RECIPE;
use crate::train::tensorboard::{self, EventLog};

/// The checkpoint with the best validation accuracy.
pub const BEST: &str = "best";
/// The latest checkpoint.
pub const LAST: &str = "last";
/// What `xenc report` writes into a run's folder.
pub const REPORT: &str = "report.html";

/// Where a run keeps a checkpoint.
pub fn checkpoint(run: &Path, name: &str) -> PathBuf {
    run.join("checkpoints").join(name)
}

/// Why the folder of a run cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The weights of a checkpoint are not what was written.
    #[error(transparent)]
    Digest(DigestError),
    /// Another process trains there.
    #[error("{0} is in use by another training process")]
    InUse(PathBuf),
    /// A folder with other things in it.
    #[error("{0} exists and is not a training run; choose another --out")]
    NotARun(PathBuf),
    /// A run of another recipe.
    #[error(
        "{path} was begun with another recipe ({difference}), and its learning rate falls over all the steps of that one: \
         choose another --out, where `--set init={path}` begins with what was learnt here, or --force to begin anew"
    )]
    OtherRecipe {
        /// The run.
        path: PathBuf,
        /// The first line that differs.
        difference: String,
    },
}

impl From<DigestError> for RunError {
    fn from(error: DigestError) -> Self {
        RunError::Digest(error)
    }
}

/// The folder of a run that this process writes.
#[derive(Debug)]
pub(crate) struct Run {
    path: PathBuf,
    metrics: File,
    /// Opened with the first line, after what is not gone on with has been forgotten.
    events: Option<EventLog>,
    _lock: File,
}

impl Run {
    /// Opens the folder, making it if need be. An earlier run of the same recipe is gone on with; of another recipe it is
    /// an error, unless it is to be replaced.
    pub fn open(path: &Path, recipe: &str, replace: bool) -> Result<Run, RunError> {
        let io = |at: &Path| {
            let path = at.to_owned();
            move |source| RunError::Io { path, source }
        };
        let recipe_file = path.join(RECIPE);
        let is_run = recipe_file.is_file();
        if !is_run && !is_vacant(path) {
            return Err(RunError::NotARun(path.to_owned()));
        }
        let checkpoints = path.join("checkpoints");
        fs::create_dir_all(&checkpoints).map_err(io(&checkpoints))?;
        let lock = lock(&checkpoints.join(".lock"))?;
        let metrics_file = path.join("metrics.jsonl");
        if is_run && replace {
            for name in [BEST, LAST] {
                remove(&checkpoints.join(name)).map_err(io(&checkpoints))?;
            }
            remove(&metrics_file).map_err(io(&metrics_file))?;
            // What was said of the run that was there.
            let report = path.join(REPORT);
            remove(&report).map_err(io(&report))?;
            tensorboard::remove(path)?;
        } else if is_run {
            let earlier = fs::read_to_string(&recipe_file).map_err(io(&recipe_file))?;
            if let Some(difference) = first_difference(&earlier, recipe) {
                return Err(RunError::OtherRecipe { path: path.to_owned(), difference });
            }
        }
        write_whole(&recipe_file, |file| file.write_all(recipe.as_bytes()))
            .map_err(io(&recipe_file))?;
        recover(&checkpoints).map_err(io(&checkpoints))?;
        let metrics = File::options().create(true).append(true).open(&metrics_file);
        let metrics = metrics.map_err(io(&metrics_file))?;
        Ok(Run { path: path.to_owned(), metrics, events: None, _lock: lock })
    }

    /// Where to go on from, if there is a checkpoint.
    pub fn last(&self) -> Option<PathBuf> {
        Some(checkpoint(&self.path, LAST)).filter(|last| last.is_dir())
    }

    /// Adds a line to `metrics.jsonl`, and what it says to the event files.
    pub fn log(&mut self, line: &impl serde::Serialize) -> Result<(), RunError> {
        let line = serde_json::to_value(line).unwrap_or_default();
        let text = format!("{line}\n");
        if self.events.is_none() {
            let logged = fs::read_to_string(self.path.join("metrics.jsonl"))
                .map_err(|source| self.metrics_error(source))?;
            self.events = Some(EventLog::open(&self.path, &logged)?);
        }
        self.metrics.write_all(text.as_bytes()).map_err(|source| self.metrics_error(source))?;
        self.events.as_mut().map_or(Ok(()), |events| events.append(&line))
    }

    /// Bytes in `metrics.jsonl`.
    pub fn logged(&self) -> Result<u64, RunError> {
        Ok(self.metrics.metadata().map_err(|source| self.metrics_error(source))?.len())
    }

    /// Forgets lines that were written after the checkpoint that is gone on from.
    pub fn truncate_log(&mut self, bytes: u64) -> Result<(), RunError> {
        if bytes < self.logged()? {
            self.metrics.set_len(bytes).map_err(|source| self.metrics_error(source))?;
        }
        Ok(())
    }

    /// Replaces a checkpoint by what `write` puts into an empty folder; the old one stays if that fails.
    pub fn save<E: From<RunError>>(
        &self,
        name: &str,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let target = checkpoint(&self.path, name);
        let io = |source| E::from(RunError::Io { path: target.clone(), source });
        let new = beside(&target, "new");
        remove(&new).map_err(io)?;
        fs::create_dir(&new).map_err(io)?;
        let written =
            write(&new).and_then(|()| digests::write(&new).map_err(|error| E::from(error.into())));
        if let Err(error) = written {
            // What is half written helps nobody; that it cannot be removed would hide the cause.
            let _ = remove(&new);
            return Err(error);
        }
        swap(&new, &target).map_err(io)
    }

    fn metrics_error(&self, source: io::Error) -> RunError {
        RunError::Io { path: self.path.join("metrics.jsonl"), source }
    }
}

/// Whether a folder is not there, or holds no more than a run that was killed before it had a recipe.
fn is_vacant(path: &Path) -> bool {
    let holds_only = |path: &Path, known: &dyn Fn(&std::ffi::OsStr) -> bool| {
        path.read_dir().map_or(true, |mut entries| {
            entries.all(|entry| entry.is_ok_and(|entry| known(&entry.file_name())))
        })
    };
    holds_only(path, &|name| name == "checkpoints" || name == ".recipe.toml.partial")
        && holds_only(&path.join("checkpoints"), &|name| name == ".lock")
}

fn lock(path: &Path) -> Result<File, RunError> {
    let io = |source| RunError::Io { path: path.to_owned(), source };
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RunError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

fn first_difference(earlier: &str, now: &str) -> Option<String> {
    let (mut a, mut b) = (earlier.lines(), now.lines());
    loop {
        match (a.next(), b.next()) {
            (None, None) => return None,
            (a, b) if a == b => {}
            (a, b) => {
                let (a, b) = (a.unwrap_or("nothing"), b.unwrap_or("nothing"));
                return Some(format!("`{a}` then, `{b}` now"));
            }
        }
    }
}

fn beside(target: &Path, suffix: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{suffix}"))
}

/// Puts `new` in place of `target`. Folders cannot be exchanged in one step everywhere: at every moment either `target` or
/// its predecessor under `.old` is complete, and [`recover`] puts it back.
fn swap(new: &Path, target: &Path) -> io::Result<()> {
    let old = beside(target, "old");
    remove(&old)?;
    if target.exists() {
        fs::rename(target, &old)?;
    }
    fs::rename(new, target)?;
    remove(&old)
}

fn recover(checkpoints: &Path) -> io::Result<()> {
    for name in [BEST, LAST] {
        let target = checkpoints.join(name);
        let old = beside(&target, "old");
        if old.is_dir() && !target.exists() {
            fs::rename(&old, &target)?;
        }
        remove(&old)?;
        remove(&beside(&target, "new"))?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(run: &Run, text: &str) -> Result<(), RunError> {
        run.save(LAST, |folder| {
            fs::write(folder.join("x"), text).unwrap();
            if text == "broken" { Err(RunError::InUse(folder.to_owned())) } else { Ok(()) }
        })
    }

    fn read(run: &Run) -> String {
        fs::read_to_string(run.last().unwrap().join("x")).unwrap()
    }

    #[test]
    fn a_checkpoint_that_cannot_be_written_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::open(&folder.path().join("run"), "a = 1\n", false).unwrap();
        assert!(run.last().is_none());
        save(&run, "first").unwrap();
        assert!(save(&run, "broken").is_err());
        assert_eq!(read(&run), "first");
        save(&run, "second").unwrap();
        assert_eq!(read(&run), "second");
    }

    #[test]
    fn a_swap_that_was_cut_off_is_undone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let run = Run::open(&path, "a = 1\n", false).unwrap();
        save(&run, "first").unwrap();
        drop(run);
        let last = checkpoint(&path, LAST);
        fs::rename(&last, beside(&last, "old")).unwrap();
        assert_eq!(read(&Run::open(&path, "a = 1\n", false).unwrap()), "first");
    }

    #[test]
    fn a_run_that_was_killed_at_its_beginning_can_begin_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        drop(Run::open(&path, "a = 1\n", false).unwrap());
        fs::rename(path.join(RECIPE), path.join(".recipe.toml.partial")).unwrap();
        fs::remove_file(path.join("metrics.jsonl")).unwrap();
        drop(Run::open(&path, "a = 1\n", false).unwrap());
        fs::remove_file(path.join(RECIPE)).unwrap();
        fs::write(path.join("checkpoints/mine"), "").unwrap();
        assert!(matches!(Run::open(&path, "a = 1\n", false), Err(RunError::NotARun(_))));
    }

    #[test]
    fn a_run_is_only_gone_on_with_by_its_own_recipe_and_by_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let run = Run::open(&path, "a = 1\n", false).unwrap();
        save(&run, "first").unwrap();
        assert!(matches!(Run::open(&path, "a = 1\n", false), Err(RunError::InUse(_))));
        drop(run);
        let error = Run::open(&path, "a = 2\n", false).unwrap_err();
        assert!(error.to_string().contains("`a = 1` then, `a = 2` now"), "{error}");
        assert!(Run::open(&path, "a = 2\n", true).unwrap().last().is_none());
    }

    #[test]
    fn event_files_say_what_the_log_says_after_going_on_and_beginning_anew() {
        use crate::train::tensorboard::tests::read_scalars;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let log = |run: &mut Run, steps: [u64; 2]| {
            for step in steps {
                run.log(&serde_json::json!({"step": step, "loss": step})).unwrap();
            }
        };
        let scalars = |steps: &[u16]| -> Vec<(i64, String, f32)> {
            steps.iter().map(|&s| (i64::from(s), "train/loss".into(), f32::from(s))).collect()
        };
        let mut run = Run::open(&path, "a = 1\n", false).unwrap();
        log(&mut run, [1, 2]);
        let at_checkpoint = run.logged().unwrap();
        log(&mut run, [3, 4]);
        drop(run);
        let mut run = Run::open(&path, "a = 1\n", false).unwrap();
        run.truncate_log(at_checkpoint).unwrap();
        log(&mut run, [3, 5]);
        assert_eq!(read_scalars(&path), scalars(&[1, 2, 3, 5]));
        drop(run);
        let mut run = Run::open(&path, "a = 2\n", true).unwrap();
        log(&mut run, [7, 8]);
        assert_eq!(read_scalars(&path), scalars(&[7, 8]));
    }

    #[test]
    fn a_folder_of_other_things_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "").unwrap();
        assert!(matches!(Run::open(folder.path(), "", true), Err(RunError::NotARun(_))));
    }
}
