//! How well candidates are ranked.

use serde::{Deserialize, Serialize};

use super::Prediction;

/// Ranking quality over some descriptions.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Group {
    /// Number of descriptions.
    pub descriptions: usize,
    /// Part of them, 0 to 1, whose image is ranked first.
    pub accuracy: f64,
    /// Mean reciprocal rank of their images.
    pub mrr: f64,
}

/// Ranking quality of a split.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Metrics {
    /// All descriptions.
    pub all: Group,
    /// Those of sets of video frames.
    pub video: Group,
    /// Those of sets of unrelated photographs.
    #[serde(rename = "static")]
    pub photographs: Group,
    /// Accuracy of guessing.
    pub chance: f64,
    /// Descriptions for which several candidates share the highest score. Among equals the first candidate wins.
    pub ties: usize,
}

impl Metrics {
    /// Metrics of predictions; those without a target do not count.
    pub fn new(predictions: &[Prediction]) -> Metrics {
        let mut groups = [Group::default(); 3];
        let (mut ties, mut chance) = (0, 0.0);
        for prediction in predictions {
            let Some(rank) = prediction.rank else { continue };
            ties += usize::from(prediction.tie);
            chance += 1.0 / prediction.scores.len() as f64;
            let kind = if prediction.video { 1 } else { 2 };
            for group in [0, kind] {
                groups[group].descriptions += 1;
                groups[group].accuracy += f64::from(u8::from(rank == 1));
                groups[group].mrr += 1.0 / rank as f64;
            }
        }
        for group in &mut groups {
            let count = group.descriptions.max(1) as f64;
            group.accuracy /= count;
            group.mrr /= count;
        }
        let [all, video, photographs] = groups;
        let chance = chance / all.descriptions.max(1) as f64;
        Metrics { all, video, photographs, chance, ties }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Question;

    fn prediction(target: usize, video: bool, scores: &[f32]) -> Prediction {
        let question = Question {
            directory: "set".into(),
            number: target,
            text: String::new(),
            images: vec![String::new(); scores.len()],
            target: Some(target),
            video,
        };
        Prediction::new(question, scores.to_vec())
    }

    #[test]
    fn accuracy_rank_and_ties_by_kind_of_set() {
        let metrics = Metrics::new(&[
            prediction(2, true, &[0.0, 1.0, 3.0, 2.0]),
            prediction(0, true, &[1.0, 2.0, 2.0, 0.0]),
            prediction(3, false, &[5.0, 1.0, 2.0, 5.0]),
        ]);
        assert_eq!(metrics.all.descriptions, 3);
        assert!((metrics.all.accuracy - 1.0 / 3.0).abs() < 1e-12);
        assert!((metrics.all.mrr - (1.0 + 1.0 / 3.0 + 0.5) / 3.0).abs() < 1e-12);
        assert_eq!((metrics.video.accuracy, metrics.photographs.accuracy), (0.5, 0.0));
        assert_eq!((metrics.ties, metrics.chance), (2, 0.25));
    }
}
