//! Regions of VisualBERT, which does not look at their locations.

use tch::nn;
use tch::{Kind, Tensor};

use super::super::Vision;
use super::super::layers::{Linear, embedding, linear};
use super::text::TextEmbeddings;
use crate::config::ModelConfig;

/// Regions have token type 1 and position 0 of tables of their own.
const REGION_TYPE: i64 = 1;
const REGION_POSITION: i64 = 0;

/// The projected feature with position and token type, under the text's LayerNorm.
#[derive(Debug)]
pub(super) struct VisualBert {
    projection: Linear,
    positions: nn::Embedding,
    types: nn::Embedding,
}

impl VisualBert {
    /// The tables begin as copies of the text's.
    pub(super) fn new(path: &nn::Path, config: &ModelConfig, text: &TextEmbeddings) -> VisualBert {
        let table = |name: &str, text: &nn::Embedding, padding: i64| {
            let (count, width) = (text.ws.size()[0], config.hidden_size);
            let mut table = embedding(path / name, config, count, width, padding);
            tch::no_grad(|| table.ws.copy_(&text.ws));
            table
        };
        VisualBert {
            projection: linear(
                path / "projection",
                config,
                config.v_feature_size,
                config.hidden_size,
            ),
            positions: table("position_embeddings_visual", &text.positions, -1),
            types: table("token_type_embeddings_visual", &text.types, 0),
        }
    }

    /// `[images, regions, hidden]`.
    pub(super) fn forward(
        &self,
        text: &TextEmbeddings,
        vision: &Vision,
        kind: Kind,
        train: bool,
    ) -> Tensor {
        let place = self.positions.ws.get(REGION_POSITION) + self.types.ws.get(REGION_TYPE);
        text.normalise(&(self.projection.forward(&vision.features.to_kind(kind)) + place), train)
    }
}
