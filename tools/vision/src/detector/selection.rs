//! Which of the regressed boxes become an image's regions.

use super::boxes::{Box4, CLASS_WEIGHTS, clip, decode};
use super::nms::nms;

/// How regions are chosen: suppression is tried with one overlap after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectionRule {
    /// The first overlap that leaves at least this many boxes is taken.
    pub min: usize,
    /// The best of them are kept, at most this many.
    pub max: usize,
    /// The overlaps, in the order in which they are tried.
    pub overlaps: Vec<f64>,
}

impl Default for SelectionRule {
    /// VOLTA's: exactly 36 boxes, from an overlap of 0.5 on.
    fn default() -> SelectionRule {
        SelectionRule { min: 36, max: 36, overlaps: steps(0.5) }
    }
}

impl SelectionRule {
    /// The rule of the fork's MS-COCO script: 36 boxes, from an overlap of 0.3 on.
    pub fn coco() -> SelectionRule {
        SelectionRule { min: 36, max: 36, overlaps: steps(0.3) }
    }

    /// The Hugging Face code's: the first overlap that leaves enough boxes.
    pub fn between(min: usize, max: usize) -> SelectionRule {
        SelectionRule { min, max, overlaps: steps(0.5) }
    }
}

/// NumPy's `arange(start, 1, 0.1)`, with its rounding (0.7999999999999999).
fn steps(start: f64) -> Vec<f64> {
    let step = (start + 0.1) - start;
    let count = ((1.0 - start) / 0.1).ceil() as usize;
    (0..count).map(|n| start + n as f64 * step).collect()
}

/// The best object of each proposal, with its box.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Candidates {
    /// Boxes in pixels of the network's image, within it.
    pub boxes: Vec<Box4>,
    /// Object class of each, the background not among them.
    pub classes: Vec<usize>,
    /// Its probability.
    pub confidences: Vec<f32>,
}

impl Candidates {
    /// From the proposals, class probabilities `[proposals, classes + 1]` (background last) and class-specific deltas
    /// `[proposals, 4 · classes]`, or `[proposals, 4]` for one box whatever the class; `image` is the height and width of
    /// the network's image.
    ///
    /// # Panics
    /// If the lengths do not fit each other.
    pub fn new(
        proposals: &[Box4],
        probabilities: &[f32],
        deltas: &[f32],
        image: (usize, usize),
    ) -> Candidates {
        Candidates::of(proposals.len(), probabilities, deltas, |row, deltas| {
            let decoded = decode(proposals[row], deltas, CLASS_WEIGHTS);
            clip(decoded, image.1 as f32, image.0 as f32)
        })
    }

    /// As [`Candidates::new`], from boxes that are decoded already: `[proposals, 4 · classes]` or `[proposals, 4]`.
    ///
    /// # Panics
    /// As [`Candidates::new`].
    pub fn from_boxes(
        proposals: usize,
        probabilities: &[f32],
        boxes: &[f32],
        image: (usize, usize),
    ) -> Candidates {
        Candidates::of(proposals, probabilities, boxes, |_, decoded| {
            clip(decoded, image.1 as f32, image.0 as f32)
        })
    }

    fn of(
        proposals: usize,
        probabilities: &[f32],
        values: &[f32],
        to_box: impl Fn(usize, [f32; 4]) -> Box4,
    ) -> Candidates {
        if proposals == 0 {
            return Candidates::default();
        }
        let (columns, classes) = (values.len() / proposals, probabilities.len() / proposals - 1);
        assert_eq!(probabilities.len(), proposals * (classes + 1));
        assert!(values.len() == proposals * columns && [4, 4 * classes].contains(&columns));
        let mut candidates = Candidates::default();
        for (row, scores) in probabilities.chunks_exact(classes + 1).enumerate() {
            let (class, confidence) = largest(&scores[..classes]);
            let column = if columns == 4 { 0 } else { 4 * class };
            let value = &values[row * columns + column..][..4];
            candidates.boxes.push(to_box(row, [value[0], value[1], value[2], value[3]]));
            candidates.classes.push(class);
            candidates.confidences.push(confidence);
        }
        candidates
    }

    /// Which candidates become regions, by descending confidence.
    pub fn select(&self, rule: &SelectionRule) -> Selection {
        self.select_among(rule, |_| true)
    }

    /// The same, as if there were only candidates with boxes that `usable` takes.
    pub fn select_among(&self, rule: &SelectionRule, usable: impl Fn(Box4) -> bool) -> Selection {
        let among: Vec<usize> = (0..self.boxes.len()).filter(|&n| usable(self.boxes[n])).collect();
        let boxes: Vec<Box4> = among.iter().map(|&n| self.boxes[n]).collect();
        let confidences: Vec<f32> = among.iter().map(|&n| self.confidences[n]).collect();
        let mut selection = Selection::default();
        for &overlap in &rule.overlaps {
            let kept = nms(&boxes, &confidences, overlap, rule.max);
            let kept: Vec<usize> = kept.into_iter().map(|n| among[n]).collect();
            let reached = kept.len() >= rule.min;
            selection = Selection { kept, overlap, reached };
            if reached {
                break;
            }
        }
        selection
    }
}

/// What was selected.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selection {
    /// Indices of the candidates.
    pub kept: Vec<usize>,
    /// The overlap that was allowed.
    pub overlap: f64,
    /// Whether there are as many as the rule asks for; if not, these are what the last overlap left.
    pub reached: bool,
}

/// The largest value and where it is; the first of equals.
pub(super) fn largest(values: &[f32]) -> (usize, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, &value) in values.iter().enumerate() {
        if value > best.1 {
            best = (index, value);
        }
    }
    best
}

/// Values that are positive and sum to one, in place.
pub fn softmax(logits: &mut [f32]) {
    let (_, most) = largest(logits);
    let mut sum = 0.0;
    for value in logits.iter_mut() {
        *value = (*value - most).exp();
        sum += *value;
    }
    logits.iter_mut().for_each(|value| *value /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overlaps_are_numpys() {
        assert_eq!(steps(0.5), [0.5, 0.6, 0.7, 0.7999999999999999, 0.8999999999999999]);
        assert_eq!(steps(0.3).len(), 7);
    }

    #[test]
    fn no_proposals_are_no_candidates() {
        let selection = Candidates::new(&[], &[], &[], (10, 10)).select(&SelectionRule::default());
        assert!(!selection.reached && selection.kept.is_empty());
    }

    #[test]
    fn the_next_best_takes_the_place_of_what_cannot_be_used() {
        let corners = [0.0, 20.0, 40.0, 60.0];
        let candidates = Candidates {
            boxes: corners.map(|x| [x, 0.0, x + 10.0, 10.0]).to_vec(),
            classes: vec![0; 4],
            confidences: vec![0.2, 0.9, 0.5, 0.7],
        };
        let rule = SelectionRule { min: 2, max: 2, overlaps: steps(0.5) };
        assert_eq!(candidates.select(&rule).kept, [1, 3]);
        let selection = candidates.select_among(&rule, |of| of[0] != 20.0);
        assert!(selection.reached);
        assert_eq!(selection.kept, [3, 2]);
        assert!(!candidates.select_among(&rule, |of| of[0] == 0.0).reached);
    }
}
