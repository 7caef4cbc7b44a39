//! ImageCoDe's annotation files and its rule for image ids.
//!
//! Three layouts: labelled `{set directory: {target index: description}}`, unlabelled `{set directory: [description]}`,
//! and ImageCoDe-simple's `[{directory, pos_idx, neg_idx, caption}]`. A target index is a position among the set's
//! images sorted by the number in their file names (`img63.jpg`), not that number.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::{FeatureStore, StoreError};

/// Images in a set.
pub const SET_SIZE: usize = 10;
/// What stands in place of descriptions in ImageCoDe's split by annotator.
const ANNOTATORS: [&str; 2] = ["train_worker", "unseen_worker"];

/// One description and the set it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Directory of the image set.
    pub directory: String,
    /// The text.
    pub text: String,
    /// Position of the described image in the set, if the split is labelled.
    pub target: Option<usize>,
    /// For ImageCoDe-simple the one wrong candidate; otherwise all other images are candidates.
    pub distractor: Option<usize>,
}

/// Why an annotation file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not JSON; the position is in the source error.
    #[error("{path} is not valid JSON: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// JSON in none of the three layouts.
    #[error("{path}, `{entry}`: {what}")]
    Layout {
        /// The file.
        path: PathBuf,
        /// The set directory, or the number of the entry.
        entry: String,
        /// What is wrong.
        what: String,
    },
    /// No description at all.
    #[error("{0} holds no descriptions")]
    Empty(PathBuf),
    /// `annotator_split_valid.json`, which has the layout of a labelled split.
    #[error(
        "{0} tells who has written the descriptions, not what they say; name the split itself (valid_data.json)"
    )]
    Annotators(PathBuf),
}

/// Whether a set's images are unrelated photographs rather than frames of a video.
pub fn is_static(directory: &str) -> bool {
    directory.starts_with("open-images")
}

/// What the ids of a set's images begin with: the directory's letters and digits, then `img`.
pub fn id_prefix(directory: &str) -> String {
    directory.chars().filter(char::is_ascii_alphanumeric).chain("img".chars()).collect()
}

/// The id of an image from its directory and the number in its file name: `open-images-1815_f91d` image 5 is
/// `openimages1815f91dimg5`.
pub fn image_id(directory: &str, number: u64) -> String {
    format!("{}{number}", id_prefix(directory))
}

/// The ids of a set's images that a store holds, sorted by number: position is what target indices count.
///
/// # Errors
/// If the store cannot be read.
pub fn set_images(store: &FeatureStore, directory: &str) -> Result<Vec<String>, StoreError> {
    // Ids of one set are neighbours; a few more than ten are read so that superfluous ones are seen.
    let ids = store.ids_from(&id_prefix(directory), 4 * SET_SIZE)?;
    Ok(first_images(directory, ids))
}

/// The images of a set among ids in alphabetical order that begin with its first: sorted by number, as
/// [`set_images`] gives them.
pub fn first_images(directory: &str, ids: impl IntoIterator<Item = String>) -> Vec<String> {
    let prefix = id_prefix(directory);
    let number = |id: &str| id.strip_prefix(&prefix)?.parse().ok();
    let mut images: Vec<(u64, String)> =
        ids.into_iter().map_while(|id| Some((number(&id)?, id))).collect();
    images.sort_unstable();
    images.into_iter().map(|(_, id)| id).collect()
}

#[derive(Deserialize)]
struct SimplePair {
    directory: String,
    pos_idx: usize,
    neg_idx: usize,
    caption: String,
}

