//! The right to write a target: one process at a time makes, extends or replaces what is there.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::journal::{self, Made};
use super::{PARTIAL, REPLACED, remove, sibling};
use crate::StoreError;

/// Bytes that a list has at most.
const LONGEST_LIST: u64 = 1 << 12;

/// Held for as long as a target is written, by whatever command: a lock on `.NAME.lock` beside it, which ends with the
/// process, however that ends.
///
/// The lock's file lists what its holder has made beside the target, for whoever comes after a kill: what is not listed is
/// somebody's, and never touched.
#[derive(Debug)]
pub struct Claim {
    target: PathBuf,
    path: PathBuf,
    file: File,
    made: Mutex<Vec<Made>>,
    /// Whether the lock's file is one, and not somebody's notes.
    is_ours: bool,
}

impl Claim {
    /// Takes the right to write a target, making the folder that it lies in. What an earlier process was killed over is
    /// removed, a store that it was about to replace put back.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process writes the target, [`StoreError::InTheWay`] if what is called like the lock's
    /// file is something else, [`StoreError::Io`].
    pub fn take(target: &Path) -> Result<Claim, StoreError> {
        let target = plain(target)?;
        let path = sibling(&target, "lock")?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
        }
        let file = loop {
            let file = open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(StoreError::Locked(target)),
                Err(TryLockError::Error(source)) => return Err(StoreError::Io { path, source }),
            }
            // Whoever held it before has removed it, and another may have made a new one.
            let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
            if fs::metadata(&path).ok().map(inode) == file.metadata().ok().map(inode) {
                break file;
            }
        };
        let mut claim = Claim { target, path, file, made: Mutex::default(), is_ours: false };
        claim.recover()?;
        claim.is_ours = true;
        Ok(claim)
    }

    /// What is written.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// `.NAME.SUFFIX` beside the target, where nothing is, for the holder to make. It is removed after a kill.
    ///
    /// # Errors
    /// [`StoreError::InTheWay`] if something is there, [`StoreError::Io`].
    pub fn beside(&self, suffix: &str) -> Result<PathBuf, StoreError> {
        let path = sibling(&self.target, suffix)?;
        if path.symlink_metadata().is_ok() {
            return Err(StoreError::InTheWay(path));
        }
        self.record(Made::new(suffix))?;
        Ok(path)
    }

    /// Where a writer keeps what it has of a store: nothing, or what an interrupted one has left.
    ///
    /// # Errors
    /// [`StoreError::InTheWay`] for anything else.
    pub(crate) fn partial(&self) -> Result<PathBuf, StoreError> {
        let path = sibling(&self.target, PARTIAL)?;
        match path.symlink_metadata() {
            Ok(metadata) if !metadata.is_dir() || !holds_an_environment_at_most(&path) => {
                Err(StoreError::InTheWay(path))
            }
            _ => Ok(path),
        }
    }

    /// Notes that a folder beside the target is about to change places with it.
    pub(super) fn about_to_exchange(&self, successor: &Path) -> Result<(), StoreError> {
        let inode = fs::metadata(successor).map_err(StoreError::io(successor))?.ino();
        let name = successor.file_name().unwrap_or_default().to_string_lossy();
        self.record(Made::exchanged(name.rsplit('.').next().unwrap_or_default(), inode))
    }

    /// Adds to the list, before it is made.
    fn record(&self, made: Made) -> Result<(), StoreError> {
        let mut list = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|other| other.suffix != made.suffix);
        list.push(made);
        self.write(&journal::to_text(&list)).map_err(StoreError::io(&self.path))
    }

    fn write(&self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.sync_data()
    }

    /// Undoes what a killed holder was at.
    fn recover(&self) -> Result<(), StoreError> {
        let mut text = Vec::new();
        let list = (&self.file).take(LONGEST_LIST).read_to_end(&mut text);
        list.map_err(StoreError::io(&self.path))?;
        let made = journal::from_text(&text);
        for made in made.ok_or_else(|| StoreError::InTheWay(self.path.clone()))? {
            let path = sibling(&self.target, &made.suffix)?;
            let Ok(there) = path.symlink_metadata() else { continue };
            if made.suffix == REPLACED && self.target.symlink_metadata().is_err() {
                fs::rename(&path, &self.target).map_err(StoreError::io(&self.target))?;
            } else if !made.is_of_use(there.ino()) {
                remove(&path).map_err(StoreError::io(&path))?;
            }
        }
        self.file.set_len(0).map_err(StoreError::io(&self.path))
    }

    /// Whether something is left of what the holder has made.
    fn has_left_something(&self) -> bool {
        let list = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let is_there = |made: &Made| {
            let path = sibling(&self.target, &made.suffix).ok()?;
            let there = path.symlink_metadata().ok()?;
            Some(!made.is_of_use(there.ino()))
        };
        list.iter().any(|made| is_there(made) == Some(true))
    }
}

/// Opens a lock's file, or makes it. What bears its name and is no file is somebody's: a link would lead elsewhere, a pipe
/// wait for somebody at its other end.
fn open(path: &Path) -> Result<File, StoreError> {
    let in_the_way = || StoreError::InTheWay(path.to_owned());
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = file.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP | libc::ENXIO | libc::EISDIR) => in_the_way(),
        _ => StoreError::Io { path: path.to_owned(), source: error },
    })?;
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err(in_the_way()),
        Err(source) => Err(StoreError::Io { path: path.to_owned(), source }),
    }
}

