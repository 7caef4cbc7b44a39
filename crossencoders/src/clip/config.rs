//! CLIP's sizes as JSON, in the layout of open_clip's model configurations.

use std::path::Path;

use serde::{Deserialize, Serialize};
use vision::clip::graph::{self, ResNet, Vit};
use vision::clip::{Architecture, graph::ImageTower};

use crate::config::ConfigError;

/// Values of an attention head, everywhere.
pub(super) const HEAD: i64 = 64;

/// Sizes of a CLIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipConfig {
    /// Values of an embedding.
    pub embed_dim: i64,
    /// Must be true: OpenAI's x · sigmoid(1.702 x). open_clip's own models have another one.
    pub quick_gelu: bool,
    /// The image tower.
    pub vision_cfg: VisionConfig,
    /// The text tower.
    pub text_cfg: TextConfig,
}

/// Sizes of the image tower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisionConfig {
    /// Pixels of a picture's side.
    pub image_size: i64,
    /// Blocks: one number for a transformer, four for the stages of a ResNet.
    pub layers: Layers,
    /// Values per position of a transformer; channels after a ResNet's stem.
    pub width: i64,
    /// Pixels of a patch's side; none for a ResNet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch_size: Option<i64>,
}

/// Blocks of an image tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Layers {
    /// Of a transformer.
    Transformer(i64),
    /// Of a ResNet's stages.
    ResNet([i64; 4]),
}

/// Sizes of the text tower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Most tokens of a text.
    pub context_length: i64,
    /// Number of known tokens.
    pub vocab_size: i64,
    /// Values per position.
    pub width: i64,
    /// Attention heads: `width` / 64.
    pub heads: i64,
    /// Blocks.
    pub layers: i64,
}

