//! Outputs appear complete or not at all: written beside their target under a name of their own, then renamed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::StoreError;

mod claim;
mod journal;
mod output;

pub use claim::Claim;

/// What a target is called for as long as its successor takes its place.
const REPLACED: &str = "replaced";
/// What a store is called that is not complete yet; what an interrupted run goes on with.
const PARTIAL: &str = "partial";
/// The file of an LMDB environment.
const DATA: &str = "data.mdb";

/// `.NAME.SUFFIX` beside a target.
///
/// # Errors
/// A target without a name (`/`, `..`).
pub(crate) fn sibling(target: &Path, suffix: &str) -> Result<PathBuf, StoreError> {
    let Some(name) = target.file_name() else {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it names no file or directory");
        return Err(StoreError::Io { path: target.to_owned(), source });
    };
    // Byte by byte: names that are no UTF-8 may look alike.
    let mut sibling = OsString::from(".");
    sibling.push(name);
    sibling.push(".");
    sibling.push(suffix);
    Ok(target.with_file_name(sibling))
}

/// Refuses a target that cannot be written, before any work: one inside one of the `sources`, which would be two dumps
/// afterwards, and what [`check_among_files`] refuses.
///
/// # Errors
/// As [`check_among_files`].
pub(crate) fn check(
    target: &Path,
    format: &str,
    overwrite: bool,
    sources: &[&Path],
) -> Result<(), StoreError> {
    sources.iter().try_for_each(|source| outside_of(target, source))?;
    check_among_files(target, format, overwrite, sources)
}

/// Refuses a target whose sources may lie around it, such as a folder of pictures: one inside a store; one that is or
/// holds one of the `sources`; one that is there and is neither a store nor an export in the `format` that is to be
/// written, which nothing here ever replaces; and any other that is there, unless it is to be replaced.
///
/// # Errors
/// [`StoreError::Inside`], [`StoreError::HoldsSource`], [`StoreError::Irreplaceable`], [`StoreError::Exists`].
pub(crate) fn check_among_files(
    target: &Path,
    format: &str,
    overwrite: bool,
    sources: &[&Path],
) -> Result<(), StoreError> {
    outside_of_stores(target, "the target")?;
    // A dangling link is something that is there, too.
    if target.symlink_metadata().is_err() {
        return Ok(());
    }
    if overwrite && target.is_symlink() {
        let source =
            io::Error::new(io::ErrorKind::InvalidInput, "it is a link; name what it leads to");
        return Err(StoreError::Io { path: target.to_owned(), source });
    }
    let place = real(target);
    if let Some(source) = sources.iter().find(|source| real(source).starts_with(&place)) {
        let (path, input) = (target.to_owned(), (*source).to_owned());
        return Err(StoreError::HoldsSource { path, input });
    }
    if let Err(what) = output::recognise(target, format) {
        return Err(StoreError::Irreplaceable { path: target.to_owned(), what });
    }
    if overwrite { Ok(()) } else { Err(StoreError::Exists(target.to_owned())) }
}

/// Refuses a target below a folder that is read: it would hold two dumps afterwards, and not be read any more.
///
/// # Errors
/// [`StoreError::Inside`].
pub fn outside_of(target: &Path, source: &Path) -> Result<(), StoreError> {
    let (place, around) = (real(target), real(source));
    if place == around || !place.starts_with(&around) {
        return Ok(());
    }
    let (path, inside) = (target.to_owned(), source.to_owned());
    Err(StoreError::Inside { path, inside, what: "the target" })
}

/// Refuses a quarantine that lies inside a source or the target, or would be in its place, before any work.
///
/// # Errors
/// [`StoreError::Inside`].
pub(crate) fn check_quarantine(folder: &Path, others: &[&Path]) -> Result<(), StoreError> {
    let (what, place) = ("the quarantine", real(folder));
    if let Some(other) = others.iter().find(|other| place.starts_with(real(other))) {
        let (path, inside) = (folder.to_owned(), (*other).to_owned());
        return Err(StoreError::Inside { path, inside, what });
    }
    if folder.join(DATA).exists() {
        let (path, inside) = (folder.to_owned(), folder.to_owned());
        return Err(StoreError::Inside { path, inside, what });
    }
    outside_of_stores(folder, what)
}

/// Refuses a path below a folder that holds an LMDB environment: nothing else belongs there, and a successor would take
/// it along.
///
/// # Errors
/// [`StoreError::Inside`].
pub fn outside_of_stores(path: &Path, what: &'static str) -> Result<(), StoreError> {
    match real(path).ancestors().skip(1).find(|folder| folder.join(DATA).exists()) {
        Some(store) => {
            let (path, inside) = (path.to_owned(), store.to_owned());
            Err(StoreError::Inside { path, inside, what })
        }
        None => Ok(()),
    }
}

/// A path without links, as far as it is there.
fn real(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = whole.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
    match found {
        Some((part, place)) => place.join(whole.strip_prefix(part).unwrap_or(&whole)),
        None => whole,
    }
}

/// Puts what is complete in place of the target, durably. What stood there goes only once that is done, and where the file
/// system can exchange two names, there is no moment without a target.
///
/// # Errors
/// [`StoreError::Exists`] if the target has appeared meanwhile and is not to be replaced, [`StoreError::Io`].
pub(crate) fn publish(
    complete: &Path,
    claim: &Claim,
    format: &str,
    overwrite: bool,
) -> Result<(), StoreError> {
    let target = claim.target();
    check(target, format, overwrite, &[])?;
    let replaced = if target.is_dir() && !target.is_symlink() {
        Some(replace_folder(complete, claim)?)
    } else {
        // An empty file stands in the way of a folder.
        if complete.is_dir() && target.symlink_metadata().is_ok() {
            fs::remove_file(target).map_err(StoreError::io(target))?;
        }
        fs::rename(complete, target).map_err(StoreError::io(target))?;
        None
    };
    // The rename is durable only once its directory is.
    if let Some(parent) = target.canonicalize().ok().as_deref().and_then(Path::parent) {
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(StoreError::io(parent))?;
    }
    // The new one is in place: what cannot be removed is litter, no failure.
    let _ = replaced.map(|replaced| remove(&replaced));
    Ok(())
}

/// Puts a folder in the place of another; returns where that one is now. [`Claim::take`] mends what a kill leaves.
fn replace_folder(complete: &Path, claim: &Claim) -> Result<PathBuf, StoreError> {
    let target = claim.target();
    claim.about_to_exchange(complete)?;
    if renameat_with(CWD, complete, CWD, target, RenameFlags::EXCHANGE).is_ok() {
        return Ok(complete.to_owned());
    }
    // Not every file system can do that.
    let replaced = claim.beside(REPLACED)?;
    fs::rename(target, &replaced).map_err(StoreError::io(target))?;
    let moved = fs::rename(complete, target).inspect_err(|_| {
        let _ = fs::rename(&replaced, target);
    });
    moved.map_err(StoreError::io(target))?;
    Ok(replaced)
}

/// Gives a file or folder the permissions of the one whose successor it is.
pub(crate) fn inherit_permissions(successor: &Path, from: &Path) -> Result<(), StoreError> {
    fs::metadata(from)
        .and_then(|metadata| fs::set_permissions(successor, metadata.permissions()))
        .map_err(StoreError::io(successor))
}

/// Removes a file or a directory with all it holds; nothing there is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
