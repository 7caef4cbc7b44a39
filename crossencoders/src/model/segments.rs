//! Training passes whose dropout is a function of a seed, as a whole or segment by segment.
//!
//! The pass is a chain of segments: embeddings, each sublayer, the head with the loss. Every segment seeds libtorch's
//! generator anew, so that a segment that runs a second time drops the same units.
//!
//! Going back segment by segment tells when a segment's gradients are complete, so that ranks can add them up meanwhile;
//! and the activations of all but one segment can be forgotten and computed anew. This is gradient checkpointing after
//! Chen et al. (2016), "Training Deep Nets with Sublinear Memory Cost", with a checkpoint between any two sublayers.

use tch::Tensor;

use super::attention::{Queries, Stream};
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

    /// The segment that a parameter belongs to, by its name: 0 for embeddings, one for each sublayer, one for all above.
    pub fn segment_of(&self, name: &str) -> usize {
        let above = 1 + self.encoder().depth();
        let Some(of_bert) = name.strip_prefix("bert.") else { return above };
        let mut parts = of_bert.split('.');
        match [parts.next(), parts.next(), parts.next()] {
            [Some("encoder"), Some("layer"), Some(number)] => {
                number.parse().map_or(above, |number: usize| 1 + number)
            }
            [Some("t_pooler" | "v_pooler"), ..] => above,
            // Whatever else there is below the encoder.
            _ => EMBEDDINGS as usize,
        }
    }

    /// Scores `[sets, candidates]` with dropout by a seed, or without, and the loss that `loss` makes of them; its gradients are added to those of
    /// the parameters. The same numbers as by [`forward_seeded`](RankingModel::forward_seeded) and `backward`, but segment
    /// by segment from the last to the first; `finished` is told which segment has all its gradients.
    pub fn backward_in_segments(
        &self,
        (text, candidates, video): (&Text, &Candidates, &Tensor),
        seed: Option<u64>,
        activations: Activations,
        loss: &dyn Fn(&Tensor) -> Tensor,
        finished: &mut dyn FnMut(usize),
    ) -> (Tensor, Tensor) {
        let (encoder, vision) = (self.encoder(), candidates.flatten());
        let embed = || {
            let dropout = seed_segment(seed, EMBEDDINGS);
            encoder.start(text, &vision, dropout)
        };
        let mut segments = Vec::with_capacity(encoder.depth());
        let first = activations.of(&embed);
        let mut states = leaves(&first.0);
        for index in 0..encoder.depth() {
            let (output, kept) = activations.of(&|| self.sublayer(index, &states, seed));
            segments.push((std::mem::replace(&mut states, leaves(&output)), kept));
        }
        let sets = candidates.features.size()[0];
        let scores = self.scores(states.shallow_clone(), sets, video, seed);
        let loss = loss(&scores);
        loss.backward();
        finished(1 + encoder.depth());
        let mut gradients = Gradients::of(&states);
        for (index, (input, kept)) in segments.into_iter().enumerate().rev() {
            let output = kept.unwrap_or_else(|| self.sublayer(index, &input, seed));
            gradients.backward(&output);
            gradients = Gradients::of(&input);
            finished(1 + index);
        }
        gradients.backward(&first.1.unwrap_or_else(embed));
        finished(EMBEDDINGS as usize);
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

/// What is done with the activations of a segment until its gradients are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activations {
    /// They stay in memory.
    Kept,
    /// They are forgotten and computed a second time.
    Recomputed,
}

impl Activations {
    /// A segment's output, and the same with its history if that is kept.
    fn of(self, segment: &dyn Fn() -> States) -> (States, Option<States>) {
        match self {
            Activations::Kept => {
                let output = segment();
                (output.shallow_clone(), Some(output))
            }
            Activations::Recomputed => (tch::no_grad(segment), None),
        }
    }
}

/// The same streams, cut off from what they were computed from, and ready to collect gradients.
fn leaves(states: &States) -> States {
    let leaf = |x: &Stream| x.states.detach().set_requires_grad(true);
    states.with(leaf(&states.text), states.vision.as_ref().map(leaf))
}

/// Of the loss by the streams; undefined where the loss does not depend on one.
struct Gradients(Vec<Tensor>);

impl Gradients {
    fn of(leaves: &States) -> Gradients {
        Gradients(streams(leaves).map(|stream| stream.states.grad()).collect())
    }

    /// Hands the gradients on to what the streams were computed from.
    fn backward(&self, outputs: &States) {
        // The gradient of sum(x · g) by x is g, exactly.
        let inner = streams(outputs).zip(&self.0).filter_map(|(stream, gradient)| {
            let x = &stream.states;
            (gradient.defined() && x.requires_grad()).then(|| (x * gradient).sum(x.kind()))
        });
        if let Some(sum) = inner.reduce(|a, b| a + b) {
            sum.backward();
        }
    }
}

fn streams(states: &States) -> impl Iterator<Item = &Stream> {
    std::iter::once(&states.text).chain(&states.vision)
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
