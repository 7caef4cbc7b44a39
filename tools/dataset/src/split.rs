//! ImageCoDe's annotation files.

use std::collections::HashSet;
use std::path::Path;

use super::json::Json;
use super::{DatasetError, Kind, SET_SIZE};

/// What stands in place of descriptions in ImageCoDe's split by annotator.
const ANNOTATORS: [&str; 2] = ["train_worker", "unseen_worker"];
/// Keys of a pair of ImageCoDe-simple.
const PAIR: [&str; 4] = ["directory", "pos_idx", "neg_idx", "caption"];

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

/// One thing that is wrong with an entry of an annotation file, which is left out for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Of which kind.
    pub kind: Kind,
    /// The set directory, or the number of the entry.
    pub entry: String,
    /// What is wrong.
    pub what: String,
}

/// All of an annotation file that can be read, and what is wrong with the rest.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Split {
    /// In the order of the file.
    pub descriptions: Vec<Description>,
    /// In the order of the file.
    pub faults: Vec<Fault>,
    /// Directories of sets without a description: there is nothing to be read, and nothing wrong with the rest.
    pub undescribed: Vec<String>,
}

impl Split {
    /// Whether it tells who has written descriptions, not what they say.
    pub fn is_of_annotators(&self) -> bool {
        let is_word = |text: &str| ANNOTATORS.contains(&text);
        let mut texts = self.descriptions.iter().map(|description| description.text.as_str());
        !self.descriptions.is_empty() && texts.all(is_word)
    }

    fn fault(&mut self, kind: Kind, entry: &str, what: impl Into<String>) {
        self.faults.push(Fault { kind, entry: entry.to_owned(), what: what.into() });
    }
}

/// Reads an annotation file in any of the three layouts, in the order of the file.
///
/// # Errors
/// [`DatasetError`]; an empty split is one, and so is a set or a target that the file has twice: other readers keep the
/// last of them without a word.
pub fn load_split(path: &Path) -> Result<Vec<Description>, DatasetError> {
    accept(path, read_split(path)?)
}

/// The descriptions of a split with which nothing is wrong.
///
/// # Errors
/// As [`load_split`].
pub(super) fn accept(path: &Path, split: Split) -> Result<Vec<Description>, DatasetError> {
    let annotators = split.is_of_annotators();
    if let Some(Fault { entry, what, .. }) = split.faults.into_iter().next() {
        return Err(DatasetError::Layout { path: path.to_owned(), entry, what });
    }
    if split.descriptions.is_empty() {
        return Err(DatasetError::Empty(path.to_owned()));
    }
    match annotators {
        true => Err(DatasetError::Annotators(path.to_owned())),
        false => Ok(split.descriptions),
    }
}

/// As [`load_split`], but goes on after an entry that is wrong.
///
/// # Errors
/// [`DatasetError::Io`], [`DatasetError::Json`].
pub fn read_split(path: &Path) -> Result<Split, DatasetError> {
    Ok(of_json(read_json(path)?))
}

/// The JSON of a file.
///
/// # Errors
/// As [`read_split`].
pub(super) fn read_json(path: &Path) -> Result<Json, DatasetError> {
    let text = feature_store::text::read(path).map_err(DatasetError::io(path))?;
    serde_json::from_slice(&text)
        .map_err(|source| DatasetError::Json { path: path.to_owned(), source })
}

/// What the JSON of an annotation file says.
pub(super) fn of_json(json: Json) -> Split {
    let mut split = Split::default();
    match json {
        Json::Object(sets) => {
            let mut known = HashSet::new();
            for (directory, entry) in sets {
                if known.contains(&directory) {
                    split.fault(Kind::RepeatedKey, &directory, "the file has this set twice");
                } else {
                    set_descriptions(&directory, entry, &mut split);
                    known.insert(directory);
                }
            }
        }
        Json::Array(pairs) => {
            for (number, pair) in pairs.into_iter().enumerate() {
                match simple_pair(pair) {
                    Ok(description) => split.descriptions.push(description),
                    Err((kind, what)) => split.fault(kind, &number.to_string(), what),
                }
            }
        }
        _ => split.fault(Kind::Layout, "", "neither an object of sets nor a list of pairs"),
    }
    split
}

