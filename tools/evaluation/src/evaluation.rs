//! All that is known of how well a split is ranked: by kind of set, annotator and phenomenon, with intervals.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::bootstrap::{Bootstrap, Interval, by_set, means};
use super::whole_file::write_whole;
use super::{
    AnnotationsError, Annotator, Annotators, Group, Metrics, Phenomena, Prediction, phenomenon_name,
};

/// Why predictions cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// An annotation file that is not about the split.
    #[error(transparent)]
    Annotations(#[from] AnnotationsError),
    /// Accuracy without answers.
    #[error("the split is not labelled: there is nothing to compare the ranking with")]
    Unlabelled,
}

/// Ranking quality over some descriptions, and how far it would move with other image sets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Accuracy and mean reciprocal rank.
    #[serde(flatten)]
    pub group: Group,
    /// Image sets that the descriptions are of.
    pub sets: usize,
    /// Of the accuracy; `None` with fewer sets than [`FEWEST_SETS`](super::FEWEST_SETS).
    pub accuracy_interval: Option<Interval>,
    /// Of the mean reciprocal rank; `None` where the accuracy has none.
    pub mrr_interval: Option<Interval>,
}

/// Descriptions by whether the annotator has also described images of the training split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ByAnnotator {
    /// Annotators with descriptions in the training split.
    pub seen: Estimate,
    /// Annotators without.
    pub unseen: Estimate,
    /// Descriptions that the annotation file does not have.
    pub unknown: usize,
}

/// Descriptions by phenomenon; one description can have several.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ByPhenomenon {
    /// Descriptions with any phenomenon: what the accuracy for one of them is to be compared with.
    pub any: Estimate,
    /// By phenomenon, the most frequent first.
    pub each: Vec<Phenomenon>,
    /// Descriptions in the annotation file without a phenomenon.
    pub without: usize,
    /// Descriptions that the annotation file does not have.
    pub unknown: usize,
    /// Descriptions whose text is another one in the annotation file; they count.
    pub other_text: usize,
}

/// Descriptions with one phenomenon.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phenomenon {
    /// The annotation's code, `con`.
    pub code: String,
    /// What it stands for, `context`.
    pub name: String,
    /// How they are ranked.
    #[serde(flatten)]
    pub estimate: Estimate,
}

/// Ranking quality of a split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// All descriptions.
    pub all: Estimate,
    /// Those of sets of video frames.
    pub video: Estimate,
    /// Those of sets of unrelated photographs.
    #[serde(rename = "static")]
    pub photographs: Estimate,
    /// Accuracy of guessing.
    pub chance: f64,
    /// Descriptions for which several candidates share the highest score. Among equals the first candidate wins.
    pub ties: usize,
    /// How the intervals were made.
    pub bootstrap: Bootstrap,
    /// With an annotation file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotators: Option<ByAnnotator>,
    /// With an annotation file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phenomena: Option<ByPhenomenon>,
}

/// A group of descriptions, as a line of a table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row<'a> {
    /// What the descriptions are grouped by: `split`, `images`, `annotators` or `phenomenon`.
    pub by: &'static str,
    /// Which of them: `all`, `video`, `seen`, the code of a phenomenon, …
    pub value: &'a str,
    /// In words.
    pub name: &'a str,
    /// How they are ranked.
    pub estimate: &'a Estimate,
}

impl Estimate {
    fn new<'a>(
        predictions: impl IntoIterator<Item = &'a Prediction>,
        bootstrap: &Bootstrap,
    ) -> Estimate {
        let clusters = by_set(predictions.into_iter().filter_map(|prediction| {
            let rank = prediction.rank?;
            let values = [f64::from(u8::from(rank == 1)), 1.0 / rank as f64];
            Some((prediction.directory.as_str(), values))
        }));
        let [accuracy, mrr] = means(&clusters);
        let descriptions = clusters.iter().map(|cluster| cluster.count).sum();
        let resampled = bootstrap.resampled_means(&clusters);
        let interval = |value: usize| {
            let values = resampled.iter().map(|means| means[value]).collect();
            bootstrap.interval(clusters.len(), values)
        };
        Estimate {
            group: Group { descriptions, accuracy, mrr },
            sets: clusters.len(),
            accuracy_interval: interval(0),
            mrr_interval: interval(1),
        }
    }
}

