//! VOLTA's JSON model configuration, read unchanged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use feature_store::{BatchSpec, GlobalFeature};
use serde::{Deserialize, Serialize};

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

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not JSON, a key of the wrong type, or an unknown choice (which is named, with those that are known).
    #[error("{path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// Sublayers that make no encoder.
    #[error("sublayer {sublayer}: {what}")]
    Sublayer {
        /// Its index.
        sublayer: i64,
        /// What is wrong.
        what: String,
    },
    /// A choice of VOLTA's that is not supported, or not here.
    #[error("`{key}` is {value}: {what}")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is supported instead.
        what: &'static str,
    },
    /// A size that cannot be.
    #[error("`{key}` is {value}: {what}")]
    Size {
        /// The key.
        key: &'static str,
        /// Its value.
        value: i64,
        /// What is wrong.
        what: &'static str,
    },
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
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Io { path: path.to_owned(), source })?;
        let config: ModelConfig = serde_json::from_str(&text)
            .map_err(|source| ConfigError::Json { path: path.to_owned(), source })?;
        config.check()?;
        Ok(config)
    }

    /// Number of sublayers.
    pub fn num_sublayers(&self) -> i64 {
        self.groups().iter().filter_map(|group| group.last()).max().map_or(0, |last| last + 1)
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

    /// Checks what the types cannot: that the sublayers make an encoder and the sizes fit each other.
    ///
    /// # Errors
    /// [`ConfigError::Sublayer`], [`ConfigError::Size`].
    pub fn check(&self) -> Result<(), ConfigError> {
        for (key, value) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("v_hidden_size", self.v_hidden_size),
            ("v_feature_size", self.v_feature_size),
            ("pooler_size", self.pooler_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("intermediate_size", self.intermediate_size),
            ("v_intermediate_size", self.v_intermediate_size),
        ] {
            if !(1..=1 << 24).contains(&value) {
                return Err(ConfigError::Size { key, value, what: "1 to 16777216 are possible" });
            }
        }
        self.check_embeddings()?;
        if ![4, 5, 7].contains(&self.num_locs) {
            return Err(ConfigError::Size {
                key: "num_locs",
                value: self.num_locs,
                what: "4, 5 or 7 are possible",
            });
        }
        if let Some(value) = self.v_pooler_size.filter(|&size| size != self.pooler_size) {
            return Err(ConfigError::Size {
                key: "v_pooler_size",
                value,
                what: "it must equal `pooler_size`",
            });
        }
        if self.num_sublayers() == 0 {
            return Err(ConfigError::Sublayer { sublayer: 0, what: "there is none at all".into() });
        }
        (0..self.num_sublayers()).try_for_each(|sublayer| {
            self.check_sublayer(sublayer).map_err(|what| ConfigError::Sublayer { sublayer, what })
        })
    }

    /// What the embeddings need of the sizes, and that they are those of BERT.
    fn check_embeddings(&self) -> Result<(), ConfigError> {
        if self.model != "bert" || self.layer_norm_eps != defaults::layer_norm_eps() {
            let (key, value) = match self.model.as_str() {
                "bert" => ("layer_norm_eps", self.layer_norm_eps.to_string()),
                _ => ("model", format!("{:?}", self.model)),
            };
            let what = "only text embeddings of BERT's kind (`bert`, 1e-12) are supported";
            return Err(ConfigError::Unsupported { key, value, what });
        }
        let single_stream = self.image_embeddings.single_stream();
        if single_stream && self.hidden_size != self.v_hidden_size {
            return Err(ConfigError::Size {
                key: "v_hidden_size",
                value: self.v_hidden_size,
                what: "it must equal `hidden_size`, as words and regions are embedded together",
            });
        }
        // Regions have type 1, or 2 where texts have two segments.
        let types = match self.image_embeddings {
            ImageEmbeddings::VlBert => 3,
            _ if single_stream => 2,
            _ => 1,
        };
        if self.type_vocab_size < types {
            return Err(ConfigError::Size {
                key: "type_vocab_size",
                value: self.type_vocab_size,
                what: "regions need a type of their own: 2, for VL-BERT 3",
            });
        }
        let dim = self.v_coordinate_embeddings_dim.unwrap_or(0);
        if self.image_embeddings == ImageEmbeddings::VlBert
            && dim.checked_mul(8) != Some(self.v_feature_size)
        {
            return Err(ConfigError::Size {
                key: "v_coordinate_embeddings_dim",
                value: dim,
                what: "VL-BERT needs an eighth of `v_feature_size`",
            });
        }
        Ok(())
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

    fn check_sublayer(&self, sublayer: i64) -> Result<(), String> {
        let [tt, tv, vt, vv, t_ff, v_ff] = self.groups().map(|group| group.contains(&sublayer));
        if self.groups().iter().any(|group| group.first().is_some_and(|&first| first < 0)) {
            return Err("indices begin at 0".into());
        }
        let attends = tt || tv || vt || vv;
        if attends == (t_ff || v_ff) {
            let what = if attends {
                "it is attention and feed-forward at once"
            } else {
                "no list mentions it"
            };
            return Err(what.into());
        }
        let (text, vision) = (self.text_attention(sublayer), self.vision_attention(sublayer));
        for (used, size) in [(tt || tv, text), (vt || vv, vision)] {
            if used && (size.heads < 1 || size.hidden < 1 || size.hidden % size.heads != 0) {
                return Err(format!(
                    "{} heads do not divide a width of {}",
                    size.heads, size.hidden
                ));
            }
        }
        if (tv || vt) && text != vision {
            return Err(format!(
                "text and vision attend to each other with {text:?} and {vision:?}"
            ));
        }
        if (tv && !(vt || vv)) || (vt && !(tt || tv)) {
            return Err("a stream without own projections is attended to".into());
        }
        let shared = self.shared_sublayers.contains(&sublayer)
            || self.single_ln_sublayers.contains(&sublayer);
        if shared && self.hidden_size != self.v_hidden_size {
            return Err(format!(
                "shared between widths {} and {}",
                self.hidden_size, self.v_hidden_size
            ));
        }
        Ok(())
    }
}

fn or(table: &PerSublayer, sublayer: i64, default: i64) -> i64 {
    table.get(&sublayer).copied().unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(change: impl FnOnce(&mut serde_json::Value)) -> Result<ModelConfig, String> {
        let mut json = serde_json::json!({
            "vocab_size": 30, "hidden_size": 16, "v_hidden_size": 16, "num_attention_heads": 2,
            "v_num_attention_heads": 2, "image_embeddings": "vilbert", "pooler_size": 8,
            "tt_attn_sublayers": [0], "vv_attn_sublayers": [0], "t_ff_sublayers": [1], "v_ff_sublayers": [1],
            "a_key_of_tomorrow": true
        });
        change(&mut json);
        let config: ModelConfig =
            serde_json::from_value(json).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn a_sound_configuration_is_accepted() {
        assert_eq!(parse(|_| ()).unwrap().num_sublayers(), 2);
    }

    #[test]
    fn faults_are_named() {
        let gap = parse(|json| json["t_ff_sublayers"] = serde_json::json!([1, 4])).unwrap_err();
        assert!(gap.contains("sublayer 2: no list mentions it"), "{gap}");
        let both = parse(|json| json["tt_attn_sublayers"] = serde_json::json!([0, 1])).unwrap_err();
        assert!(both.contains("sublayer 1: it is attention and feed-forward"), "{both}");
        let heads = parse(|json| json["num_attention_heads"] = 3.into()).unwrap_err();
        assert!(heads.contains("3 heads do not divide a width of 16"), "{heads}");
        let kind = parse(|json| json["image_embeddings"] = "m3p".into()).unwrap_err();
        assert!(kind.contains("`m3p`") && kind.contains("`vl-bert`"), "{kind}");
        let roberta = parse(|json| json["model"] = "roberta".into()).unwrap_err();
        assert!(roberta.contains("`model` is \"roberta\""), "{roberta}");
    }

    #[test]
    fn embeddings_state_what_they_need_of_the_sizes() {
        let widths = parse(|json| {
            json["image_embeddings"] = "visualbert".into();
            json["v_hidden_size"] = 32.into();
        });
        assert!(widths.unwrap_err().contains("`v_hidden_size` is 32: it must equal `hidden_size`"));
        let types = parse(|json| json["image_embeddings"] = "vl-bert".into()).unwrap_err();
        assert!(types.contains("`type_vocab_size` is 2"), "{types}");
        let dim = parse(|json| {
            json["image_embeddings"] = "vl-bert".into();
            json["type_vocab_size"] = 3.into();
            json["v_coordinate_embeddings_dim"] = 255.into();
        });
        assert!(dim.unwrap_err().contains("an eighth of `v_feature_size`"));
    }

    #[test]
    fn every_shipped_configuration_is_accepted() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/models");
        let files: Vec<PathBuf> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() >= 9);
        for file in files {
            let config = ModelConfig::load(&file).unwrap();
            assert!(config.num_sublayers() >= 24, "{file:?}");
        }
    }
}