fn set_descriptions(directory: &str, entry: Json, split: &mut Split) {
    let items: Vec<(Option<String>, Json)> = match entry {
        Json::Object(by_target) => {
            by_target.into_iter().map(|(index, text)| (Some(index), text)).collect()
        }
        Json::Array(texts) => texts.into_iter().map(|text| (None, text)).collect(),
        other => {
            let what =
                format!("descriptions by target or a list of them expected, not {}", other.kind());
            return split.fault(Kind::Layout, directory, what);
        }
    };
    if items.is_empty() {
        split.undescribed.push(directory.to_owned());
    }
    let mut targets = [false; SET_SIZE];
    for (index, text) in items {
        let target = match index.as_deref().map(parse_target).transpose() {
            Ok(target) => target,
            Err(what) => {
                split.fault(Kind::Target, directory, what);
                continue;
            }
        };
        if target.is_some_and(|target| std::mem::replace(&mut targets[target], true)) {
            let what = format!("target {} comes twice", target.unwrap_or_default());
            split.fault(Kind::RepeatedKey, directory, what);
            continue;
        }
        match text {
            Json::Text(text) => split.descriptions.push(Description {
                directory: directory.to_owned(),
                text,
                target,
                distractor: None,
            }),
            other => {
                let what = format!("a description should be text, not {}", other.kind());
                split.fault(Kind::Layout, directory, what);
            }
        }
    }
}

/// Only as it is written: `07` and `+7` would be a second name of 7.
fn parse_target(index: &str) -> Result<usize, String> {
    match index.parse() {
        Ok(target) if target < SET_SIZE && index.len() == 1 => Ok(target),
        Ok(target) if target >= SET_SIZE => Err(outside(target)),
        _ => Err(format!("`{index}` is no target index")),
    }
}

fn outside(target: usize) -> String {
    format!("target {target} of a set of {SET_SIZE}")
}

fn simple_pair(pair: Json) -> Result<Description, (Kind, String)> {
    let layout = |what: String| (Kind::Layout, what);
    let Json::Object(entries) = pair else {
        return Err(layout(format!("a pair is an object, not {}", pair.kind())));
    };
    let mut found: [Option<Json>; 4] = [const { None }; 4];
    for (key, value) in entries {
        // Other keys are no business of ours; ImageCoDe's own readers pass over them, too.
        let Some(at) = PAIR.iter().position(|known| *known == key) else { continue };
        if found[at].replace(value).is_some() {
            return Err((Kind::RepeatedKey, format!("`{key}` comes twice")));
        }
    }
    let missing = |key: &str| layout(format!("missing key `{key}`"));
    let [directory, pos, neg, caption] = found;
    let text = |value: Option<Json>, key: &str| match value.ok_or_else(|| missing(key))? {
        Json::Text(text) => Ok(text),
        other => Err(layout(format!("`{key}` should be text, not {}", other.kind()))),
    };
    let index = |value: Option<Json>, key: &str| {
        let value = value.ok_or_else(|| missing(key))?;
        match value.index() {
            Some(index) if index < SET_SIZE => Ok(index),
            Some(index) => Err((Kind::Target, format!("`{key}`: {}", outside(index)))),
            None => Err((Kind::Target, format!("`{key}` should be 0 to 9, not {}", value.kind()))),
        }
    };
    let (target, distractor) = (index(pos, PAIR[1])?, index(neg, PAIR[2])?);
    if target == distractor {
        return Err((Kind::Target, format!("`pos_idx` and `neg_idx` are both {target}")));
    }
    Ok(Description {
        directory: text(directory, PAIR[0])?,
        text: text(caption, PAIR[3])?,
        target: Some(target),
        distractor: Some(distractor),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for (json, said) in [
            (r#"{"set_9": {"10": "x"}}"#, "set_9`: target 10"),
            (r#"{"set_9": {"07": "x"}}"#, "`07` is no target"),
            (r#"{"set_9": {"1": 3}}"#, "set_9`: a description should be text, not 3"),
            (r#"{"set_9": ["a"], "set_9": ["b"]}"#, "set_9`: the file has this set twice"),
            (r#"{"set_9": {"1": "a", "1": "b"}}"#, "set_9`: target 1 comes twice"),
            (r#"[{"directory": "a", "pos_idx": 1, "neg_idx": 1, "caption": "x"}]"#, "both 1"),
            (r#"[{"directory": "a", "pos_idx": 1, "caption": "x"}]"#, "`0`: missing key `neg_idx`"),
        ] {
            let error = load(json).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn sets_without_descriptions_are_named() {
        let split = of_json(serde_json::from_str(r#"{"a": {}, "b": ["x"], "c": []}"#).unwrap());
        assert_eq!(
            (split.undescribed, split.descriptions.len()),
            (vec!["a".into(), "c".into()], 1)
        );
    }

    #[test]
    fn reading_goes_on_after_a_fault() {
        let json = r#"{"a": {"1": "x", "x": "y", "2": 5}, "b": 7, "c": ["z"]}"#;
        let split = of_json(serde_json::from_str(json).unwrap());
        let texts: Vec<&str> = split.descriptions.iter().map(|d| d.text.as_str()).collect();
        assert_eq!(texts, ["x", "z"]);
        let kinds: Vec<Kind> = split.faults.iter().map(|fault| fault.kind).collect();
        assert_eq!(kinds, [Kind::Target, Kind::Layout, Kind::Layout]);
    }
}
