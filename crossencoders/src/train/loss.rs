//! Losses over scores `[sets, candidates]`.

use tch::{Reduction, Tensor};

/// Cross-entropy over each set's candidates, mean over sets; `targets` are positions, i64 `[sets]`. For the contrastive
/// and contextual variants.
pub fn contrastive(scores: &Tensor, targets: &Tensor) -> Tensor {
    scores.cross_entropy_for_logits(targets)
}

/// Binary cross-entropy of every pair on its own, mean over pairs; `matches` is 1 or 0, f32 like the scores.
pub fn non_contrastive(scores: &Tensor, matches: &Tensor) -> Tensor {
    let unweighted: Option<&Tensor> = None;
    scores.binary_cross_entropy_with_logits(matches, unweighted, unweighted, Reduction::Mean)
}
