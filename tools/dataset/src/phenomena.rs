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
use std::path::Path;

use super::DatasetError;
use super::yaml::{self, Key, Reader};

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

/// The phenomena of descriptions: which are needed to find the image.
#[derive(Debug, Clone, PartialEq)]
pub struct Phenomena {
    entries: HashMap<String, HashMap<usize, Entry>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    text: String,
    codes: Vec<String>,
}

impl Phenomena {
    /// Reads a file.
    ///
    /// # Errors
    /// [`DatasetError::Io`], [`DatasetError::Phenomena`]; the latter also if a set or a description occurs twice.
    pub fn load(path: &Path) -> Result<Phenomena, DatasetError> {
        let layout = |what| DatasetError::Phenomena { path: path.to_owned(), what, layout: LAYOUT };
        let text = feature_store::text::read_text(path).map_err(DatasetError::io(path))?;
        let mut entries: HashMap<String, HashMap<usize, Entry>> = HashMap::new();
        yaml::read_mapping(&text, |reader, set| {
            let descriptions = entries.entry(set.text).or_default();
            reader.mapping(|reader, number| {
                let key = number.text.parse().map_err(|_| {
                    format!("line {}: `{}` is no number of a description", number.line, number.text)
                })?;
                match descriptions.insert(key, entry(reader, &number)?) {
                    None => Ok(()),
                    Some(_) => Err(format!("line {}: description {key} occurs twice", number.line)),
                }
            })
        })
        .map_err(layout)?;
        Ok(Phenomena { entries })
    }

    /// The codes of a description's phenomena, each once, in the order of the file: none if it was found to need none
    /// or was not annotated, which the file does not tell apart; `None` if the file does not have the description.
    pub fn of(&self, directory: &str, number: usize) -> Option<&[String]> {
        Some(self.entry(directory, number)?.codes.as_slice())
    }

    /// The text that the file has for a description.
    pub fn text(&self, directory: &str, number: usize) -> Option<&str> {
        Some(self.entry(directory, number)?.text.as_str())
    }

    /// Whether the file has this text for a description, up to white space; `None` if it does not have the description.
    pub fn has_text(&self, directory: &str, number: usize, text: &str) -> Option<bool> {
        let annotated = self.text(directory, number)?;
        Some(annotated.split_whitespace().eq(text.split_whitespace()))
    }

    /// Set directories and numbers of all descriptions, in no order.
    pub fn descriptions(&self) -> impl Iterator<Item = (&str, usize)> {
        self.entries.iter().flat_map(|(directory, set)| {
            set.keys().map(move |number| (directory.as_str(), *number))
        })
    }

    fn entry(&self, directory: &str, number: usize) -> Option<&Entry> {
        self.entries.get(directory)?.get(&number)
    }
}

fn entry(reader: &mut Reader, number: &Key) -> Result<Entry, String> {
    let (mut text, mut annotation) = (None, None);
    reader.mapping(|reader, field| {
        match field.text.as_str() {
            "description" => text = Some(reader.text()?),
            "annotation" => annotation = Some(reader.text()?),
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    let text = text.ok_or_else(|| {
        format!("line {}: description {} has no `description`", number.line, number.text)
    })?;
    Ok(Entry { text, codes: codes(&annotation.unwrap_or_default()) })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phenomena_and_texts_are_found_by_set_and_number() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let yaml = "\"set_1\":\n  \"7\":\n    \"description\": \"Green  grass\"\n    \"annotation\": \"col, q,col\"\n";
        std::fs::write(file.path(), yaml).unwrap();
        let phenomena = Phenomena::load(file.path()).unwrap();
        assert_eq!(phenomena.of("set_1", 7), Some(["col".to_owned(), "q".to_owned()].as_slice()));
        assert_eq!(phenomena.has_text("set_1", 7, "Green grass "), Some(true));
        assert_eq!(phenomena.has_text("set_1", 7, "Red grass"), Some(false));
        assert_eq!((phenomena.of("set_1", 6), phenomena.text("set_2", 7)), (None, None));
        assert_eq!(phenomena.descriptions().collect::<Vec<_>>(), [("set_1", 7)]);
        std::fs::write(file.path(), yaml.replace("\"7\"", "\"seven\"")).unwrap();
        let error = Phenomena::load(file.path()).unwrap_err().to_string();
        assert!(error.contains("line 2: `seven` is no number"), "{error}");
        std::fs::write(file.path(), yaml.replace("\"description\"", "\"text\"")).unwrap();
        let error = Phenomena::load(file.path()).unwrap_err().to_string();
        assert!(error.contains("line 2: description 7 has no `description`"), "{error}");
        std::fs::write(file.path(), yaml.to_owned() + "  \"07\": {description: grass}\n").unwrap();
        let error = Phenomena::load(file.path()).unwrap_err().to_string();
        assert!(error.contains("line 5: description 7 occurs twice"), "{error}");
    }
}