impl Evaluation {
    /// Evaluates the predictions of a labelled split.
    ///
    /// # Errors
    /// [`EvaluationError::Unlabelled`] if a description has no target; [`EvaluationError::Annotations`] if an annotation file is
    /// about other descriptions.
    pub fn new(
        predictions: &[Prediction],
        annotators: Option<&Annotators>,
        phenomena: Option<&Phenomena>,
        bootstrap: &Bootstrap,
    ) -> Result<Evaluation, EvaluationError> {
        if predictions.iter().any(|prediction| prediction.rank.is_none()) {
            return Err(EvaluationError::Unlabelled);
        }
        let Metrics { chance, ties, .. } = Metrics::new(predictions);
        let of_kind = |video| {
            Estimate::new(
                predictions.iter().filter(|prediction| prediction.video == video),
                bootstrap,
            )
        };
        Ok(Evaluation {
            annotators: annotators
                .map(|annotators| by_annotator(predictions, annotators, bootstrap))
                .transpose()?,
            phenomena: phenomena
                .map(|phenomena| by_phenomenon(predictions, phenomena, bootstrap))
                .transpose()?,
            all: Estimate::new(predictions, bootstrap),
            video: of_kind(true),
            photographs: of_kind(false),
            chance,
            ties,
            bootstrap: *bootstrap,
        })
    }

    /// All groups that have descriptions, in the order to be read in.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let row = |by, value, name, estimate| Row { by, value, name, estimate };
        let mut rows = vec![
            row("split", "all", "all", &self.all),
            row("images", "video", "video", &self.video),
            row("images", "static", "static", &self.photographs),
        ];
        if let Some(annotators) = &self.annotators {
            rows.push(row("annotators", "seen", "seen annotators", &annotators.seen));
            rows.push(row("annotators", "unseen", "unseen annotators", &annotators.unseen));
        }
        if let Some(phenomena) = &self.phenomena {
            rows.push(row("phenomenon", "any", "any phenomenon", &phenomena.any));
            rows.extend(phenomena.each.iter().map(|Phenomenon { code, name, estimate }| {
                row("phenomenon", code, name, estimate)
            }));
        }
        rows.retain(|row| row.estimate.group.descriptions > 0);
        rows
    }

    /// Writes the rows as CSV, accuracies from 0 to 1; an interval that there is not is left empty. The file is complete
    /// or not there.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_csv(&self, path: &Path) -> io::Result<()> {
        write_whole(path, |out| {
            let mut csv = csv::Writer::from_writer(out);
            csv.write_record([
                "by",
                "value",
                "name",
                "descriptions",
                "sets",
                "accuracy",
                "accuracy_low",
                "accuracy_high",
                "mrr",
                "mrr_low",
                "mrr_high",
            ])?;
            for Row { by, value, name, estimate } in self.rows() {
                let Estimate { group, sets, accuracy_interval, mrr_interval } = estimate;
                let [accuracy_low, accuracy_high] = ends(accuracy_interval);
                let [mrr_low, mrr_high] = ends(mrr_interval);
                csv.write_record([
                    by,
                    value,
                    name,
                    &group.descriptions.to_string(),
                    &sets.to_string(),
                    &group.accuracy.to_string(),
                    &accuracy_low,
                    &accuracy_high,
                    &group.mrr.to_string(),
                    &mrr_low,
                    &mrr_high,
                ])?;
            }
            csv.flush()
        })
    }
}

fn ends(interval: &Option<Interval>) -> [String; 2] {
    match interval {
        Some(Interval { low, high }) => [low.to_string(), high.to_string()],
        None => Default::default(),
    }
}

fn by_annotator(
    predictions: &[Prediction],
    annotators: &Annotators,
    bootstrap: &Bootstrap,
) -> Result<ByAnnotator, EvaluationError> {
    annotators.check(predictions)?;
    let of = |prediction: &Prediction| annotators.of(&prediction.directory, prediction.number);
    let with = |annotator| {
        Estimate::new(predictions.iter().filter(|p| of(p) == Some(annotator)), bootstrap)
    };
    Ok(ByAnnotator {
        seen: with(Annotator::Seen),
        unseen: with(Annotator::Unseen),
        unknown: predictions.iter().filter(|prediction| of(prediction).is_none()).count(),
    })
}

