//! What is known about the descriptions of a split beyond their answers: which phenomena are needed to find the image, and
//! whether the annotator has also described training images. Both files name a description by its set's directory and
//! its number, see [`Prediction::number`](super::Prediction).

mod annotators;
mod phenomena;

use std::io;
use std::path::{Path, PathBuf};

use dataset::DatasetError;

pub use annotators::{Annotator, Annotators};
pub use phenomena::{Phenomena, phenomenon_name};

use super::Prediction;

/// Why an annotation file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AnnotationsError {
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not of the layout that the file should have.
    #[error("{path}: {what}; {layout} is expected")]
    Layout {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        what: String,
        /// What should be there.
        layout: &'static str,
    },
    /// A file of phenomena that is none.
    #[error(transparent)]
    Phenomena(DatasetError),
    /// The file is about another split.
    #[error(
        "{path} says nothing about any of the {descriptions} descriptions (first: {number} of {directory}): \
         is it the file of this split?"
    )]
    OtherSplit {
        /// The file.
        path: PathBuf,
        /// How many descriptions there are.
        descriptions: usize,
        /// The first one's set.
        directory: String,
        /// Its number.
        number: usize,
    },
    /// Most descriptions have another text in the file: the numbers do not mean the same.
    #[error(
        "{path} has another text for {others} of {known} descriptions (first: {number} of {directory}, \
         `{annotated}` there, but `{ranked}` was ranked): is it the file of this split?"
    )]
    OtherText {
        /// The file.
        path: PathBuf,
        /// How many have another text.
        others: usize,
        /// How many the file has.
        known: usize,
        /// The first one's set.
        directory: String,
        /// Its number.
        number: usize,
        /// The text in the file.
        annotated: String,
        /// The text that was ranked.
        ranked: String,
    },
}

fn read(path: &Path) -> Result<String, AnnotationsError> {
    feature_store::text::read_text(path)
        .map_err(|source| AnnotationsError::Io { path: path.to_owned(), source })
}

fn check_known(
    path: &Path,
    known: usize,
    predictions: &[Prediction],
) -> Result<(), AnnotationsError> {
    match predictions.first() {
        Some(first) if known == 0 => Err(AnnotationsError::OtherSplit {
            path: path.to_owned(),
            descriptions: predictions.len(),
            directory: first.directory.clone(),
            number: first.number,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn prediction(number: usize, text: &str) -> Prediction {
        Prediction {
            directory: "set_1".into(),
            number,
            text: text.into(),
            images: vec!["a".into()],
            target: Some(0),
            scores: vec![0.0],
            rank: Some(1),
            tie: false,
            video: true,
        }
    }

    const YAML: &str = "\"set_1\":\n  \"7\":\n    \"description\": \"Green grass in the corner\\\n      \\ below birds. \"\n    \"annotation\": \"col, q,col\"\n    \"visualization_id\": \"1\"\n  \"3\":\n    \"description\": \"Nothing: at all\"\n    \"annotation\": \"\"\n";

    #[test]
    fn phenomena_are_found_by_set_and_number() {
        let phenomena = Phenomena::load(file(YAML).path()).unwrap();
        assert_eq!(phenomena.of("set_1", 7), Some(["col".to_owned(), "q".to_owned()].as_slice()));
        assert_eq!(phenomena.of("set_1", 3), Some([].as_slice()));
        assert_eq!((phenomena.of("set_1", 4), phenomena.of("set_2", 7)), (None, None));
        assert_eq!((phenomenon_name("q"), phenomenon_name("x")), ("quantities", "x"));
    }

    #[test]
    fn phenomena_of_other_descriptions_are_refused() {
        let phenomena = Phenomena::load(file(YAML).path()).unwrap();
        let grass = prediction(7, "Green grass in the corner  below birds.");
        let changed = prediction(3, "Nothing: at  sea");
        assert_eq!(
            phenomena.check(&[prediction(1, "unknown"), grass, changed.clone()]).unwrap(),
            1
        );
        let error = phenomena.check(&[changed]).unwrap_err();
        assert!(error.to_string().contains("`Nothing: at all` there"), "{error}");
        let error = phenomena.check(&[prediction(1, "unknown")]).unwrap_err();
        assert!(error.to_string().contains("first: 1 of set_1"), "{error}");
    }

    #[test]
    fn faults_of_a_phenomena_file_are_told_by_line() {
        for (from, to, said) in [
            ("\"3\":", "\"three\":", "line 7: `three` is no number"),
            ("\"3\":", "\"7\":", "line 7"),
            ("\"description\": \"Nothing", "\"text\": \"Nothing", "description"),
            ("\"annotation\": \"\"", "\"annotation\": [", "line"),
            ("\"annotation\": \"\"", "\"annotation\": {a: 1}", "line 9"),
        ] {
            let broken = file(&YAML.replace(from, to));
            let error = Phenomena::load(broken.path()).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("set directories"), "{error}");
            assert!(error.contains(&broken.path().display().to_string()), "{error}");
        }
        assert!(matches!(
            Phenomena::load("nowhere.yaml".as_ref()),
            Err(AnnotationsError::Io { .. })
        ));
    }

    #[test]
    fn annotators_are_seen_or_unseen_and_nothing_else() {
        let text = "{\"set_1\": {\"7\": \"unseen_worker\",\n\"3\": \"train_worker\"}}";
        let annotators = Annotators::load(file(text).path()).unwrap();
        assert_eq!(annotators.of("set_1", 7), Some(Annotator::Unseen));
        assert_eq!(annotators.of("set_1", 3), Some(Annotator::Seen));
        assert_eq!(annotators.of("set_1", 1), None);
        annotators.check(&[prediction(3, "x")]).unwrap();
        assert!(annotators.check(&[prediction(1, "x")]).is_err());
        for (from, to) in [("train_worker", "worker"), ("\"3\"", "\"three\""), ("\"}}", "\"}")] {
            let error = Annotators::load(file(&text.replace(from, to)).path()).unwrap_err();
            assert!(error.to_string().contains("line 2"), "{error}");
        }
    }
}
