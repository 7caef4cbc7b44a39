//! What computes scores: one of the two families of models.

use tch::nn::Path;
use tch::{Kind, Tensor};

use super::RankerError;
use crate::clip::{ClipImages, ClipRanking};
use crate::config::Config;
use crate::data::{Batch, BatchImages};
use crate::model::{Activations, Candidates, RankingModel};
use crate::train::Recipe;

#[derive(Debug)]
pub(super) enum Network {
    CrossEncoder(Box<RankingModel>),
    Clip(Box<ClipRanking>),
}

impl Network {
    /// Creates all parameters.
    pub fn new(root: &Path, config: &Config, recipe: &Recipe) -> Result<Network, RankerError> {
        let mut network = match config {
            Config::CrossEncoder(config) => {
                Network::CrossEncoder(Box::new(RankingModel::new(root, config, &recipe.head())?))
            }
            Config::Clip(config) => {
                Network::Clip(Box::new(ClipRanking::new(root, config, &recipe.clip_head())?))
            }
        };
        network.set_kind(recipe.train.precision.kind());
        Ok(network)
    }

    fn set_kind(&mut self, kind: Kind) {
        match self {
            Network::CrossEncoder(model) => model.set_kind(kind),
            Network::Clip(model) => model.set_kind(kind),
        }
    }

    /// Scores `[sets, candidates]`; dropout acts if `train` is set.
    pub fn forward(&self, batch: &Batch, train: bool) -> Tensor {
        match self {
            Network::CrossEncoder(model) => {
                model.forward(&batch.text, regions(batch), &batch.video, train)
            }
            Network::Clip(model) => {
                let ids = &batch.text.input_ids;
                match &batch.images {
                    BatchImages::Regions(candidates) => {
                        // The one region is the picture.
                        let embeddings = candidates.features.select(2, 0);
                        model.forward(ids, ClipImages::Embeddings(&embeddings), &batch.video, train)
                    }
                    BatchImages::Pictures { pixels, rows } => {
                        let pictures = ClipImages::Pictures { pixels, rows };
                        model.forward(ids, pictures, &batch.video, train)
                    }
                }
            }
        }
    }

    /// Scores of embeddings, where the model has such.
    pub fn scores_of(&self, images: &Tensor, texts: &Tensor, video: &Tensor) -> Option<Tensor> {
        match self {
            Network::CrossEncoder(_) => None,
            Network::Clip(model) => Some(model.scores_of(images, texts, video, false)),
        }
    }

    /// Adds the gradients of a loss; see [`Ranker::backward`](super::Ranker::backward).
    pub fn backward(
        &self,
        batch: &Batch,
        seed: Option<u64>,
        activations: Activations,
        loss: &dyn Fn(&Tensor) -> Tensor,
        finished: Option<&mut dyn FnMut(usize)>,
    ) -> (Tensor, Tensor) {
        let model = match self {
            Network::CrossEncoder(model) => model,
            Network::Clip(_) => {
                if let Some(seed) = seed {
                    tch::manual_seed(seed as i64);
                }
                let scores = self.forward(batch, seed.is_some());
                let loss = loss(&scores);
                loss.backward();
                // All of it is one segment.
                if let Some(finished) = finished {
                    finished(0);
                }
                return (scores.detach(), loss.detach());
            }
        };
        let Batch { text, video, .. } = batch;
        let candidates = regions(batch);
        if finished.is_some() || activations == Activations::Recomputed {
            let nobody: &mut dyn FnMut(usize) = &mut |_| ();
            let (inputs, finished) = ((text, candidates, video), finished.unwrap_or(nobody));
            return model.backward_in_segments(inputs, seed, activations, loss, finished);
        }
        let scores = model.forward_seeded(text, candidates, video, seed);
        let loss = loss(&scores);
        loss.backward();
        (scores.detach(), loss.detach())
    }

    /// The segment of the backward pass that a parameter belongs to.
    pub fn segment_of(&self, name: &str) -> usize {
        match self {
            Network::CrossEncoder(model) => model.segment_of(name),
            Network::Clip(_) => 0,
        }
    }

    /// How much words attend to regions, where they do.
    pub fn words_to_regions(&self, batch: &Batch) -> Option<Tensor> {
        match self {
            Network::CrossEncoder(model) => model.words_to_regions(&batch.text, regions(batch)),
            Network::Clip(_) => None,
        }
    }
}

/// What a cross-encoder looks at.
fn regions(batch: &Batch) -> &Candidates {
    match &batch.images {
        BatchImages::Regions(candidates) => candidates,
        BatchImages::Pictures { .. } => {
            unreachable!("`Ranker::open_images` gives a cross-encoder a store of regions")
        }
    }
}
