//! What a configuration must keep to, so that it makes a model.

use std::path::PathBuf;

use super::{ImageEmbeddings, ModelConfig, defaults};

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

impl ModelConfig {
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

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use crate::config::*;

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
            match Config::load(&file).unwrap() {
                Config::CrossEncoder(config) => assert!(config.num_sublayers() >= 24, "{file:?}"),
                Config::Clip(config) => assert!(config.architecture().image.size() >= 224),
            }
        }
    }
}
