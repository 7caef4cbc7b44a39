//! Data sets of one's own: JSON Lines, one description with its candidate images a line (docs/datasets.md).
//!
//! ```text
//! {"id":"q1","description":"the red door is open","candidates":["door_1","door_2","door_3"],"target":1,"video":false,"set":"doors"}
//! ```

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::json::Json;
use super::{DatasetError, Example, Kind};
use feature_store::{MAX_ID_BYTES, text};

/// Candidates of a description, at most.
pub const MAX_CANDIDATES: usize = 1024;
/// Longest line in bytes: a thousand ids of the longest kind and a description.
const MAX_LINE_BYTES: usize = 1 << 20;
/// Keys of a line, in the order in which they are written.
const KEYS: [&str; 6] = ["id", "description", "candidates", "target", "video", "set"];

/// One thing that is wrong with a line, which is left out for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LineFault {
    pub kind: Kind,
    /// From 1.
    pub line: usize,
    /// With the key.
    pub what: String,
}

/// All of a file that can be read, and what is wrong with the rest.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Each with its line, from 1.
    pub examples: Vec<(usize, Example)>,
    pub faults: Vec<LineFault>,
}

/// Whether a file's name says that it is JSON Lines (`.jsonl`, `.ndjson`).
pub fn is_jsonl(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ["jsonl", "ndjson"].iter().any(|e| ending.eq_ignore_ascii_case(e)))
}

/// Reads a data set of one's own; empty lines are passed over.
///
/// # Errors
/// [`DatasetError::Io`]; [`DatasetError::Line`] for the first line that is none, and for an id that comes twice;
/// [`DatasetError::Empty`].
pub fn load_examples(path: &Path) -> Result<Vec<Example>, DatasetError> {
    Ok(load(path)?.into_iter().map(|(_, example)| example).collect())
}

/// As [`load_examples`], for a model that scores batches: all lines have the same number of candidates, and all or none
/// a target.
///
/// # Errors
/// As [`load_examples`]; [`DatasetError::Line`] for a line that is not like the first one.
pub fn load_for_ranking(path: &Path) -> Result<Vec<Example>, DatasetError> {
    let examples = load(path)?;
    let like_first = |example: &Example| {
        let (_, first) = examples.first()?;
        let (found, expected) = (example.candidates.len(), first.candidates.len());
        if found != expected {
            return Some(format!(
                "`candidates` should be {expected}, as in the first example, not {found}: those of a batch are as many"
            ));
        }
        (example.target.is_some() != first.target.is_some())
            .then(|| "all examples have a `target`, or none".to_owned())
    };
    let unlike = examples.iter().find_map(|(line, example)| Some((*line, like_first(example)?)));
    match unlike {
        Some((line, what)) => Err(DatasetError::Line { path: path.to_owned(), line, what }),
        None => Ok(examples.into_iter().map(|(_, example)| example).collect()),
    }
}

/// As [`load_examples`], each with its line, from 1.
pub(super) fn load(path: &Path) -> Result<Vec<(usize, Example)>, DatasetError> {
    let Lines { examples, faults } = read(path)?;
    if let Some(LineFault { line, what, .. }) = faults.into_iter().next() {
        return Err(DatasetError::Line { path: path.to_owned(), line, what });
    }
    match examples.is_empty() {
        true => Err(DatasetError::Empty(path.to_owned())),
        false => Ok(examples),
    }
}

/// As [`load_examples`], but goes on after a line that is wrong.
pub(super) fn read(path: &Path) -> Result<Lines, DatasetError> {
    let bytes = text::read(path).map_err(DatasetError::io(path))?;
    // Editors on Windows begin a file with a mark of its byte order.
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    let mut lines = Lines::default();
    let mut ids: HashMap<String, usize> = HashMap::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let (line, number) = (line.trim_ascii(), number + 1);
        if line.is_empty() {
            continue;
        }
        let mut example = match example(line) {
            Ok(example) => example,
            Err((kind, what)) => {
                lines.faults.push(LineFault { kind, line: number, what });
                continue;
            }
        };
        if let Some(id) = example.id.take() {
            if let Some(first) = ids.get(&id) {
                let what = format!("`id`: {id:?} is that of line {first}, too");
                lines.faults.push(LineFault { kind: Kind::RepeatedKey, line: number, what });
                continue;
            }
            ids.insert(id.clone(), number);
            example.id = Some(id);
        }
        lines.examples.push((number, example));
    }
    Ok(lines)
}

/// The lines of examples, in the order of their keys.
pub(super) fn write(examples: &[Example]) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::new();
    for example in examples {
        serde_json::to_writer(&mut out, example)?;
        out.push(b'\n');
    }
    Ok(out)
}

