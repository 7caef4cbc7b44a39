//! VL-BERT's embeddings, in which words and regions depend on each other.
//!
//! - A region whose features are all zero counts as masked, so every padded one does: a learned feature stands in.
//! - The last region, padded or not, is the end marker, and its projection is added to every word. So give all images
//!   as many regions, and expect other scores with other padding of the regions.
//! - Regions have the position at which the text ends, the last one the next; padded words come after them. By default
//!   the end is that of the batch's shortest text ([`TextEnd::Batch`]), which moves the words of longer texts.

use tch::nn::{self, Init, Module};
use tch::{Kind, Tensor};

use super::super::dropout::dropout;
use super::super::layers::{Linear, embedding, linear_from, silent_layer_norm};
use super::super::{Text, Vision, text_end};
use super::text::TextEmbeddings;
use crate::config::{ModelConfig, TextEnd};

/// The token type that regions have.
const REGION_TYPE: i64 = 2;
/// Wavelengths of the coordinates reach from 1 to this many percent of the image.
const WAVELENGTHS: f64 = 1000.0;

/// Parameters beside the text's.
#[derive(Debug)]
pub(super) struct VlBert {
    /// From coordinates and features to the stream's width.
    downsample: Linear,
    downsample_dropout: f64,
    /// Wavelengths per coordinate.
    coordinates: i64,
    region_norm: nn::LayerNorm,
    word_norm: nn::LayerNorm,
    /// What regions have in the place of a word: all, the last, and masked ones if their class is predicted.
    region_word: nn::Embedding,
    end_word: nn::Embedding,
    masked_word: Option<nn::Embedding>,
    /// In the place of features that are all zero.
    masked_feature: nn::Embedding,
    end: TextEnd,
}

impl VlBert {
    pub(super) fn new(path: &nn::Path, config: &ModelConfig) -> VlBert {
        let width = config.hidden_size;
        let word = |name: &str| embedding(path / name, config, 1, width, -1);
        let (inputs, outputs) = (2 * config.v_feature_size, config.v_hidden_size);
        // VOLTA's own starting points. At first the visual part of words and regions counts nothing.
        let bound = (6.0 / (inputs + outputs) as f64).sqrt();
        let even = Init::Uniform { lo: -bound, up: bound };
        let zeros = nn::EmbeddingConfig { ws_init: Init::Const(0.0), ..Default::default() };
        let masked = path / "object_mask_visual_embedding";
        let classes = config.visual_target_weights.get("6").is_some_and(|&weight| weight > 0.0);
        VlBert {
            downsample: linear_from(path / "obj_downsample" / 1, even, inputs, outputs),
            downsample_dropout: config.v_attention_probs_dropout_prob,
            coordinates: config.v_coordinate_embeddings_dim.unwrap_or(0),
            region_norm: silent_layer_norm(path / "visual_ln_object", width),
            word_norm: silent_layer_norm(path / "visual_ln_text", width),
            region_word: word("object_linguistic_embeddings"),
            end_word: word("end_embedding"),
            masked_word: classes.then(|| word("object_mask_word_embedding")),
            masked_feature: nn::embedding(masked, 1, config.v_feature_size, zeros),
            end: config.vl_bert_text_end,
        }
    }

    /// Words `[images, tokens, hidden]` and regions `[images, regions, hidden]`.
    pub(super) fn forward(
        &self,
        words: &TextEmbeddings,
        text: &Text,
        vision: &Vision,
        kind: Kind,
        train: bool,
    ) -> (Tensor, Tensor) {
        let (sets, regions) = (text.input_ids.size()[0], vision.features.size()[1]);
        let end = text_end(&text.input_ids);
        // [images, regions, 1]
        let masked = vision.features.ne(0.0).any_dim(-1, true).logical_not();
        let projected = self.project(vision, &masked, kind, train);

        let seen = self.word_norm.forward(&projected.narrow(1, regions - 1, 1));
        let positions = self.word_positions(&text.input_ids, &end, regions);
        // [sets, 1, tokens, hidden] + [sets, candidates, 1, hidden]
        let sum = words.sum(text, &positions).unsqueeze(1) + seen.unflatten(0, [sets, -1]);
        let text_states = words.normalise(&sum.flatten(0, 1), train);

        let positions = words.positions.forward(&region_positions(&end, regions));
        let own = self.region_norm.forward(&projected)
            + self.region_words(&masked)
            + words.types.ws.get(REGION_TYPE);
        // [sets, candidates, regions, hidden] + [sets, 1, regions, hidden]
        let sum = own.unflatten(0, [sets, -1]) + positions.unsqueeze(1);
        (text_states, words.normalise(&sum.flatten(0, 1), train))
    }

    /// Coordinates and features together, projected in the given precision, `[images, regions, v_hidden]`.
    fn project(&self, vision: &Vision, masked: &Tensor, kind: Kind, train: bool) -> Tensor {
        let stand_in = self.masked_feature.ws.get(0);
        let features = stand_in.where_self(masked, &vision.features);
        let coordinates = coordinate_embeddings(&vision.locations, self.coordinates);
        let both = Tensor::cat(&[coordinates, features], -1);
        let both = dropout(&both.to_kind(kind), self.downsample_dropout, train);
        self.downsample.forward(&both).relu()
    }

    /// What stands for a word in every region: `[images, regions, hidden]`, or `[regions, hidden]` if it is the same
    /// in all images.
    fn region_words(&self, masked: &Tensor) -> Tensor {
        let regions = masked.size()[1];
        let last = Tensor::arange(regions, (Kind::Int64, masked.device())).eq(regions - 1);
        let word = self.region_word.ws.get(0);
        let word = match &self.masked_word {
            Some(table) => table.ws.get(0).where_self(masked, &word),
            None => word,
        };
        self.end_word.ws.get(0).where_self(&last.unsqueeze(-1), &word)
    }

    /// Positions of the words, i64 `[sets, tokens]` or `[1, tokens]`: those from the end on come after the regions.
    fn word_positions(&self, ids: &Tensor, end: &Tensor, regions: i64) -> Tensor {
        let end = match self.end {
            TextEnd::Row => end.shallow_clone(),
            TextEnd::Batch => end.min().view([1, 1]),
        };
        let positions = Tensor::arange(ids.size()[1], (Kind::Int64, ids.device()));
        let after = positions.ge_tensor(&end).to_kind(Kind::Int64);
        positions + after * regions
    }
}

/// Positions of the regions, i64 `[sets, regions]`.
fn region_positions(end: &Tensor, regions: i64) -> Tensor {
    let last = Tensor::arange(regions, (Kind::Int64, end.device())).eq(regions - 1);
    end + last.to_kind(Kind::Int64)
}

/// Centre, width and height in percent of the image as waves: `[images, regions, 4 * 2 * wavelengths]`.
fn coordinate_embeddings(locations: &Tensor, wavelengths: i64) -> Tensor {
    let near = locations.narrow(-1, 0, 2);
    let far = locations.narrow(-1, 2, 2);
    let position = Tensor::cat(&[(&near + &far) * 50.0, (far - near) * 100.0], -1).unsqueeze(-1);
    let exponents = Tensor::arange(wavelengths, (locations.kind(), locations.device()));
    let lengths = (exponents * (WAVELENGTHS.ln() / wavelengths as f64)).exp();
    let phase = position / lengths;
    // [images, regions, 4, 2 * wavelengths]
    Tensor::cat(&[phase.sin(), phase.cos()], -1).flatten(2, 3)
}
