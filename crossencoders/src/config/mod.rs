//! VOLTA's JSON model configuration, read unchanged; and [`Config`], which is that or CLIP's.

mod check;
mod either;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use feature_store::{BatchSpec, GlobalFeature};
use serde::{Deserialize, Serialize};

pub use check::ConfigError;
pub use either::Config;

/// A sublayer's index to a size or a number of heads.
pub type PerSublayer = BTreeMap<i64, i64>;

/// Which embedding module feeds the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageEmbeddings {
    /// Regions and locations are projected and added, then normalised.
    Vilbert,
    /// Each is projected and normalised on its own; the mean of the two.
    Lxmert,
    /// Each is normalised on its own, a token type is added, then all is normalised.
    Uniter,
    /// Regions are projected, a position and a token type are added; locations are not looked at.
    VisualBert,
    /// Regions with their coordinates are projected once; the last region's projection is added to every word.
    #[serde(rename = "vl-bert")]
    VlBert,
}

impl ImageEmbeddings {
    /// Whether words and regions are embedded by one module and hence are of one width.
    pub fn single_stream(self) -> bool {
        !matches!(self, ImageEmbeddings::Vilbert | ImageEmbeddings::Lxmert)
    }
}

/// Where VL-BERT takes the end of the text from, after which the regions' positions come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextEnd {
    /// From the shortest text of the batch, as in VOLTA, whose released weights have been trained with that. Scores then
    /// depend on what else is in the batch.
    #[default]
    Batch,
    /// From each text itself: scores depend neither on the batch nor on the padding of the text.
    Row,
}

/// Where the mean over an image's regions is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GlobalPosition {
    /// Before the regions.
    First,
    /// After them.
    Last,
}

/// How the pooled streams become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FusionMethod {
    /// Their product.
    #[default]
    Mul,
    /// Their sum.
    Sum,
    /// The text's alone.
    Text,
    /// The text's alone, pooled where VL-BERT's question answering has its `[MASK]`: before the last `[SEP]`.
    #[serde(rename = "vl-bert_vqa")]
    VlBertVqa,
    /// Nothing is pooled (VL-BERT's pre-training).
    None,
}

/// The activation of feed-forward sublayers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// The exact (erf) form.
    #[default]
    Gelu,
    /// max(x, 0).
    Relu,
    /// x · sigmoid(x).
    Swish,
}

