//! ImageCoDe's annotation of phenomena, `manual_annotation_valid.yaml`:
//!
//! ```text
//! "open-images-1815_f91d6f546e63f20d":
//!   "7":
//!     "description": "Some green grass is seen in the lower right corner …"
//!     "annotation": "col,q,n,s"
//!     "visualization_id": "1"
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{AnnotationsError, read};
use crate::Prediction;

const LAYOUT: &str = "YAML of set directories, description numbers, `description` and `annotation` (codes with commas between)";

/// The codes that ImageCoDe uses, and what they stand for.
const NAMES: [(&str, &str); 10] = [
    ("con", "context"),
    ("v", "visibility"),
    ("n", "nuances"),
    ("neg", "negation"),
    ("s", "spatial relations"),
    ("q", "quantities"),
    ("col", "colours"),
    ("cor", "co-reference"),
    ("t", "temporal"),
    ("img", "properties of the image"),
];

/// What a phenomenon's code stands for; a code that ImageCoDe does not use stands for itself.
pub fn phenomenon_name(code: &str) -> &str {
    NAMES.iter().find(|(known, _)| *known == code).map_or(code, |(_, name)| name)
}

/// The phenomena of descriptions.
#[derive(Debug, Clone, PartialEq)]
pub struct Phenomena {
    path: PathBuf,
    entries: HashMap<String, HashMap<usize, Entry>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    text: String,
    codes: Vec<String>,
}

#[derive(Deserialize)]
struct YamlEntry {
    description: String,
    #[serde(default)]
    annotation: String,
}

impl Phenomena {
    /// Reads a file.
    ///
    /// # Errors
    /// [`AnnotationsError::Io`], [`AnnotationsError::Layout`]; the latter also if a set or a description occurs twice.
    pub fn load(path: &Path) -> Result<Phenomena, AnnotationsError> {
        let layout =
            |what| AnnotationsError::Layout { path: path.to_owned(), what, layout: LAYOUT };
        let yaml: HashMap<String, HashMap<Spanned<String>, YamlEntry>> =
            serde_saphyr::from_str(&read(path)?)
                .map_err(|error| layout(error.without_snippet().to_string()))?;
        let mut entries: HashMap<String, HashMap<usize, Entry>> = HashMap::new();
        for (directory, descriptions) in yaml {
            let set = entries.entry(directory).or_default();
            for (number, YamlEntry { description, annotation }) in descriptions {
                let line = number.referenced.line();
                let key = number.value.parse().map_err(|_| {
                    layout(format!("line {line}: `{}` is no number of a description", number.value))
                })?;
                set.insert(key, Entry { text: description, codes: codes(&annotation) });
            }
        }
        Ok(Phenomena { path: path.to_owned(), entries })
    }

    /// The codes of a description's phenomena, each once, in the order of the file: none if it was found to need none or
    /// was not annotated, which the file does not tell apart; `None` if the file does not have the description.
    pub fn of(&self, directory: &str, number: usize) -> Option<&[String]> {
        self.entries.get(directory)?.get(&number).map(|entry| entry.codes.as_slice())
    }

    /// Makes sure that the file is about these descriptions, and counts those whose text is another one there: a few of
    /// the published file are. Differences of white space do not count.
    ///
    /// # Errors
    /// [`AnnotationsError::OtherSplit`] if it has none of them, [`AnnotationsError::OtherText`] if it has another text
    /// for more than half of those that it has.
    pub fn check(&self, predictions: &[Prediction]) -> Result<usize, AnnotationsError> {
        let mut known = 0;
        let mut others = Vec::new();
        for prediction in predictions {
            let set = self.entries.get(&prediction.directory);
            let Some(entry) = set.and_then(|set| set.get(&prediction.number)) else { continue };
            known += 1;
            if !entry.text.split_whitespace().eq(prediction.text.split_whitespace()) {
                others.push((prediction, entry));
            }
        }
        super::check_known(&self.path, known, predictions)?;
        match others.first() {
            Some((prediction, entry)) if 2 * others.len() > known => {
                Err(AnnotationsError::OtherText {
                    path: self.path.clone(),
                    others: others.len(),
                    known,
                    directory: prediction.directory.clone(),
                    number: prediction.number,
                    annotated: entry.text.clone(),
                    ranked: prediction.text.clone(),
                })
            }
            _ => Ok(others.len()),
        }
    }
}

fn codes(annotation: &str) -> Vec<String> {
    let mut codes: Vec<String> = Vec::new();
    for code in annotation.split(',').map(str::trim).filter(|code| !code.is_empty()) {
        if !codes.iter().any(|known| known == code) {
            codes.push(code.to_owned());
        }
    }
    codes
}
