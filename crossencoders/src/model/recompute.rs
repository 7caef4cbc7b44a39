//! Training passes whose dropout is a function of a seed, with the activations of all sublayers in memory or of one.
//!
//! The pass is a chain of segments: embeddings, each sublayer, the head with the loss. Every segment seeds libtorch's
//! generator anew, so that a segment that runs a second time drops the same units. This is gradient checkpointing after
//! Chen et al. (2016), "Training Deep Nets with Sublinear Memory Cost", with a checkpoint between any two sublayers.

use tch::Tensor;

use super::attention::Queries;
use super::encoder::States;
use super::{Candidates, RankingModel, Text};

/// The segment before the first sublayer.
const EMBEDDINGS: u64 = 0;

impl RankingModel {
    /// Scores `[sets, candidates]` with dropout by a seed, or without.
    pub fn forward_seeded(
        &self,
        text: &Text,
        candidates: &Candidates,
        video: &Tensor,
        seed: Option<u64>,
    ) -> Tensor {
        let encoder = self.encoder();
        let dropout = seed_segment(seed, EMBEDDINGS);
        let mut states = encoder.start(text, &candidates.flatten(), dropout);
        for index in 0..encoder.depth() {
            states = self.sublayer(index, &states, seed);
        }
        self.scores(states, candidates.features.size()[0], video, seed)
    }

    /// Scores `[sets, candidates]` with dropout by a seed, or without, and the loss that `loss` makes of them; its gradients are added to those of
    /// the parameters. The same numbers as by [`forward_seeded`](RankingModel::forward_seeded) and `backward`, but the
    /// activations of a sublayer are only there while its own gradients are computed.
    pub fn backward_recomputing(
        &self,
        text: &Text,
        candidates: &Candidates,
        video: &Tensor,
        seed: Option<u64>,
        loss: &dyn Fn(&Tensor) -> Tensor,
    ) -> (Tensor, Tensor) {
        let encoder = self.encoder();
        let vision = candidates.flatten();
        let embed = || {
            let dropout = seed_segment(seed, EMBEDDINGS);
            encoder.start(text, &vision, dropout)
        };
        let mut inputs = Vec::with_capacity(encoder.depth());
        let mut states = tch::no_grad(embed);
        for index in 0..encoder.depth() {
            let next = tch::no_grad(|| self.sublayer(index, &states, seed));
            inputs.push(std::mem::replace(&mut states, next));
        }
        let last = leaves(&states);
        let sets = candidates.features.size()[0];
        let scores = self.scores(last.shallow_clone(), sets, video, seed);
        let loss = loss(&scores);
        loss.backward();
        let mut gradients = Gradients::of(&last);
        for index in (0..encoder.depth()).rev() {
            let Some(input) = inputs.pop() else { break };
            let input = leaves(&input);
            gradients.backward(&self.sublayer(index, &input, seed));
            gradients = Gradients::of(&input);
        }
        gradients.backward(&embed());
        (scores.detach(), loss.detach())
    }

    fn sublayer(&self, index: usize, states: &States, seed: Option<u64>) -> States {
        let dropout = seed_segment(seed, EMBEDDINGS + 1 + index as u64);
        self.encoder().advance(index, states, Queries::First, dropout)
    }

    fn scores(&self, states: States, sets: i64, video: &Tensor, seed: Option<u64>) -> Tensor {
        let dropout = seed_segment(seed, EMBEDDINGS + 1 + self.encoder().depth() as u64);
        self.head(&self.encoder().finish(states), sets, video, dropout)
    }
}

/// The same streams, cut off from what they were computed from, and ready to collect gradients.
fn leaves(states: &States) -> States {
    let leaf = |x: &Tensor| x.detach().set_requires_grad(true);
    states.with(leaf(&states.text.states), leaf(&states.vision.states))
}

/// Of the loss by the two streams; undefined where the loss does not depend on a stream.
struct Gradients {
    text: Tensor,
    vision: Tensor,
}

impl Gradients {
    fn of(leaves: &States) -> Gradients {
        Gradients { text: leaves.text.states.grad(), vision: leaves.vision.states.grad() }
    }

    /// Hands the gradients on to what the streams were computed from.
    fn backward(&self, outputs: &States) {
        // The gradient of sum(x · g) by x is g, exactly.
        let inner = |x: &Tensor, gradient: &Tensor| {
            (gradient.defined() && x.requires_grad()).then(|| (x * gradient).sum(x.kind()))
        };
        let text = inner(&outputs.text.states, &self.text);
        let vision = inner(&outputs.vision.states, &self.vision);
        match (text, vision) {
            (Some(text), Some(vision)) => (text + vision).backward(),
            (Some(one), None) | (None, Some(one)) => one.backward(),
            (None, None) => {}
        }
    }
}

/// Prepares a segment's dropout and says whether there is any. Neighbouring seeds and segments have nothing in common:
/// SplitMix64's finaliser.
fn seed_segment(seed: Option<u64>, segment: u64) -> bool {
    let Some(seed) = seed else { return false };
    let mut x = seed.wrapping_add(segment.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    tch::manual_seed((x ^ (x >> 31)) as i64);
    true
}