/// A model configuration; fields are VOLTA's keys, unknown keys are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ModelConfig {
    #[serde(default = "defaults::model")]
    pub model: String,
    pub vocab_size: i64,
    #[serde(default = "defaults::hidden")]
    pub hidden_size: i64,
    #[serde(default = "defaults::heads")]
    pub num_attention_heads: i64,
    #[serde(default = "defaults::intermediate")]
    pub intermediate_size: i64,
    #[serde(default)]
    pub hidden_act: Activation,
    #[serde(default = "defaults::dropout")]
    pub hidden_dropout_prob: f64,
    #[serde(default = "defaults::dropout")]
    pub attention_probs_dropout_prob: f64,
    #[serde(default = "defaults::positions")]
    pub max_position_embeddings: i64,
    #[serde(default = "defaults::types")]
    pub type_vocab_size: i64,
    #[serde(default = "defaults::initializer_range")]
    pub initializer_range: f64,
    #[serde(default = "defaults::layer_norm_eps")]
    pub layer_norm_eps: f64,
    #[serde(default = "defaults::features")]
    pub v_feature_size: i64,
    #[serde(default = "defaults::hidden")]
    pub v_hidden_size: i64,
    #[serde(default = "defaults::heads")]
    pub v_num_attention_heads: i64,
    #[serde(default = "defaults::intermediate")]
    pub v_intermediate_size: i64,
    #[serde(default)]
    pub v_hidden_act: Activation,
    #[serde(default = "defaults::dropout")]
    pub v_hidden_dropout_prob: f64,
    #[serde(default = "defaults::dropout")]
    pub v_attention_probs_dropout_prob: f64,
    #[serde(default = "defaults::locations")]
    pub num_locs: i64,
    #[serde(default)]
    pub add_global_imgfeat: Option<GlobalPosition>,
    pub image_embeddings: ImageEmbeddings,
    #[serde(default)]
    pub v_coordinate_embeddings_dim: Option<i64>,
    /// Ours, not VOLTA's: see [`TextEnd`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub vl_bert_text_end: TextEnd,
    #[serde(default = "defaults::image_head_ln")]
    pub image_head_ln: bool,
    #[serde(default = "defaults::visual_targets")]
    pub visual_target_weights: BTreeMap<String, f64>,
    #[serde(default = "defaults::hidden")]
    pub pooler_size: i64,
    #[serde(default)]
    pub v_pooler_size: Option<i64>,
    #[serde(default)]
    pub fusion_method: FusionMethod,
    #[serde(default = "defaults::classifier")]
    pub clf_hidden_size: i64,
    #[serde(default)]
    pub tt_attn_sublayers: BTreeSet<i64>,
    #[serde(default)]
    pub tv_attn_sublayers: BTreeSet<i64>,
    #[serde(default)]
    pub vt_attn_sublayers: BTreeSet<i64>,
    #[serde(default)]
    pub vv_attn_sublayers: BTreeSet<i64>,
    #[serde(default)]
    pub t_ff_sublayers: BTreeSet<i64>,
    #[serde(default)]
    pub v_ff_sublayers: BTreeSet<i64>,
    #[serde(default)]
    pub shared_sublayers: BTreeSet<i64>,
    #[serde(default)]
    pub single_ln_sublayers: BTreeSet<i64>,
    #[serde(default)]
    pub sublayer2attn_hidden_size: PerSublayer,
    #[serde(default)]
    pub sublayer2num_attention_heads: PerSublayer,
    #[serde(default)]
    pub sublayer2intermediate_size: PerSublayer,
    #[serde(default)]
    pub sublayer2v_attn_hidden_size: PerSublayer,
    #[serde(default)]
    pub sublayer2v_num_attention_heads: PerSublayer,
    #[serde(default)]
    pub sublayer2v_intermediate_size: PerSublayer,
    /// BERT layer → the sublayer whose attention takes over its weights.
    #[serde(default)]
    pub bert_layer2attn_sublayer: PerSublayer,
    /// BERT layer → the sublayer whose feed-forward takes over its weights.
    #[serde(default)]
    pub bert_layer2ff_sublayer: PerSublayer,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

mod defaults {
    use std::collections::BTreeMap;

    pub fn model() -> String {
        "bert".into()
    }
    pub fn layer_norm_eps() -> f64 {
        1e-12
    }
    pub fn image_head_ln() -> bool {
        true
    }
    pub fn visual_targets() -> BTreeMap<String, f64> {
        BTreeMap::from([("0".into(), 1.0)])
    }
    pub fn hidden() -> i64 {
        768
    }
    pub fn heads() -> i64 {
        12
    }
    pub fn intermediate() -> i64 {
        3072
    }
    pub fn dropout() -> f64 {
        0.1
    }
    pub fn positions() -> i64 {
        512
    }
    pub fn types() -> i64 {
        2
    }
    pub fn initializer_range() -> f64 {
        0.02
    }
    pub fn features() -> i64 {
        2048
    }
    pub fn locations() -> i64 {
        5
    }
    pub fn classifier() -> i64 {
        1536
    }
}

/// Sizes of one sublayer in one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionSize {
    /// Width of queries, keys and values.
    pub hidden: i64,
    /// Number of heads.
    pub heads: i64,
}

