//! The gated-sublayer encoder of Bugliarello et al. (2021), "Multimodal Pretraining Unmasked", and the heads on it.
//!
//! Parameter names are those of VOLTA's code. Parameters that it ties exist once, under the text stream's name.

mod attention;
mod contextual;
mod dropout;
mod embeddings;
mod encoder;
mod feed_forward;
mod heads;
pub(crate) mod layers;
pub mod pretraining;
mod ranking;
mod segments;

use tch::{Kind, Tensor};

pub use contextual::{ContextConfig, ContextInit, ContextModule, ContextSizes, Positions};
pub use encoder::{CrossEncoder, Encoded};
pub use heads::{AlignmentHead, PretrainingHeads, VlClassifier};
pub use ranking::{RankingHead, RankingModel};
pub use segments::Activations;

/// Descriptions, one a row.
#[derive(Debug)]
pub struct Text {
    /// Word pieces, i64 `[sets, tokens]`.
    pub input_ids: Tensor,
    /// Segments, i64 `[sets, tokens]`.
    pub token_type_ids: Tensor,
    /// 1 for word pieces, 0 for padding, i64 `[sets, tokens]`.
    pub mask: Tensor,
}

/// Regions, one image a row.
#[derive(Debug)]
pub struct Vision {
    /// Features, f32 `[images, regions, dim]`.
    pub features: Tensor,
    /// Locations relative to the image, f32 `[images, regions, num_locs]`.
    pub locations: Tensor,
    /// 1 for regions, 0 for padding, i64 `[images, regions]`.
    pub mask: Tensor,
}

/// Candidate images of each description.
#[derive(Debug)]
pub struct Candidates {
    /// Features, f32 `[sets, candidates, regions, dim]`.
    pub features: Tensor,
    /// Locations, f32 `[sets, candidates, regions, num_locs]`.
    pub locations: Tensor,
    /// 1 for regions, 0 for padding, i64 `[sets, candidates, regions]`.
    pub mask: Tensor,
}

/// How many word pieces each text has, i64 `[sets, 1]`: ids that are not 0, as VOLTA counts them.
fn text_end(ids: &Tensor) -> Tensor {
    ids.ne(0).sum_dim_intlist([-1].as_slice(), true, Kind::Int64)
}
