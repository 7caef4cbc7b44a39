//! Which files of a folder are a data set.

use std::path::{Path, PathBuf};

use super::{DatasetError, is_jsonl};

/// What the names of ImageCoDe's splits begin with.
const SPLITS: [&str; 3] = ["train", "val", "test"];

/// The files of a data set, each kind in the order of its names.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct DatasetFiles {
    /// ImageCoDe's splits in any layout.
    pub splits: Vec<PathBuf>,
    /// Data sets of one's own.
    pub examples: Vec<PathBuf>,
    /// ImageCoDe's phenomena (`manual_annotation*.yaml`).
    pub phenomena: Vec<PathBuf>,
    /// ImageCoDe's splits by annotator (`annotator*.json`).
    pub annotators: Vec<PathBuf>,
    /// Names of JSON and YAML files that are something else.
    pub left_out: Vec<String>,
}

impl DatasetFiles {
    /// Sorts the files of a folder by their names; a file by itself is a split or a data set of one's own.
    ///
    /// # Errors
    /// [`DatasetError::Io`], [`DatasetError::NoDataSet`].
    pub fn find(path: &Path) -> Result<DatasetFiles, DatasetError> {
        let mut files = DatasetFiles::default();
        let metadata = path.metadata().map_err(DatasetError::io(path))?;
        if !metadata.is_dir() {
            let group = if is_jsonl(path) { &mut files.examples } else { &mut files.splits };
            group.push(path.to_owned());
            return Ok(files);
        }
        let entries: std::io::Result<Vec<_>> = std::fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
        let mut entries = entries.map_err(DatasetError::io(path))?;
        entries.sort();
        entries.into_iter().filter(|entry| !entry.is_dir()).for_each(|entry| files.add(entry));
        match files.splits.is_empty() && files.examples.is_empty() {
            true => Err(DatasetError::NoDataSet(path.to_owned())),
            false => Ok(files),
        }
    }

    fn add(&mut self, path: PathBuf) {
        let name = name(&path);
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let begins = |start: &str| name.starts_with(start);
        match ending.as_str() {
            _ if is_jsonl(&path) => self.examples.push(path),
            "json" if begins("annotator") => self.annotators.push(path),
            "json" if SPLITS.into_iter().any(begins) => self.splits.push(path),
            "yaml" | "yml" if begins("manual_annotation") => self.phenomena.push(path),
            "json" | "yaml" | "yml" => self.left_out.push(name),
            _ => {}
        }
    }
}

/// A file's name, for people.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The split that a file is of: `valid_data.json` and `valid_simple.json` are of `valid`.
pub(super) fn split_name(file: &str) -> &str {
    file.split(['_', '.']).next().unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(DatasetFiles::find(folder.path()), Err(DatasetError::NoDataSet(_))));
        for name in [
            "valid_simple.json",
            "valid_data.json",
            "test_data_unlabeled.json",
            "own.jsonl",
            "LICENSE",
            "annotator_split_valid.json",
            "manual_annotation_valid.yaml",
            "counter2key_val.json",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let files = DatasetFiles::find(folder.path()).unwrap();
        let names = |paths: &[PathBuf]| paths.iter().map(|path| name(path)).collect::<Vec<_>>();
        assert_eq!(
            names(&files.splits),
            ["test_data_unlabeled.json", "valid_data.json", "valid_simple.json"]
        );
        assert_eq!(names(&files.examples), ["own.jsonl"]);
        assert_eq!((files.phenomena.len(), files.annotators.len()), (1, 1));
        assert_eq!(files.left_out, ["counter2key_val.json"]);
        let one = DatasetFiles::find(&folder.path().join("own.jsonl")).unwrap();
        assert_eq!((one.examples.len(), one.splits.len()), (1, 0));
        assert_eq!(split_name("valid_data.json"), split_name("valid_simple.json"));
    }
}
