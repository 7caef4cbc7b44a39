//! The right to write a target: one process at a time makes, extends or replaces what is there.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{REPLACED, sibling};
use crate::StoreError;

/// Held for as long as a target is written, by whatever command: a lock on `.NAME.lock` beside it, which ends with the
/// process, however that ends.
#[derive(Debug)]
pub(crate) struct Claim {
    target: PathBuf,
    path: PathBuf,
    _file: File,
}

impl Claim {
    /// Takes the right to write a target, making the folder that it lies in. A store that an earlier process was killed
    /// while replacing is put back.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process writes the target, [`StoreError::Io`].
    pub(crate) fn take(target: &Path) -> Result<Claim, StoreError> {
        let target = plain(target)?;
        let path = sibling(&target, "lock")?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
        }
        let file = loop {
            let file = File::options().create(true).truncate(false).write(true).open(&path);
            let file = file.map_err(StoreError::io(&path))?;
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
        let claim = Claim { target, path, _file: file };
        claim.recover()?;
        Ok(claim)
    }

    /// What is written.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Undoes the first half of a replacement whose second half is missing.
    fn recover(&self) -> Result<(), StoreError> {
        let replaced = sibling(&self.target, REPLACED)?;
        if replaced.symlink_metadata().is_ok() && self.target.symlink_metadata().is_err() {
            fs::rename(&replaced, &self.target).map_err(StoreError::io(&self.target))?;
        }
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Still locked: nobody can take it for theirs. What cannot be removed is litter, no failure.
        let _ = fs::remove_file(&self.path);
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

    #[test]
    fn a_replacement_that_was_cut_off_is_undone() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("store");
        fs::create_dir(folder.path().join(".store.replaced")).unwrap();
        drop(Claim::take(&target).unwrap());
        assert!(target.is_dir());
    }
}