fn example(line: &[u8]) -> Result<Example, (Kind, String)> {
    if line.len() > MAX_LINE_BYTES {
        let what = format!("it has {} bytes, {MAX_LINE_BYTES} are allowed", line.len());
        return Err((Kind::Layout, what));
    }
    let json = serde_json::from_slice(line).map_err(|error| {
        // The line in the error is that of this text: always the first.
        let what = error.to_string().replace(" at line 1 column", ", column");
        (Kind::Unreadable, format!("not valid JSON: {what}"))
    })?;
    let mut found = Keys::of(json)?;
    let id = found.text("id")?;
    let description = found.text("description")?.ok_or_else(|| missing("description"))?;
    let candidates = candidates(found.take("candidates").ok_or_else(|| missing("candidates"))?)?;
    let target =
        found.take("target").map(|target| target_position(&target, &candidates)).transpose()?;
    let video = match found.take("video") {
        None => None,
        Some(Json::Bool(video)) => Some(video),
        Some(other) => return Err(wrong("video", "true or false", &other)),
    };
    Ok(Example { id, description, candidates, target, video, set: found.text("set")? })
}

/// The values of a line by key.
struct Keys([Option<Json>; 6]);

impl Keys {
    fn of(json: Json) -> Result<Keys, (Kind, String)> {
        let Json::Object(entries) = json else {
            return Err((Kind::Layout, format!("an object is expected, not {}", json.kind())));
        };
        let mut found = Keys([const { None }; 6]);
        for (key, value) in entries {
            // A misspelt `target` would make an unlabelled data set.
            let Some(at) = KEYS.iter().position(|known| *known == key) else {
                let what = format!("unknown key `{key}`; known are {}", KEYS.join(", "));
                return Err((Kind::Layout, what));
            };
            if found.0[at].replace(value).is_some() {
                return Err((Kind::RepeatedKey, format!("`{key}` comes twice")));
            }
        }
        Ok(found)
    }

    /// `null` is the same as nothing.
    fn take(&mut self, key: &str) -> Option<Json> {
        let at = KEYS.iter().position(|known| *known == key)?;
        self.0[at].take().filter(|value| *value != Json::Null)
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, (Kind, String)> {
        match self.take(key) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(key, "text", &other)),
        }
    }
}

fn missing(key: &str) -> (Kind, String) {
    (Kind::Layout, format!("missing key `{key}`"))
}

fn wrong(key: &str, expected: &str, found: &Json) -> (Kind, String) {
    (Kind::Layout, format!("`{key}` should be {expected}, not {}", found.kind()))
}

fn candidates(json: Json) -> Result<Vec<String>, (Kind, String)> {
    let Json::Array(items) = json else {
        return Err(wrong("candidates", "a list of image ids", &json));
    };
    if !(2..=MAX_CANDIDATES).contains(&items.len()) {
        let what = format!("`candidates` should be 2 to {MAX_CANDIDATES}, not {}", items.len());
        return Err((Kind::ImageCount, what));
    }
    let mut ids = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Json::Text(id) if (1..=MAX_ID_BYTES).contains(&id.len()) => ids.push(id),
            Json::Text(id) => {
                let what = format!(
                    "`candidates`: an image id has 1 to {MAX_ID_BYTES} bytes, this one {}",
                    id.len()
                );
                return Err((Kind::Layout, what));
            }
            other => return Err(wrong("candidates", "a list of image ids", &other)),
        }
    }
    let mut known = HashSet::new();
    match ids.iter().find(|id| !known.insert(id.as_str())) {
        Some(twice) => Err((Kind::CollidingIds, format!("`candidates` has {twice:?} twice"))),
        None => Ok(ids),
    }
}

