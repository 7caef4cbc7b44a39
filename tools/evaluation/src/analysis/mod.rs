//! Beyond accuracy: where a model's answers lie, how sure it is, how far that can be believed, and what several models have in
//! common.

mod agreement;
mod calibration;
mod lengths;
mod margins;
pub mod plot;
mod positions;

use serde::Serialize;

use crate::{Evaluation, EvaluationError, Prediction};

pub use agreement::{Agreement, Ensemble, Hard, Pair, agreement};
pub use calibration::{Bin, Calibration, Scaled};
pub use lengths::LengthGroup;
pub use margins::{Margins, Quantiles};
pub use positions::Positions;

/// What can be said of one model's labelled predictions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Analysis {
    /// Accuracy and mean reciprocal rank by groups.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// Share of descriptions whose image is among the first k candidates, from k = 1.
    pub recall: Vec<f64>,
    /// Which candidates are described and chosen, by position.
    pub positions: Positions,
    /// How far the chosen candidate is ahead.
    pub margins: Margins,
    /// Whether shares of the softmax can be taken for probabilities.
    pub calibration: Calibration,
    /// Accuracy by the number of words.
    pub lengths: Vec<LengthGroup>,
}

impl Analysis {
    /// Looks at labelled predictions that have been evaluated.
    ///
    /// # Errors
    /// [`EvaluationError::Unlabelled`].
    pub fn new(
        predictions: &[Prediction],
        evaluation: Evaluation,
    ) -> Result<Analysis, EvaluationError> {
        let labelled: Vec<Labelled> = predictions
            .iter()
            .map(Labelled::new)
            .collect::<Option<_>>()
            .ok_or(EvaluationError::Unlabelled)?;
        Ok(Analysis {
            evaluation,
            recall: recall(&labelled),
            positions: Positions::new(&labelled),
            margins: Margins::new(&labelled),
            calibration: Calibration::new(&labelled),
            lengths: lengths::by_length(&labelled),
        })
    }
}

/// A prediction whose target is known.
#[derive(Debug, Clone, Copy)]
struct Labelled<'a> {
    prediction: &'a Prediction,
    target: usize,
    rank: usize,
}

impl<'a> Labelled<'a> {
    fn new(prediction: &'a Prediction) -> Option<Labelled<'a>> {
        Some(Labelled { prediction, target: prediction.target?, rank: prediction.rank? })
    }

    fn is_right(&self) -> bool {
        self.rank == 1
    }
}

fn recall(labelled: &[Labelled]) -> Vec<f64> {
    let most = labelled.iter().map(|l| l.prediction.images.len()).max().unwrap_or(0);
    let within = |k: usize| labelled.iter().filter(|l| l.rank <= k).count();
    (1..=most).map(|k| within(k) as f64 / labelled.len().max(1) as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bootstrap, Question};

    /// Predictions with targets and scores, of one video each.
    pub(super) fn predictions(all: &[(usize, &[f32])]) -> Vec<Prediction> {
        let predictions = all.iter().enumerate().map(|(number, (target, scores))| {
            let question = Question {
                directory: format!("set{number}"),
                number,
                text: "word ".repeat(number + 1),
                images: (0..scores.len()).map(|image| format!("set{number}img{image}")).collect(),
                target: Some(*target),
                video: true,
            };
            Prediction::new(question, scores.to_vec())
        });
        predictions.collect()
    }

    #[test]
    fn recall_rises_to_one() {
        let list =
            predictions(&[(0, &[3.0, 2.0, 1.0]), (1, &[3.0, 2.0, 1.0]), (2, &[3.0, 2.0, 1.0])]);
        let evaluation = Evaluation::new(&list, None, None, &Bootstrap::default()).unwrap();
        let analysis = Analysis::new(&list, evaluation).unwrap();
        assert_eq!(analysis.recall, [1.0 / 3.0, 2.0 / 3.0, 1.0]);
    }

    #[test]
    fn what_is_not_labelled_is_refused() {
        let mut list = predictions(&[(0, &[3.0, 2.0])]);
        let evaluation = Evaluation::new(&list, None, None, &Bootstrap::default()).unwrap();
        list[0].target = None;
        assert!(matches!(Analysis::new(&list, evaluation), Err(EvaluationError::Unlabelled)));
    }
}
