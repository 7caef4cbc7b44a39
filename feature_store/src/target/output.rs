//! Is something that stands at a target an output of this program, which may be replaced, or somebody's files?
//!
//! A store says itself that it is one. A dump does not say who has written it: it is taken for an earlier export only if
//! another in the same format is to take its place, never for something that a store may replace.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::{FeatureStore, StoreError, formats};

/// What the LMDB directories that are written here hold.
const ENVIRONMENT: [&str; 3] = ["data.mdb", "lock.mdb", "writer.lock"];

/// Whether a file or folder is a store or an export in a format, and nothing else lies in it.
///
/// # Errors
/// What it holds instead.
pub(super) fn recognise(path: &Path, format: &str) -> Result<(), String> {
    if !path.is_dir() {
        return recognise_file(path, format);
    }
    let names = names_below(path).map_err(|error| error.to_string())?;
    // Nothing is lost with an empty folder.
    if names.is_empty() {
        return Ok(());
    }
    let strangers: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| !belongs(name, &names)).collect();
    if let Some(first) = strangers.first() {
        return Err(match strangers.len() - 1 {
            0 => format!("`{first}`"),
            more => format!("`{first}` and {more} more that are no output of xenc"),
        });
    }
    match FeatureStore::open(path) {
        // A store that cannot be read any more is still one.
        Ok(_)
        | Err(StoreError::Version { .. } | StoreError::Damaged { .. } | StoreError::Count { .. }) =>
        {
            return Ok(());
        }
        Err(_) => {}
    }
    recognise_dump(path, format)
}

/// Whether a dump is of a format and begins with an image.
fn recognise_dump(path: &Path, format: &str) -> Result<(), String> {
    let source = formats::open(path).map_err(|error| format!("something else ({error})"))?;
    if path.is_file() && source.info().format == "npz" || path.ends_with("data.mdb") {
        return Err("part of a dump".into());
    }
    let found = source.info().format;
    if path.is_file() && found.ends_with("lmdb") {
        return Err("an LMDB environment in a file by itself, which nothing here writes".into());
    }
    if found != format {
        return Err(format!("a dump of another format ({found}), perhaps the only copy of it"));
    }
    let records = source.records().map_err(|error| format!("something else ({error})"));
    match records?.next().map(|record| record.and_then(|record| record.decode())) {
        Some(Err(error)) => Err(format!("something else ({error})")),
        _ => Ok(()),
    }
}

/// A TSV or HDF5 file; an empty one loses nothing.
fn recognise_file(path: &Path, format: &str) -> Result<(), String> {
    let metadata = path.metadata().map_err(|error| format!("something else ({error})"))?;
    if metadata.is_file() && metadata.len() == 0 {
        return Ok(());
    }
    recognise_dump(path, format)
}

/// Whether a file's path below a folder is one that an export or a store consists of.
fn belongs(name: &str, names: &BTreeSet<String>) -> bool {
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    let is_counts = |name: &str| name.starts_with("nbb_") && name.ends_with(".json");
    if ENVIRONMENT.contains(&file) {
        // UNITER's environment lies one level down, beside its counts; any other there is a dump of its own.
        let of_uniter = folder.starts_with("feat_") && !folder.contains('/');
        let at_top = names.contains("data.mdb");
        return if at_top {
            folder.is_empty()
        } else {
            of_uniter && names.iter().any(|n| is_counts(n))
        };
    }
    if !folder.is_empty() {
        return false;
    }
    if let Some(stem) = name.strip_suffix(".npy") {
        let partner = stem.strip_suffix("_info").map(|image| format!("{image}.npy"));
        return names.contains(&format!("{stem}_info.npy"))
            || partner.is_some_and(|partner| names.contains(&partner));
    }
    let beside = names.iter().any(|name| name.ends_with("/data.mdb"));
    // An environment and a folder of archives are two dumps.
    let lmdb = beside || names.contains("data.mdb");
    (name.ends_with(".npz") && !lmdb) || (is_counts(name) && beside)
}

/// All that is below a folder, by path; a folder counts only if it is empty, a link always.
fn names_below(folder: &Path) -> std::io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let mut is_empty = true;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            is_empty = false;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                folders.push((entry.path(), format!("{name}/")));
            } else {
                names.insert(name);
            }
        }
        if is_empty && !prefix.is_empty() {
            names.insert(prefix);
        }
    }
    Ok(names)
}