fn target_position(target: &Json, candidates: &[String]) -> Result<usize, (Kind, String)> {
    let fault = |what: String| (Kind::Target, what);
    match target {
        Json::Text(id) => candidates
            .iter()
            .position(|candidate| candidate == id)
            .ok_or_else(|| fault(format!("`target`: {id:?} is none of the candidates"))),
        other => match other.index() {
            Some(index) if index < candidates.len() => Ok(index),
            Some(index) => Err(fault(format!(
                "`target` {index} is outside of {} candidates (they count from 0)",
                candidates.len()
            ))),
            None => Err(fault(format!(
                "`target` should be a position or an image id, not {}",
                other.kind()
            ))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Vec<Example>, DatasetError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.jsonl");
        std::fs::write(&path, text).unwrap();
        load_examples(&path)
    }

    #[test]
    fn a_line_is_read_and_written_as_it_is_documented() {
        let line = concat!(
            r#"{"id":"q1","description":"the open door","candidates":["a","b","c"],"#,
            r#""target":1,"video":false,"set":"doors"}"#,
            "\n"
        );
        let examples = load(line).unwrap();
        assert_eq!(examples[0].target, Some(1));
        assert_eq!(write(&examples).unwrap(), line.as_bytes());
        let by_id = load(&line.replace("\"target\":1", "\"target\":\"b\"")).unwrap();
        assert_eq!(by_id, examples);
        let least = "\u{feff}\n{\"description\": \"x\", \"candidates\": [\"a\", \"b\"], \"set\": null}\r\n\n";
        let least = load(least).unwrap();
        assert_eq!((&least[0].id, least[0].target, least[0].video), (&None, None, None));
    }

    #[test]
    fn the_documented_lines_are_read() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/datasets.md");
        let docs = std::fs::read_to_string(docs).unwrap();
        let start = docs.find("{\"id\":").unwrap();
        let lines = &docs[start..start + docs[start..].find("```").unwrap()];
        let examples = load(lines).unwrap();
        let targets: Vec<_> = examples.iter().map(|example| example.target).collect();
        assert_eq!(targets, [Some(1), Some(1), None]);
        assert!(lines.contains(std::str::from_utf8(&write(&examples[..1]).unwrap()).unwrap()));
    }

    #[test]
    fn faults_are_told_by_line_and_key() {
        let good = r#"{"id":"q","description":"x","candidates":["a","b"],"target":0,"video":true}"#;
        for (from, to, said) in [
            ("\"target\":0", "\"target\":2", "line 2: `target` 2 is outside of 2 candidates"),
            ("\"target\":0", "\"target\":\"c\"", "line 2: `target`: \"c\" is none of"),
            ("\"target\":0", "\"target\":-1", "line 2: `target` should be a position"),
            ("\"target\":0", "\"target\":0.5", "not 0.5"),
            ("\"target\":0", "\"target\":1.0", "not 1.0"),
            ("\"target\":0", "\"targets\":0", "unknown key `targets`; known are id, desc"),
            ("\"target\":0", "\"id\":\"z\"", "line 2: `id` comes twice"),
            ("\"a\",\"b\"", "\"a\"", "`candidates` should be 2 to 1024, not 1"),
            ("\"a\",\"b\"", "\"a\",\"a\"", "`candidates` has \"a\" twice"),
            ("\"a\",\"b\"", "\"a\",\"\"", "1 to 511 bytes"),
            ("\"a\",\"b\"", "\"a\",7", "`candidates` should be a list of image ids, not 7"),
            ("\"x\"", "5", "`description` should be text, not 5"),
            ("\"description\":\"x\",", "", "missing key `description`"),
            ("true", "1", "`video` should be true or false, not 1"),
            ("true}", "true", "line 2: not valid JSON: EOF while parsing an object, column"),
            ("\"q\"", "\"first\"", "line 2: `id`: \"first\" is that of line 1, too"),
        ] {
            let first = good.replace("\"q\"", "\"first\"");
            let error = load(&format!("{first}\n{}\n", good.replace(from, to))).unwrap_err();
            assert!(error.to_string().contains(said), "{to}: {error}");
        }
        assert!(matches!(load("\n"), Err(DatasetError::Empty(_))));
        let many = vec!["\"x\""; 2000].join(",");
        assert!(
            load(&good.replace("\"a\",\"b\"", &many)).unwrap_err().to_string().contains("2000")
        );
        let long = good.replace("\"x\"", &format!("\"{}\"", "x".repeat(MAX_LINE_BYTES)));
        assert!(load(&long).unwrap_err().to_string().contains("are allowed"));
    }

    #[test]
    fn examples_for_a_model_are_alike() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.jsonl");
        let line = r#"{"description":"x","candidates":["a","b"],"target":1}"#;
        for (second, said) in [
            (line.to_owned(), None),
            (line.replace("\"b\"", "\"b\",\"c\""), Some("line 2: `candidates` should be 2")),
            (line.replace(",\"target\":1", ""), Some("line 2: all examples have a `target`")),
        ] {
            std::fs::write(&path, format!("{line}\n{second}\n")).unwrap();
            let found = load_for_ranking(&path);
            match said {
                None => assert_eq!(found.unwrap().len(), 2),
                Some(said) => {
                    let error = found.unwrap_err().to_string();
                    assert!(error.contains(said), "{error}");
                }
            }
        }
    }
}
