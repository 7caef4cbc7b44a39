//! The names of objects and attributes.

use std::path::{Path, PathBuf};

/// A vocabulary file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    /// The file system refuses, or the file is no text.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another number of names than the detector has classes.
    #[error("{path} has {found} names, and the detector {expected} {of}")]
    Count {
        /// The file.
        path: PathBuf,
        /// What is named: `objects` or `attributes`.
        of: &'static str,
        /// Names in it.
        found: usize,
        /// What the detector has of them.
        expected: usize,
    },
}

/// Reads `objects_vocab.txt` or `attributes_vocab.txt`: the name of class n on line n, of synonyms the first. `of` says what
/// they name (`objects`, `attributes`).
///
/// # Errors
/// [`NamesError`] with the path; another number of names than `count`.
pub fn read_names(path: &Path, of: &'static str, count: usize) -> Result<Vec<String>, NamesError> {
    let text = feature_store::text::read_text(path)
        .map_err(|source| NamesError::Io { path: path.to_owned(), source })?;
    let name = |line: &str| line.split(',').next().unwrap_or_default().trim().to_lowercase();
    let names: Vec<String> = text.lines().map(name).collect();
    if names.len() != count {
        let (path, found, expected) = (path.to_owned(), names.len(), count);
        return Err(NamesError::Count { path, of, found, expected });
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_first_synonym_in_lower_case() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("objects_vocab.txt");
        std::fs::write(&path, "Yolk\ngoal,net\nbathroom stall ,booth").unwrap();
        assert_eq!(read_names(&path, "objects", 3).unwrap(), ["yolk", "goal", "bathroom stall"]);
        let error = read_names(&path, "objects", 1600).unwrap_err().to_string();
        assert!(error.contains("has 3 names") && error.contains("1600"), "{error}");
    }
}
