//! The predictions file: what a model has scored, one description a line, as JSON.
//!
//! ```text
//! {"directory":"open-images-1_a","number":5,"text":"…","images":["openimages1aimg0",…],"target":5,
//!  "scores":[0.25,…],"rank":1,"tie":false,"video":false,"model":"runs/a","weights":"0f3c…","split":"/data/valid_data.json"}
//! ```
//!
//! `rank`, `tie` and `video` follow from the rest: a file that another program writes may leave them out, and so it may
//! `model`, `weights` and `split`, which say what the predictions are of.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digest::digest;
use super::whole_file::write_whole;

/// A description with its candidates: what a model is asked. The fields are those of a [`Prediction`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Directory of the image set.
    pub directory: String,
    /// The description's number in its set.
    pub number: usize,
    /// The description.
    pub text: String,
    /// Ids of the candidate images.
    pub images: Vec<String>,
    /// Position of the described image among the candidates, if the split is labelled.
    pub target: Option<usize>,
    /// Whether the images are frames of a video.
    pub video: bool,
}

/// What a model makes of one description.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// Directory of the image set.
    pub directory: String,
    /// The description's number in its set: in labelled splits the described image's position among the set's ten, in
    /// unlabelled ones the position in the list. Annotation files name descriptions by directory and this number.
    pub number: usize,
    /// The description.
    pub text: String,
    /// Ids of the candidate images: the set's ten, or the two of ImageCoDe-simple.
    pub images: Vec<String>,
    /// Position of the described image among the candidates, if the split is labelled.
    pub target: Option<usize>,
    /// Score of every candidate, higher is better; finite.
    pub scores: Vec<f32>,
    /// Rank of the described image, from 1; among equal scores the earlier candidate is better.
    pub rank: Option<usize>,
    /// Whether several candidates share the highest score.
    pub tie: bool,
    /// Whether the images are frames of a video.
    pub video: bool,
}

/// What predictions are of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The model as it was named: a run, a checkpoint, a recipe or an exported file.
    pub model: String,
    /// XXH3 of the file of its weights, in hexadecimal digits.
    pub weights: String,
    /// The annotation file.
    pub split: String,
}

impl Origin {
    /// Of a model with weights from a file, and a split.
    ///
    /// # Errors
    /// If the weights cannot be read.
    pub fn new(model: &Path, weights: &Path, split: &Path) -> Result<Origin, PredictionsError> {
        let io = |source| PredictionsError::Io { path: weights.to_owned(), source };
        let split = std::path::absolute(split).unwrap_or_else(|_| split.to_owned());
        Ok(Origin {
            model: model.to_string_lossy().into_owned(),
            weights: digest(weights).map_err(io)?,
            split: split.to_string_lossy().into_owned(),
        })
    }
}

/// What a model makes of a split.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    /// What they are of; `None` if their file does not say.
    pub origin: Option<Origin>,
    /// One for each description, in the order of the split.
    pub list: Vec<Prediction>,
}

/// Why predictions cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PredictionsError {
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A line that is no prediction.
    #[error(
        "{path}, line {line}: {what}; `xenc eval MODEL --predictions FILE` writes such a file anew"
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// No prediction at all.
    #[error(
        "{0} holds no predictions; `xenc eval MODEL --predictions FILE` writes a file that does"
    )]
    Empty(PathBuf),
}

impl Prediction {
    /// A model's scores of a description's candidates, in the order of [`Question::images`].
    pub fn new(question: Question, scores: Vec<f32>) -> Prediction {
        let Question { directory, number, text, images, target, video } = question;
        Prediction {
            directory,
            number,
            text,
            images,
            target,
            rank: target.map(|target| rank(&scores, target)),
            tie: is_tie(&scores),
            scores,
            video,
        }
    }

    /// Every candidate's share in the softmax of the scores at a temperature, by which they are divided first; 1 for the
    /// scores as they are.
    pub fn shares(&self, temperature: f64) -> Vec<f64> {
        let highest = self.scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let power = |score: &f32| (f64::from(score - highest) / temperature).exp();
        let powers: Vec<f64> = self.scores.iter().map(power).collect();
        let sum: f64 = powers.iter().sum();
        powers.into_iter().map(|power| power / sum).collect()
    }