fn by_phenomenon(
    predictions: &[Prediction],
    phenomena: &Phenomena,
    bootstrap: &Bootstrap,
) -> Result<ByPhenomenon, EvaluationError> {
    let other_text = phenomena.check(predictions)?;
    let mut with: BTreeMap<&str, Vec<&Prediction>> = BTreeMap::new();
    let (mut any, mut without, mut unknown) = (Vec::new(), 0, 0);
    for prediction in predictions {
        match phenomena.of(&prediction.directory, prediction.number) {
            None => unknown += 1,
            Some([]) => without += 1,
            Some(codes) => {
                any.push(prediction);
                for code in codes {
                    with.entry(code).or_default().push(prediction);
                }
            }
        }
    }
    let mut each: Vec<Phenomenon> = with
        .into_iter()
        .map(|(code, predictions)| Phenomenon {
            code: code.to_owned(),
            name: phenomenon_name(code).to_owned(),
            estimate: Estimate::new(predictions, bootstrap),
        })
        .collect();
    // Stable: equally frequent ones stay in the order of their codes.
    each.sort_by_key(|phenomenon| std::cmp::Reverse(phenomenon.estimate.group.descriptions));
    Ok(ByPhenomenon { any: Estimate::new(any, bootstrap), each, without, unknown, other_text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction(set: &str, number: usize, rank: usize) -> Prediction {
        Prediction {
            directory: set.into(),
            number,
            text: format!("text {number}"),
            images: vec!["a".into(), "b".into()],
            target: Some(0),
            scores: vec![1.0, if rank == 1 { 0.0 } else { 2.0 }],
            rank: Some(rank),
            tie: false,
            video: !set.starts_with("open-images"),
        }
    }

    fn predictions() -> Vec<Prediction> {
        vec![
            prediction("open-images-1_a", 3, 1),
            prediction("open-images-1_a", 7, 2),
            prediction("clip_2", 0, 1),
            prediction("clip_2", 5, 1),
            prediction("clip_3", 5, 2),
        ]
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    /// Counted by hand.
    #[test]
    fn groups_are_those_of_the_annotations() {
        let annotators = file(
            r#"{"open-images-1_a": {"3": "train_worker", "7": "unseen_worker"}, "clip_2": {"0": "train_worker"}}"#,
        );
        let phenomena = file(
            "open-images-1_a:\n  3: {description: text 3, annotation: \"con,q\"}\n  7: {description: text 7, annotation: \"\"}\nclip_2:\n  0: {description: text 0, annotation: con}\nclip_3:\n  5: {description: text 5, annotation: \"new,con\"}\n",
        );
        let evaluation = Evaluation::new(
            &predictions(),
            Some(&Annotators::load(annotators.path()).unwrap()),
            Some(&Phenomena::load(phenomena.path()).unwrap()),
            &Bootstrap { resamples: 100, ..Bootstrap::default() },
        )
        .unwrap();
        let counted: Vec<_> = evaluation
            .rows()
            .iter()
            .map(|row| {
                let Estimate { group, sets, .. } = row.estimate;
                let right = (group.accuracy * group.descriptions as f64).round() as usize;
                (row.value, group.descriptions, right, *sets)
            })
            .collect();
        assert_eq!(
            counted,
            [
                ("all", 5, 3, 3),
                ("video", 3, 2, 2),
                ("static", 2, 1, 1),
                ("seen", 2, 2, 2),
                ("unseen", 1, 0, 1),
                ("any", 3, 2, 3),
                ("con", 3, 2, 3),
                ("new", 1, 0, 1),
                ("q", 1, 1, 1),
            ]
        );
        assert!((evaluation.all.group.mrr - 0.8).abs() < 1e-12);
        assert_eq!(evaluation.annotators.as_ref().unwrap().unknown, 2);
        let phenomena = evaluation.phenomena.as_ref().unwrap();
        assert_eq!((phenomena.without, phenomena.unknown), (1, 1));
        assert_eq!(phenomena.each[2].name, "quantities");
        assert_eq!(evaluation.all.accuracy_interval, None, "three sets are too few");
    }

    #[test]
    fn a_table_has_a_line_for_every_group_with_descriptions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let evaluation =
            Evaluation::new(&predictions()[..2], None, None, &Bootstrap::default()).unwrap();
        evaluation.write_csv(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[1], "split,all,all,2,1,0.5,,,0.75,,");
        assert_eq!(lines[2], "images,static,static,2,1,0.5,,,0.75,,");
        assert!(evaluation.write_csv(&folder.path().join("nowhere/metrics.csv")).is_err());
    }

    #[test]
    fn enough_sets_have_intervals_around_their_means() {
        let of_set = |set: usize| prediction(&format!("clip_{set}"), 0, 1 + set % 2);
        let predictions: Vec<Prediction> = (0..40).map(of_set).collect();
        let all = Evaluation::new(&predictions, None, None, &Bootstrap::default()).unwrap().all;
        let around = |interval: Option<Interval>, mean: f64| {
            interval.is_some_and(|Interval { low, high }| low < mean && mean < high)
        };
        assert!(around(all.accuracy_interval, 0.5) && around(all.mrr_interval, 0.75), "{all:?}");
    }

    #[test]
    fn what_is_not_labelled_is_not_evaluated() {
        let mut predictions = predictions();
        predictions[4] = Prediction { target: None, rank: None, ..predictions[4].clone() };
        let evaluated = Evaluation::new(&predictions, None, None, &Bootstrap::default());
        assert!(matches!(evaluated, Err(EvaluationError::Unlabelled)));
    }
}