impl ModelConfig {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<ModelConfig, ConfigError> {
        let text = feature_store::text::read_text(path)
            .map_err(|source| ConfigError::Io { path: path.to_owned(), source })?;
        let config: ModelConfig = serde_json::from_str(&text)
            .map_err(|source| ConfigError::Json { path: path.to_owned(), source })?;
        config.check()?;
        Ok(config)
    }

    /// Number of sublayers.
    pub fn num_sublayers(&self) -> i64 {
        self.groups()
            .iter()
            .filter_map(|group| group.last())
            .max()
            .map_or(0, |last| last.saturating_add(1))
    }

    /// Whether a sublayer attends (the others are feed-forward).
    pub fn is_attention(&self, sublayer: i64) -> bool {
        self.groups()[..4].iter().any(|group| group.contains(&sublayer))
    }

    /// Text attention of a sublayer.
    pub fn text_attention(&self, sublayer: i64) -> AttentionSize {
        AttentionSize {
            hidden: or(&self.sublayer2attn_hidden_size, sublayer, self.hidden_size),
            heads: or(&self.sublayer2num_attention_heads, sublayer, self.num_attention_heads),
        }
    }

    /// Vision attention of a sublayer.
    pub fn vision_attention(&self, sublayer: i64) -> AttentionSize {
        AttentionSize {
            hidden: or(&self.sublayer2v_attn_hidden_size, sublayer, self.v_hidden_size),
            heads: or(&self.sublayer2v_num_attention_heads, sublayer, self.v_num_attention_heads),
        }
    }

    /// Intermediate sizes of a feed-forward sublayer: text, vision.
    pub fn intermediate(&self, sublayer: i64) -> (i64, i64) {
        (
            or(&self.sublayer2intermediate_size, sublayer, self.intermediate_size),
            or(&self.sublayer2v_intermediate_size, sublayer, self.v_intermediate_size),
        )
    }

    /// Layers between a parameter and the top, itself included: 0 for heads and poolers. A layer ends with a feed-forward
    /// sublayer.
    pub(crate) fn layers_above(&self, name: &str) -> i32 {
        let ends = |from: i64| {
            (from..self.num_sublayers()).filter(|&at| !self.is_attention(at)).count() as i32
        };
        let sublayer =
            name.strip_prefix("bert.encoder.layer.").and_then(|rest| rest.split('.').next());
        match sublayer.and_then(|number| number.parse().ok()) {
            Some(sublayer) => ends(sublayer).max(1),
            None if name.starts_with("bert.embeddings.")
                || name.starts_with("bert.v_embeddings.") =>
            {
                ends(0) + 1
            }
            None => 0,
        }
    }

    /// How the regions of an image are laid out for this model.
    pub fn batch_spec(&self, max_regions: usize) -> BatchSpec {
        let global_feature = match self.add_global_imgfeat {
            None => GlobalFeature::None,
            Some(GlobalPosition::First) => GlobalFeature::First,
            Some(GlobalPosition::Last) => GlobalFeature::Last,
        };
        // `check` has seen that it is 4, 5 or 7.
        BatchSpec { max_regions, num_locs: self.num_locs as usize, global_feature }
    }

    fn groups(&self) -> [&BTreeSet<i64>; 6] {
        [
            &self.tt_attn_sublayers,
            &self.tv_attn_sublayers,
            &self.vt_attn_sublayers,
            &self.vv_attn_sublayers,
            &self.t_ff_sublayers,
            &self.v_ff_sublayers,
        ]
    }

    /// How many position embeddings a text of so many tokens needs beside so many regions (the global one included).
    pub fn positions_needed(&self, tokens: i64, regions: i64) -> i64 {
        // VL-BERT's positions go on after the regions.
        if self.image_embeddings == ImageEmbeddings::VlBert {
            tokens + regions.max(2)
        } else {
            tokens
        }
    }
}

fn or(table: &PerSublayer, sublayer: i64, default: i64) -> i64 {
    table.get(&sublayer).copied().unwrap_or(default)
}
