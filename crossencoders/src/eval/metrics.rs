//! How well candidates are ranked.

use serde::{Deserialize, Serialize};

use crate::data::Example;

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
    /// Metrics of labelled examples and the scores of their candidates; unlabelled ones do not count.
    pub fn new(examples: &[Example], scores: &[Vec<f32>]) -> Metrics {
        let mut groups = [Group::default(); 3];
        let (mut ties, mut candidates) = (0, 0);
        for (example, scores) in examples.iter().zip(scores) {
            let Some(target) = example.target else { continue };
            let rank = rank(scores, target);
            ties += usize::from(is_tie(scores));
            candidates += scores.len();
            let kind = if example.video { 1 } else { 2 };
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
        let chance = all.descriptions as f64 / candidates.max(1) as f64;
        Metrics { all, video, photographs, chance, ties }
    }
}

/// 1 for the best; among equal scores the earlier candidate is better.
pub(super) fn rank(scores: &[f32], target: usize) -> usize {
    let better = |(position, &score): (usize, &f32)| {
        score > scores[target] || (score == scores[target] && position < target)
    };
    1 + scores.iter().enumerate().filter(|&candidate| better(candidate)).count()
}

fn is_tie(scores: &[f32]) -> bool {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter().filter(|&&score| score == highest).count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(target: usize, video: bool) -> Example {
        Example {
            directory: "set".into(),
            text: String::new(),
            input_ids: vec![],
            images: vec![String::new(); 4],
            target: Some(target),
            video,
        }
    }

    #[test]
    fn accuracy_rank_and_ties_by_kind_of_set() {
        let examples = [example(2, true), example(0, true), example(3, false)];
        let scores = [vec![0.0, 1.0, 3.0, 2.0], vec![1.0, 2.0, 2.0, 0.0], vec![5.0, 1.0, 2.0, 5.0]];
        let metrics = Metrics::new(&examples, &scores);
        assert_eq!(metrics.all.descriptions, 3);
        assert!((metrics.all.accuracy - 1.0 / 3.0).abs() < 1e-12);
        assert!((metrics.all.mrr - (1.0 + 1.0 / 3.0 + 0.5) / 3.0).abs() < 1e-12);
        assert_eq!((metrics.video.accuracy, metrics.photographs.accuracy), (0.5, 0.0));
        assert_eq!((metrics.ties, metrics.chance), (2, 0.25));
    }
}