/// What a writer leaves: an environment's files and nothing else.
fn holds_an_environment_at_most(folder: &Path) -> bool {
    let is_of_it = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            is_file && ["data.mdb", "lock.mdb"].iter().any(|name| entry.file_name() == *name)
        })
    };
    folder.read_dir().is_ok_and(|mut entries| entries.all(is_of_it))
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_ours {
            return;
        }
        // The list is kept for as long as what it lists could not be removed. Still locked, nobody can take the file for theirs;
        // where it cannot be removed, it is litter, no failure.
        if !self.has_left_something() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The path without `.` at its end, which cannot be renamed.
fn plain(target: &Path) -> Result<PathBuf, StoreError> {
    match target.file_name() {
        Some(_) => Ok(target.components().collect()),
        None => target.canonicalize().map_err(StoreError::io(target)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("deep/store");
        let claim = Claim::take(&target).unwrap();
        assert!(matches!(Claim::take(&target.join(".")), Err(StoreError::Locked(_))));
        drop(claim);
        assert_eq!(target.parent().unwrap().read_dir().unwrap().count(), 0);
        assert_eq!(Claim::take(&target).unwrap().target(), target);
    }

    #[test]
    fn threads_that_compete_are_never_two_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("store");
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let Ok(_claim) = Claim::take(&target) else { continue };
                        let before = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        assert_eq!(before, 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
    }

    /// A claim whose holder is killed: its list stays.
    fn killed(target: &Path, make: impl FnOnce(&Claim)) {
        let claim = Claim::take(target).unwrap();
        make(&claim);
        let list = fs::read(&claim.path).unwrap();
        drop(claim);
        fs::write(sibling(target, "lock").unwrap(), list).unwrap();
    }

    #[test]
    fn a_replacement_that_was_cut_off_is_undone() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("store");
        killed(&target, |claim| fs::create_dir(claim.beside(REPLACED).unwrap()).unwrap());
        drop(Claim::take(&target).unwrap());
        assert!(target.is_dir());
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn after_an_exchange_the_old_one_goes_and_before_it_the_new_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (target, partial) = (folder.path().join("store"), folder.path().join(".store.partial"));
        fs::create_dir(&target).unwrap();
        fs::create_dir(&partial).unwrap();
        killed(&target, |claim| claim.about_to_exchange(&partial).unwrap());
        drop(Claim::take(&target).unwrap());
        assert!(partial.is_dir());
        // Other commands begin anew.
        killed(&target, |claim| {
            let compact = claim.beside("compact").unwrap();
            fs::create_dir(&compact).unwrap();
            claim.about_to_exchange(&compact).unwrap();
        });
        drop(Claim::take(&target).unwrap());
        assert_eq!(folder.path().read_dir().unwrap().count(), 2);
        killed(&target, |claim| {
            claim.about_to_exchange(&partial).unwrap();
            fs::rename(&target, folder.path().join("old")).unwrap();
            fs::rename(&partial, &target).unwrap();
            fs::rename(folder.path().join("old"), &partial).unwrap();
        });
        drop(Claim::take(&target).unwrap());
        assert!(!partial.exists() && target.is_dir());
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn what_is_called_like_a_lock_and_is_none_is_never_touched() {
        let folder = tempfile::tempdir().unwrap();
        let (target, precious) = (folder.path().join("store"), folder.path().join("precious"));
        let lock = sibling(&target, "lock").unwrap();
        let is_refused = || matches!(Claim::take(&target), Err(StoreError::InTheWay(_)));
        fs::write(&precious, "precious").unwrap();
        std::os::unix::fs::symlink(&precious, &lock).unwrap();
        assert!(is_refused() && fs::read(&precious).unwrap() == b"precious");
        fs::remove_file(&lock).unwrap();
        std::os::unix::fs::symlink(folder.path().join("nowhere"), &lock).unwrap();
        assert!(is_refused() && !folder.path().join("nowhere").exists());
        fs::remove_file(&lock).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&lock).status().unwrap().success());
        assert!(is_refused());
        fs::remove_file(&lock).unwrap();
        // Notes, and the name of something that no command makes.
        let data = sibling(&target, "data").unwrap();
        fs::create_dir(&data).unwrap();
        for text in ["my own notes", "data\n", "partial\nmore\n"] {
            fs::write(&lock, text).unwrap();
            assert!(is_refused() && fs::read(&lock).unwrap() == text.as_bytes(), "{text}");
        }
        assert!(data.is_dir());
    }

    #[test]
    fn what_it_has_not_made_is_never_touched() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("store");
        for suffix in ["export", REPLACED, "copy"] {
            let somebodys = sibling(&target, suffix).unwrap();
            fs::write(&somebodys, "precious").unwrap();
            let claim = Claim::take(&target).unwrap();
            assert!(matches!(claim.beside(suffix), Err(StoreError::InTheWay(_))));
            drop(claim);
            assert_eq!(fs::read(&somebodys).unwrap(), b"precious");
        }
        let partial = sibling(&target, "partial").unwrap();
        std::os::unix::fs::symlink(folder.path(), &partial).unwrap();
        let claim = Claim::take(&target).unwrap();
        assert!(matches!(claim.partial(), Err(StoreError::InTheWay(_))));
        fs::remove_file(&partial).unwrap();
        fs::create_dir(&partial).unwrap();
        claim.partial().unwrap();
        fs::write(partial.join("notes"), "").unwrap();
        assert!(matches!(claim.partial(), Err(StoreError::InTheWay(_))));
    }
}
