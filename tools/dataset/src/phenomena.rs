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

use super::yaml::{self, Key, Reader, YamlFault};
use super::{DatasetError, Kind};

const LAYOUT: &str = "YAML of set directories, description numbers, `description` and `annotation` (codes with commas between, or a list)";

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

/// The codes that ImageCoDe uses.
pub(super) fn known_codes() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(code, _)| *code)
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
    /// Reads a file with which nothing is wrong.
    ///
    /// # Errors
    /// [`DatasetError::Io`], [`DatasetError::Phenomena`]; the latter also if a set or a description occurs twice.
    pub fn load(path: &Path) -> Result<Phenomena, DatasetError> {
        let (phenomena, faults) = Phenomena::read(path)?;
        match faults.into_iter().next() {
            None => Ok(phenomena),
            Some(YamlFault { line, what, .. }) => {
                Err(of_layout(path)(format!("line {line}: {what}")))
            }
        }
    }

    /// As [`load`](Phenomena::load), but goes on after an entry that is wrong, and leaves that out.
    ///
    /// # Errors
    /// [`DatasetError::Io`], and [`DatasetError::Phenomena`] of what is no YAML.
    pub(super) fn read(path: &Path) -> Result<(Phenomena, Vec<YamlFault>), DatasetError> {
        let text = feature_store::text::read_text(path).map_err(DatasetError::io(path))?;
        let mut entries: HashMap<String, HashMap<usize, Entry>> = HashMap::new();
        let faults = yaml::read_mapping(&text, |reader, set| {
            let descriptions = entries.entry(set.text).or_default();
            reader.mapping(|reader, number| add_entry(reader, &number, descriptions))?;
            Ok(())
        })
        .map_err(of_layout(path))?;
        Ok((Phenomena { entries }, faults))
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

    /// How many descriptions the file has.
    pub fn count(&self) -> u64 {
        self.entries.values().map(|set| set.len() as u64).sum()
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

fn of_layout(path: &Path) -> impl FnOnce(String) -> DatasetError + '_ {
    |what| DatasetError::Phenomena { path: path.to_owned(), what, layout: LAYOUT }
}

fn add_entry(
    reader: &mut Reader,
    number: &Key,
    descriptions: &mut HashMap<usize, Entry>,
) -> Result<(), String> {
    let Ok(key) = number.text.parse() else {
        let what = format!("`{}` is no number of a description", number.text);
        reader.fault(Kind::Target, number.line, what);
        return reader.skip();
    };
    // As another spelling of the number: `7` and `07`.
    if descriptions.contains_key(&key) {
        reader.fault(Kind::RepeatedKey, number.line, format!("description {key} occurs twice"));
        return reader.skip();
    }
    let entry = entry(reader, number)?;
    descriptions.extend(entry.map(|entry| (key, entry)));
    Ok(())
}

/// What an entry says, if it has a text.
fn entry(reader: &mut Reader, number: &Key) -> Result<Option<Entry>, String> {
    let (mut text, mut annotation) = (None, Vec::new());
    let mut is_told = false;
    let is_mapping = reader.mapping(|reader, field| {
        match field.text.as_str() {
            "description" => (text, is_told) = (reader.text()?, true),
            "annotation" => annotation = reader.texts()?,
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    if is_mapping && !is_told {
        let what = format!("description {} has no `description`", number.text);
        reader.fault(Kind::Layout, number.line, what);
    }
    Ok(text.map(|text| Entry { text, codes: codes(&annotation) }))
}

fn codes(annotation: &[String]) -> Vec<String> {
    let mut codes: Vec<String> = Vec::new();
    let all = annotation.iter().flat_map(|part| part.split(','));
    for code in all.map(str::trim).filter(|code| !code.is_empty()) {
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

    #[test]
    fn no_phenomena_are_null_and_several_may_be_a_list() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (annotation, codes) in [
            ("null", vec![]),
            ("~", vec![]),
            ("", vec![]),
            ("[s, q, s]", vec!["s", "q"]),
            ("\n      - s\n      - 'n,q'", vec!["s", "n", "q"]),
            ("\"null\"", vec!["null"]),
        ] {
            let yaml = format!("s:\n  1:\n    description: x\n    annotation: {annotation}\n");
            std::fs::write(file.path(), &yaml).unwrap();
            let phenomena = Phenomena::load(file.path()).unwrap();
            assert_eq!(phenomena.of("s", 1).unwrap(), codes, "{yaml}");
        }
    }

    #[test]
    fn an_entry_that_is_wrong_leaves_the_others() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let yaml = "a:\n  x: {description: x}\n  1: {description: null}\n  2: {}\n  3: y\n  4: {annotation: {}}\n\
                    b: {1: {description: x, annotation: s}, 01: {description: y}, 1: {description: z}}\n";
        std::fs::write(file.path(), yaml).unwrap();
        let (phenomena, faults) = Phenomena::read(file.path()).unwrap();
        assert_eq!((phenomena.count(), phenomena.text("b", 1)), (1, Some("x")));
        let found: Vec<(Kind, usize)> =
            faults.iter().map(|fault| (fault.kind, fault.line)).collect();
        let layout = |line| (Kind::Layout, line);
        let twice = (Kind::RepeatedKey, 7);
        assert_eq!(
            found,
            [
                (Kind::Target, 2),
                layout(3),
                layout(4),
                layout(5),
                layout(6),
                layout(6),
                twice,
                twice
            ],
            "{faults:?}"
        );
        assert!(
            Phenomena::load(file.path())
                .unwrap_err()
                .to_string()
                .contains("line 2: `x` is no number")
        );
    }
}
