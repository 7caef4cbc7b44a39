//! Digests beside the files of a checkpoint, so that damage on a disk or in a copy is noticed and not ranked with.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const FILE: &str = "digests.json";
/// Recipe and configuration may be edited; weights, optimiser and vocabulary may not.
const EDITABLE: [&str; 2] = ["recipe.toml", "config.json"];

/// Why a checkpoint is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    /// The file system refuses, or the list of digests is no JSON.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file that is not what was written.
    #[error(
        "{0} is not what was written there: it is damaged, or was replaced by another (then remove {FILE} beside it)"
    )]
    Changed(PathBuf),
}

/// Writes the digests of all files in a folder that may not be edited.
pub(crate) fn write(folder: &Path) -> Result<(), DigestError> {
    let io = |source| DigestError::Io { path: folder.to_owned(), source };
    let mut digests = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && !EDITABLE.contains(&&*name) {
            digests.insert(name, digest(&path)?);
        }
    }
    let path = folder.join(FILE);
    let text = serde_json::to_string_pretty(&digests).unwrap_or_default();
    fs::write(&path, text).map_err(|source| DigestError::Io { path, source })
}

/// Makes sure that they are what was written; a folder without digests is taken as it is.
pub(crate) fn check(folder: &Path) -> Result<(), DigestError> {
    let list = folder.join(FILE);
    if !list.is_file() {
        return Ok(());
    }
    let io = |source| DigestError::Io { path: list.clone(), source };
    let text = feature_store::text::read_text(&list).map_err(io)?;
    let digests: BTreeMap<String, String> =
        serde_json::from_str(&text).map_err(|error| io(error.into()))?;
    for (name, expected) in digests {
        let path = folder.join(name);
        if digest(&path)? != expected {
            return Err(DigestError::Changed(path));
        }
    }
    Ok(())
}

/// XXH3 of a file, in hexadecimal digits.
pub(crate) fn digest(path: &Path) -> Result<String, DigestError> {
    evaluation::digest(path).map_err(|source| DigestError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_is_noticed_and_an_edited_recipe_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (weights, recipe) =
            (folder.path().join("model.safetensors"), folder.path().join("recipe.toml"));
        fs::write(&weights, b"weights").unwrap();
        fs::write(&recipe, "a = 1").unwrap();
        check(folder.path()).unwrap();
        write(folder.path()).unwrap();
        fs::write(&recipe, "a = 2").unwrap();
        check(folder.path()).unwrap();
        fs::write(&weights, b"weighty").unwrap();
        let error = check(folder.path()).unwrap_err().to_string();
        assert!(error.contains("model.safetensors is not what was written"), "{error}");
        fs::remove_file(&weights).unwrap();
        assert!(matches!(check(folder.path()), Err(DigestError::Io { .. })));
    }
}
