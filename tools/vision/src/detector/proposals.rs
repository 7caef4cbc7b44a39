//! From the proposal network's answers to the boxes that features are computed for.

use super::anchors::Anchors;
use super::boxes::{Box4, PROPOSAL_WEIGHTS, clip, decode, is_empty};
use super::nms::nms;

/// How proposals are chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct ProposalRule {
    /// What the network's answers refer to.
    pub anchors: Anchors,
    /// How many of the best anchors are looked at: 6000.
    pub before_nms: usize,
    /// How many proposals are kept at most: VOLTA's 300.
    pub after_nms: usize,
    /// Overlap above which the worse of two proposals is dropped: 0.7.
    pub overlap: f64,
}

impl Default for ProposalRule {
    fn default() -> ProposalRule {
        ProposalRule { anchors: Anchors::default(), before_nms: 6000, after_nms: 300, overlap: 0.7 }
    }
}

/// The chosen proposals, best first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Proposals {
    /// Boxes in pixels of the network's image.
    pub boxes: Vec<Box4>,
    /// Objectness logits.
    pub logits: Vec<f32>,
    /// Which anchor each comes from: (row · width + column) · anchors per cell + anchor.
    pub anchors: Vec<usize>,
}

impl ProposalRule {
    /// Proposals from objectness `[anchors, height, width]` and deltas `[4 · anchors, height, width]` of a feature map of
    /// that height and width, for a network image of `image` height and width.
    ///
    /// # Panics
    /// If the lengths do not fit the map.
    pub fn choose(
        &self,
        objectness: &[f32],
        deltas: &[f32],
        (height, width): (usize, usize),
        image: (usize, usize),
    ) -> Proposals {
        let (cells, per_cell) = (height * width, self.anchors.per_cell());
        assert_eq!(objectness.len(), cells * per_cell);
        assert_eq!(deltas.len(), 4 * cells * per_cell);
        // Flat order is cell, anchor; the map's is anchor, cell.
        let scores: Vec<f32> = (0..cells * per_cell)
            .map(|index| objectness[index % per_cell * cells + index / per_cell])
            .collect();
        let best = best_of(&scores, self.before_nms);
        let cell = self.anchors.cell();
        let stride = self.anchors.stride;
        let boxed = |index: usize| {
            let (at, anchor) = (index / per_cell, index % per_cell);
            let (x, y) = ((at % width * stride) as f32, (at / width * stride) as f32);
            let from = cell[anchor];
            let from = [from[0] + x, from[1] + y, from[2] + x, from[3] + y];
            let deltas = std::array::from_fn(|n| deltas[(4 * anchor + n) * cells + at]);
            clip(decode(from, deltas, PROPOSAL_WEIGHTS), image.1 as f32, image.0 as f32)
        };
        let inside: Vec<(usize, Box4)> = best
            .into_iter()
            .map(|index| (index, boxed(index)))
            .filter(|(_, candidate)| !is_empty(*candidate))
            .collect();
        let boxes: Vec<Box4> = inside.iter().map(|(_, candidate)| *candidate).collect();
        let logits: Vec<f32> = inside.iter().map(|(index, _)| scores[*index]).collect();
        let kept = nms(&boxes, &logits, self.overlap, self.after_nms);
        Proposals {
            boxes: kept.iter().map(|&n| boxes[n]).collect(),
            logits: kept.iter().map(|&n| logits[n]).collect(),
            anchors: kept.iter().map(|&n| inside[n].0).collect(),
        }
    }
}

/// Indices of the `count` highest scores, in descending order; of equal scores the lower index comes first.
fn best_of(scores: &[f32], count: usize) -> Vec<usize> {
    let key = |index: usize| if scores[index].is_nan() { f32::NEG_INFINITY } else { scores[index] };
    let by_score = |a: &usize, b: &usize| key(*b).total_cmp(&key(*a)).then(a.cmp(b));
    let mut order: Vec<usize> = (0..scores.len()).collect();
    if count < order.len() {
        order.select_nth_unstable_by(count, by_score);
        order.truncate(count);
    }
    order.sort_unstable_by(by_score);
    order
}
