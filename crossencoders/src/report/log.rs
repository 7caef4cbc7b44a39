//! What `metrics.jsonl` says, as curves over steps.

use std::path::Path;

use serde_json::Value;

use super::ReportError;

/// A curve: step and value, in the order of the log.
pub(super) type Points = Vec<(f64, f64)>;

/// The log of a run.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Log {
    lines: Vec<Value>,
}

impl Log {
    /// Reads the log. A run that has not logged yet has no lines; a last line without an end is one that is being written.
    pub fn read(path: &Path) -> Result<Log, ReportError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(ReportError::Io { path: path.to_owned(), source }),
        };
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let line = |(index, line): (usize, &str)| {
            let error = |reason: String| ReportError::Log {
                path: path.to_owned(),
                line: index + 1,
                reason,
            };
            let value: Value = serde_json::from_str(line).map_err(|e| error(e.to_string()))?;
            match value["step"].is_u64() {
                true => Ok(value),
                false => Err(error("it has no `step`".into())),
            }
        };
        let lines = whole.lines().enumerate().map(line).collect::<Result<_, _>>()?;
        Ok(Log { lines })
    }

    /// A curve of training, such as `loss`.
    pub fn train(&self, key: &str) -> Points {
        self.points(|line| line.get("split").is_none().then(|| line[key].as_f64())?)
    }

    /// A curve of validation over all descriptions, such as `accuracy`.
    pub fn valid(&self, key: &str) -> Points {
        self.points(|line| line["metrics"]["all"][key].as_f64())
    }

    /// Steps and epochs of the last line.
    pub fn end(&self) -> Option<(u64, u64)> {
        let last = self.lines.last()?;
        Some((last["step"].as_u64()?, last["epoch"].as_u64().unwrap_or(0)))
    }

    /// The best validation: epoch and accuracy; the first of equal ones, which is the one that is kept.
    pub fn best(&self) -> Option<(u64, f64)> {
        let mut best: Option<(u64, f64)> = None;
        for line in &self.lines {
            let Some(accuracy) = line["metrics"]["all"]["accuracy"].as_f64() else { continue };
            if best.is_none_or(|(_, highest)| accuracy > highest) {
                best = Some((line["epoch"].as_u64().unwrap_or(0), accuracy));
            }
        }
        best
    }

    fn points(&self, value: impl Fn(&Value) -> Option<f64>) -> Points {
        let point = |line: &Value| Some((line["step"].as_f64()?, value(line)?));
        self.lines.iter().filter_map(point).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Log, ReportError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, text).unwrap();
        Log::read(&path)
    }

    #[test]
    fn curves_and_the_best_epoch_are_found() {
        let log = read(concat!(
            "{\"step\":1,\"epoch\":1,\"loss\":2.0}\n",
            "{\"step\":1,\"epoch\":1,\"split\":\"valid\",\"metrics\":{\"all\":{\"accuracy\":0.5}}}\n",
            "{\"step\":2,\"epoch\":2,\"loss\":null}\n",
            "{\"step\":2,\"epoch\":2,\"split\":\"valid\",\"metrics\":{\"all\":{\"accuracy\":0.5}}}\n",
            "{\"step\":3,\"epo"
        ))
        .unwrap();
        assert_eq!(log.train("loss"), [(1.0, 2.0)]);
        assert_eq!(log.valid("accuracy"), [(1.0, 0.5), (2.0, 0.5)]);
        assert_eq!((log.best(), log.end()), (Some((1, 0.5)), Some((2, 2))));
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        let error = read("{\"step\":1}\n{\"step\n{}\n").unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl, line 2"), "{error}");
        assert!(read("{\"loss\":1}\n").unwrap_err().to_string().contains("`step`"));
        assert_eq!(read("").unwrap().end(), None);
    }
}