/// Reads an annotation file in any of the three layouts, in the order of the file.
///
/// # Errors
/// [`DatasetError`]; an empty split is one.
pub fn load_split(path: &Path) -> Result<Vec<Description>, DatasetError> {
    let text = crate::text::read(path)
        .map_err(|source| DatasetError::Io { path: path.to_owned(), source })?;
    let json: Value = serde_json::from_slice(&text)
        .map_err(|source| DatasetError::Json { path: path.to_owned(), source })?;
    let layout = |entry: &str, what: String| DatasetError::Layout {
        path: path.to_owned(),
        entry: entry.to_owned(),
        what,
    };
    let mut descriptions = Vec::new();
    match json {
        Value::Object(sets) => {
            for (directory, entry) in sets {
                descriptions.extend(
                    set_descriptions(&directory, entry).map_err(|what| layout(&directory, what))?,
                );
            }
        }
        Value::Array(pairs) => {
            for (number, pair) in pairs.into_iter().enumerate() {
                let entry = number.to_string();
                let pair: SimplePair =
                    serde_json::from_value(pair).map_err(|e| layout(&entry, e.to_string()))?;
                for index in [pair.pos_idx, pair.neg_idx] {
                    check_target(index).map_err(|what| layout(&entry, what))?;
                }
                descriptions.push(Description {
                    directory: pair.directory,
                    text: pair.caption,
                    target: Some(pair.pos_idx),
                    distractor: Some(pair.neg_idx),
                });
            }
        }
        _ => return Err(layout("", "neither an object of sets nor a list of pairs".into())),
    }
    if descriptions.is_empty() {
        return Err(DatasetError::Empty(path.to_owned()));
    }
    if descriptions.iter().all(|description| ANNOTATORS.contains(&description.text.as_str())) {
        return Err(DatasetError::Annotators(path.to_owned()));
    }
    Ok(descriptions)
}

fn set_descriptions(directory: &str, entry: Value) -> Result<Vec<Description>, String> {
    let description = |text: Value, target| match text {
        Value::String(text) => {
            Ok(Description { directory: directory.to_owned(), text, target, distractor: None })
        }
        other => Err(format!("a description should be text, not {other}")),
    };
    match entry {
        Value::Object(by_target) => by_target
            .into_iter()
            .map(|(index, text)| {
                let target = index.parse().map_err(|_| format!("`{index}` is no target index"))?;
                check_target(target)?;
                description(text, Some(target))
            })
            .collect(),
        Value::Array(texts) => texts.into_iter().map(|text| description(text, None)).collect(),
        other => Err(format!("descriptions by target or a list of them expected, not {other}")),
    }
}

fn check_target(index: usize) -> Result<(), String> {
    if index < SET_SIZE { Ok(()) } else { Err(format!("target {index} of a set of {SET_SIZE}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_id_keeps_letters_and_digits_only() {
        assert_eq!(
            image_id("open-images-1815_f91d6f546e63f20d", 5),
            "openimages1815f91d6f546e63f20dimg5"
        );
        assert!(is_static("open-images-1815_f91d6f546e63f20d"));
        assert!(!is_static("MSR-VTT-videoTestVideo_video7047-shot1_0"));
    }

    fn load(json: &str) -> Result<Vec<Description>, DatasetError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("split.json");
        std::fs::write(&path, json).unwrap();
        load_split(&path)
    }

    #[test]
    fn all_three_layouts_are_read() {
        let labelled = load(r#"{"a_1": {"7": "the last but two"}}"#).unwrap();
        assert_eq!((labelled[0].target, labelled[0].text.as_str()), (Some(7), "the last but two"));
        let unlabelled = load(r#"{"a_1": ["one", "two"]}"#).unwrap();
        assert_eq!(unlabelled.iter().map(|d| d.target).collect::<Vec<_>>(), [None, None]);
        let simple =
            load(r#"[{"directory": "a_1", "pos_idx": 1, "neg_idx": 4, "caption": "x"}]"#).unwrap();
        assert_eq!((simple[0].target, simple[0].distractor), (Some(1), Some(4)));
    }

    #[test]
    fn a_bad_split_is_told_by_place() {
        assert!(matches!(load("{}"), Err(DatasetError::Empty(_))));
        let annotators = load(r#"{"a_1": {"7": "unseen_worker", "8": "train_worker"}}"#);
        assert!(matches!(annotators, Err(DatasetError::Annotators(_))));
        assert!(load("{\"a\": ").unwrap_err().to_string().contains("line 1"));
        assert!(load(r#"{"set_9": {"10": "x"}}"#).unwrap_err().to_string().contains("set_9"));
        assert!(load(r#"{"set_9": {"1": 3}}"#).unwrap_err().to_string().contains("set_9"));
    }
}