    /// The candidate that is ranked first.
    pub fn best(&self) -> usize {
        best(&self.scores)
    }
}

/// Reads a predictions file, in the order of its lines.
///
/// # Errors
/// [`PredictionsError`]: also for scores that are not finite or not one for each image, a target that is no candidate, a
/// rank or tie that does not follow from the scores, a description that occurs twice with the same candidates, and lines
/// of several models or splits.
pub fn read_predictions(path: &Path) -> Result<Predictions, PredictionsError> {
    let io = |source| PredictionsError::Io { path: path.to_owned(), source };
    let mut predictions = Predictions { origin: None, list: Vec::new() };
    let mut lines_of = HashMap::new();
    for (index, bytes) in
        BufReader::new(feature_store::text::open(path).map_err(io)?).split(b'\n').enumerate()
    {
        let bytes = bytes.map_err(io)?;
        // Editors on Windows begin a file with a mark of its byte order.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes).trim_ascii();
        if bytes.is_empty() {
            continue;
        }
        let line = index + 1;
        let at = |what| PredictionsError::Line { path: path.to_owned(), line, what };
        let (prediction, origin) = parse(bytes).map_err(at)?;
        if predictions.list.is_empty() {
            predictions.origin = origin;
        } else if predictions.origin != origin {
            return Err(at("it is of another model or split than the lines before".into()));
        }
        let key = (prediction.directory.clone(), prediction.number, prediction.images.clone());
        if let Some(earlier) = lines_of.insert(key, line) {
            let Prediction { directory, number, .. } = prediction;
            return Err(at(format!(
                "description {number} of {directory} stands in line {earlier}, too"
            )));
        }
        predictions.list.push(prediction);
    }
    match predictions.list.is_empty() {
        true => Err(PredictionsError::Empty(path.to_owned())),
        false => Ok(predictions),
    }
}

/// Writes a predictions file; it is complete or not there.
///
/// # Errors
/// [`PredictionsError::Io`].
pub fn write_predictions(path: &Path, predictions: &Predictions) -> Result<(), PredictionsError> {
    #[derive(Serialize)]
    struct Line<'a> {
        #[serde(flatten)]
        prediction: &'a Prediction,
        #[serde(flatten)]
        origin: Option<&'a Origin>,
    }
    write_whole(path, |out| {
        for prediction in &predictions.list {
            let origin = predictions.origin.as_ref();
            serde_json::to_writer(&mut *out, &Line { prediction, origin })?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })
    .map_err(|source| PredictionsError::Io { path: path.to_owned(), source })
}

/// 1 for the best; among equal scores the earlier candidate is better.
fn rank(scores: &[f32], target: usize) -> usize {
    let better = |(position, &score): (usize, &f32)| {
        score > scores[target] || (score == scores[target] && position < target)
    };
    1 + scores.iter().enumerate().filter(|&candidate| better(candidate)).count()
}

/// The candidate whose rank is 1.
fn best(scores: &[f32]) -> usize {
    (0..scores.len()).find(|&candidate| rank(scores, candidate) == 1).unwrap_or(0)
}

fn is_tie(scores: &[f32]) -> bool {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter().filter(|&&score| score == highest).count() > 1
}

/// What a line must and may hold.
#[derive(Deserialize)]
struct Line {
    directory: String,
    number: usize,
    text: String,
    images: Vec<String>,
    #[serde(default)]
    target: Option<usize>,
    scores: Vec<f32>,
    rank: Option<usize>,
    tie: Option<bool>,
    video: Option<bool>,
    model: Option<String>,
    weights: Option<String>,
    split: Option<String>,
}