impl ClipConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`ConfigError`]: also for sizes that make no CLIP.
    pub fn load(path: &Path) -> Result<ClipConfig, ConfigError> {
        let text = feature_store::text::read_text(path)
            .map_err(|source| ConfigError::Io { path: path.to_owned(), source })?;
        ClipConfig::parse(&text, path)
    }

    /// The same from a file's contents; errors call it `path`.
    ///
    /// # Errors
    /// As [`load`](ClipConfig::load).
    pub fn parse(text: &str, path: &Path) -> Result<ClipConfig, ConfigError> {
        let config: ClipConfig = serde_json::from_str(text)
            .map_err(|source| ConfigError::Json { path: path.to_owned(), source })?;
        config.check()?;
        Ok(config)
    }

    /// Whether JSON is a CLIP's configuration rather than VOLTA's.
    pub(crate) fn is_one(json: &serde_json::Value) -> bool {
        json.get("vision_cfg").is_some()
    }

    fn check(&self) -> Result<(), ConfigError> {
        let ClipConfig { embed_dim, quick_gelu, vision_cfg: vision, text_cfg: text } = self;
        let size = |key, value, what| Err(ConfigError::Size { key, value, what });
        if !quick_gelu {
            let (key, value) = ("quick_gelu", "false".to_owned());
            let what = "only OpenAI's activation is there; set true for OpenAI's weights";
            return Err(ConfigError::Unsupported { key, value, what });
        }
        for (key, value) in [
            ("embed_dim", *embed_dim),
            ("text_cfg.context_length", text.context_length),
            ("text_cfg.vocab_size", text.vocab_size),
            ("text_cfg.layers", text.layers),
        ] {
            if !(1..=1 << 20).contains(&value) {
                return size(key, value, "it is between 1 and a million");
            }
        }
        if text.width < HEAD || text.width % HEAD != 0 || text.heads != text.width / HEAD {
            return size(
                "text_cfg.heads",
                text.heads,
                "heads have 64 values each: it is width / 64",
            );
        }
        match (vision.layers, vision.patch_size) {
            (Layers::Transformer(layers), Some(patch)) => {
                if !(1..=1000).contains(&layers) {
                    return size("vision_cfg.layers", layers, "it is between 1 and 1000");
                }
                if vision.width < HEAD || vision.width % HEAD != 0 {
                    return size("vision_cfg.width", vision.width, "heads of 64 do not divide it");
                }
                if patch < 1 || vision.image_size < patch || vision.image_size % patch != 0 {
                    return size("vision_cfg.patch_size", patch, "it does not divide image_size");
                }
            }
            (Layers::ResNet(blocks), None) => {
                if let Some(&count) = blocks.iter().find(|count| !(1..=1000).contains(*count)) {
                    return size("vision_cfg.layers", count, "each stage has 1 to 1000 blocks");
                }
                if vision.width < 2 || vision.width % 2 != 0 {
                    return size("vision_cfg.width", vision.width, "it is even");
                }
                if vision.image_size < 32 || vision.image_size % 32 != 0 {
                    return size("vision_cfg.image_size", vision.image_size, "32 divides it");
                }
            }
            (_, patch) => {
                let what = "one number of `layers` goes with a patch size, four without";
                return size("vision_cfg.patch_size", patch.unwrap_or_default(), what);
            }
        }
        Ok(())
    }

    /// Of a model whose sizes the crate `vision` has read off its weights.
    pub fn of(architecture: &Architecture) -> ClipConfig {
        let size = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let Architecture { embed, image, text } = architecture;
        let image_size = size(image.size());
        let vision_cfg = match image {
            ImageTower::Vit(Vit { width, patch, layers, .. }) => VisionConfig {
                image_size,
                layers: Layers::Transformer(size(*layers)),
                width: size(*width),
                patch_size: Some(size(*patch)),
            },
            ImageTower::ResNet(ResNet { width, blocks, .. }) => VisionConfig {
                image_size,
                layers: Layers::ResNet(blocks.map(size)),
                width: size(*width),
                patch_size: None,
            },
        };
        let text_cfg = TextConfig {
            context_length: size(text.context),
            vocab_size: size(text.vocabulary),
            width: size(text.width),
            heads: size(text.width) / HEAD,
            layers: size(text.layers),
        };
        ClipConfig { embed_dim: size(*embed), quick_gelu: true, vision_cfg, text_cfg }
    }

    /// The same as the crate `vision` has it.
    pub fn architecture(&self) -> Architecture {
        let size = |value: i64| usize::try_from(value).unwrap_or_default();
        let ClipConfig { embed_dim, vision_cfg: vision, text_cfg: text, .. } = self;
        let (width, side) = (size(vision.width), size(vision.image_size));
        let image = match vision.layers {
            Layers::Transformer(layers) => {
                let patch = size(vision.patch_size.unwrap_or(1)).max(1);
                ImageTower::Vit(Vit { width, patch, layers: size(layers), grid: side / patch })
            }
            Layers::ResNet(blocks) => {
                ImageTower::ResNet(ResNet { width, blocks: blocks.map(size), grid: side / 32 })
            }
        };
        let text = graph::TextTower {
            width: size(text.width),
            layers: size(text.layers),
            context: size(text.context_length),
            vocabulary: size(text.vocab_size),
        };
        Architecture { embed: size(*embed_dim), image, text }
    }

    /// Layers between a parameter and the top, itself included: 0 for heads and projections. In a transformer a block is a
    /// layer, in a ResNet a stage.
    pub(crate) fn layers_above(&self, name: &str) -> i32 {
        let Some(name) = name.strip_prefix("clip.") else { return 0 };
        let after = |prefix: &str, layers: i64| {
            let number = name.strip_prefix(prefix)?.split('.').next()?.parse::<i64>().ok()?;
            Some((layers - number).max(1) as i32)
        };
        let text = self.text_cfg.layers;
        let (image, in_image) = match self.vision_cfg.layers {
            Layers::Transformer(layers) => (layers, after("visual.transformer.resblocks.", layers)),
            Layers::ResNet(blocks) => {
                let stages = blocks.len() as i64;
                (stages, after("visual.layer", stages + 1))
            }
        };
        let below = [
            ("token_embedding", text),
            ("positional_embedding", text),
            ("visual.conv", image),
            ("visual.bn", image),
            ("visual.ln_pre", image),
            ("visual.class_embedding", image),
            ("visual.positional_embedding", image),
        ];
        in_image.or_else(|| after("transformer.resblocks.", text)).unwrap_or_else(|| {
            let lowest = below.iter().find(|(prefix, _)| name.starts_with(prefix));
            lowest.map_or(0, |(_, layers)| *layers as i32 + 1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIT: &str = r#"{"embed_dim": 512, "quick_gelu": true,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}}"#;

    fn parse(text: &str) -> Result<ClipConfig, String> {
        ClipConfig::parse(text, Path::new("clip.json")).map_err(|error| error.to_string())
    }

    #[test]
    fn shipped_configurations_are_the_published_models() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/models");
        for (file, name) in [
            ("clip_vit_b_32.json", "ViT-B/32"),
            ("clip_vit_b_16.json", "ViT-B/16"),
            ("clip_vit_l_14.json", "ViT-L/14"),
            ("clip_rn50.json", "RN50"),
        ] {
            let config = ClipConfig::load(&folder.join(file)).unwrap();
            assert_eq!(Some(config.architecture()), Architecture::published(name), "{file}");
        }
    }

    #[test]
    fn sizes_that_make_no_clip_are_named() {
        assert!(parse(VIT).is_ok());
        for (from, to, said) in [
            ("true", "false", "quick_gelu"),
            ("\"heads\": 8", "\"heads\": 4", "text_cfg.heads"),
            ("\"width\": 768", "\"width\": 700", "vision_cfg.width"),
            (": 16}", ": 15}", "patch_size"),
            ("\"layers\": 12, \"width\": 768", "\"layers\": [3, 4, 6, 3], \"width\": 768", "four"),
            ("\"embed_dim\": 512", "\"embed_dim\": 0", "embed_dim"),
            ("\"embed_dim\"", "\"embedding\"", "clip.json"),
        ] {
            let error = parse(&VIT.replace(from, to)).unwrap_err();
            assert!(error.contains(said), "{to}: {error}");
        }
    }

    #[test]
    fn lower_layers_have_more_above_them() {
        let config = parse(VIT).unwrap();
        for (name, above) in [
            ("prediction_layer.weight", 0),
            ("clip.visual.proj", 0),
            ("clip.visual.transformer.resblocks.11.ln_1.weight", 1),
            ("clip.transformer.resblocks.0.ln_1.weight", 12),
            ("clip.token_embedding.weight", 13),
            ("clip.visual.conv1.weight", 13),
        ] {
            assert_eq!(config.layers_above(name), above, "{name}");
        }
    }
}