/// A prediction, and what it is of if the line says all of that.
fn parse(line: &[u8]) -> Result<(Prediction, Option<Origin>), String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| {
        // serde_json counts lines of its own; every prediction is one line.
        format!("no prediction: {}", error.to_string().replace(" at line 1 column", ", column"))
    })?;
    let candidates = line.images.len();
    if candidates == 0 || candidates != line.scores.len() {
        return Err(format!("{} scores for {candidates} images", line.scores.len()));
    }
    if let Some(score) = line.scores.iter().find(|score| !score.is_finite()) {
        return Err(format!("a score is {score}"));
    }
    if let Some(target) = line.target.filter(|&target| target >= candidates) {
        return Err(format!("target {target} of {candidates} candidates, which count from 0"));
    }
    let origin = match (line.model, line.weights, line.split) {
        (Some(model), Some(weights), Some(split)) => Some(Origin { model, weights, split }),
        _ => None,
    };
    let question = Question {
        video: line.video.unwrap_or_else(|| !dataset::is_static(&line.directory)),
        directory: line.directory,
        number: line.number,
        text: line.text,
        images: line.images,
        target: line.target,
    };
    let prediction = Prediction::new(question, line.scores);
    let Prediction { rank, tie, .. } = prediction;
    if line.rank.is_some() && line.rank != rank {
        let stands = line.rank.unwrap_or_default();
        let follows = rank.map_or("none".into(), |rank| rank.to_string());
        return Err(format!("the rank is {stands}, from target and scores follows {follows}"));
    }
    if line.tie.is_some_and(|stands| stands != tie) {
        return Err(format!("the tie is {}, from the scores follows {tie}", !tie));
    }
    Ok((prediction, origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Predictions, PredictionsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("predictions.jsonl");
        std::fs::write(&path, text).unwrap();
        read_predictions(&path)
    }

    const LINE: &str = r#"{"directory":"open-images-1_a","number":1,"text":"“a” star","images":["a","b","c"],"target":1,"scores":[0.1,0.3,0.3]}"#;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("predictions.jsonl");
        let mut predictions = read(LINE).unwrap();
        // Neither is a number of few decimal digits.
        predictions.list[0].scores = vec![f32::MIN_POSITIVE / 2.0, 1.0 / 3.0, 1.0 / 3.0];
        predictions.list.push(Prediction {
            target: None,
            rank: None,
            number: 2,
            ..predictions.list[0].clone()
        });
        for origin in [
            None,
            Some(Origin { model: "a".into(), weights: "0f".into(), split: "/b.json".into() }),
        ] {
            predictions.origin = origin;
            write_predictions(&path, &predictions).unwrap();
            assert_eq!(read_predictions(&path).unwrap(), predictions);
        }
        let lines = std::fs::read_to_string(&path).unwrap();
        assert_eq!(lines.lines().count(), 2);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something is left over");
    }

    #[test]
    fn rank_tie_and_kind_follow_from_the_rest() {
        let prediction = read(&format!("\u{feff}{LINE}\r\n\n")).unwrap().list.remove(0);
        assert_eq!((prediction.rank, prediction.tie, prediction.video), (Some(1), true, false));
        assert_eq!(prediction.best(), 1);
        assert_eq!(rank(&[0.1, 0.3, 0.3], 2), 2);
        assert_eq!(rank(&[0.1, 0.3, 0.3], 0), 3);
    }

    #[test]
    fn a_bad_line_is_named() {
        for (from, to, said) in [
            ("0.1,", "", "2 scores for 3 images"),
            ("0.1,", "1e39,", "number out of range"),
            ("0.1,", "null,", "column"),
            ("\"target\":1", "\"target\":3", "target 3 of 3"),
            (
                "\"target\":1",
                "\"target\":1,\"rank\":2",
                "rank is 2, from target and scores follows 1",
            ),
            ("\"target\":1", "\"rank\":2", "follows none"),
            ("\"target\":1", "\"tie\":false", "tie is false"),
            ("\"number\":1,", "", "missing field `number`"),
            ("}", "", "no prediction"),
            ("\"number\"", "\"number\"", "stands in line 1, too"),
            (
                "\"number\":1",
                "\"number\":2,\"model\":\"m\",\"weights\":\"0\",\"split\":\"s\"",
                "another model or split",
            ),
        ] {
            let error = read(&format!("{LINE}\n{}\n", LINE.replace(from, to))).unwrap_err();
            assert!(error.to_string().contains("predictions.jsonl, line 2: "), "{error}");
            assert!(error.to_string().contains(said), "{error}");
        }
        assert!(matches!(read("\n"), Err(PredictionsError::Empty(_))));
    }
}
