//! Sizes of a CLIP, read off its weights.

use crate::network::{NetworkError, Shapes};

/// Size of an attention head, everywhere.
pub(crate) const HEAD: usize = 64;

/// Sizes of a CLIP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Architecture {
    /// Numbers of a feature.
    pub embed: usize,
    /// The image tower.
    pub image: ImageTower,
    /// The text tower.
    pub text: TextTower,
}

/// Either image tower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageTower {
    /// A transformer over patches.
    Vit(Vit),
    /// A changed ResNet.
    ResNet(ResNet),
}

/// A transformer over patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vit {
    /// Numbers per position.
    pub width: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Blocks.
    pub layers: usize,
    /// Patches along a side.
    pub grid: usize,
}

/// A changed ResNet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResNet {
    /// Channels after the stem.
    pub width: usize,
    /// Blocks per stage.
    pub blocks: [usize; 4],
    /// Side of the last map.
    pub grid: usize,
}

/// The text tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextTower {
    /// Numbers per position.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Most tokens.
    pub context: usize,
    /// Number of tokens known.
    pub vocabulary: usize,
}

impl ImageTower {
    /// Pixels of a side of the input.
    pub fn size(&self) -> usize {
        match self {
            ImageTower::Vit(vit) => vit.patch * vit.grid,
            ImageTower::ResNet(resnet) => 32 * resnet.grid,
        }
    }
}

impl Architecture {
    /// Sizes of a published model: `ViT-B/32`, `ViT-B/16`, `ViT-L/14` or `RN50`.
    pub fn published(name: &str) -> Option<Architecture> {
        let text = |width| TextTower { width, layers: 12, context: 77, vocabulary: 49408 };
        let base = |patch| Vit { width: 768, patch, layers: 12, grid: 224 / patch };
        let (embed, image, text) = match name {
            "ViT-B/32" => (512, ImageTower::Vit(base(32)), text(512)),
            "ViT-B/16" => (512, ImageTower::Vit(base(16)), text(512)),
            "ViT-L/14" => (
                768,
                ImageTower::Vit(Vit { width: 1024, patch: 14, layers: 24, grid: 16 }),
                text(768),
            ),
            "RN50" => (
                1024,
                ImageTower::ResNet(ResNet { width: 64, blocks: [3, 4, 6, 3], grid: 7 }),
                text(512),
            ),
            _ => return None,
        };
        Some(Architecture { embed, image, text })
    }

    /// Reads the sizes off the weights.
    ///
    /// # Errors
    /// [`NetworkError`] if they are not CLIP's.
    pub fn of(weights: &impl Shapes) -> Result<Architecture, NetworkError> {
        let [text_width, embed] = weights.sides("text_projection")?;
        let [context, _] = weights.sides("positional_embedding")?;
        let [vocabulary, _] = weights.sides("token_embedding.weight")?;
        let layers = weights.count("transformer.resblocks.", ".attn.in_proj_weight");
        let text = TextTower { width: text_width, layers, context, vocabulary };
        let image = image_tower(weights)?;
        let (width, image_layers) = match &image {
            ImageTower::Vit(vit) => (vit.width, vit.layers),
            ImageTower::ResNet(resnet) => {
                (resnet.width * 32, resnet.blocks.into_iter().min().unwrap_or(0))
            }
        };
        if !width.is_multiple_of(HEAD)
            || !text_width.is_multiple_of(HEAD)
            || width * text_width == 0
        {
            return Err(unknown(format!(
                "widths {width} and {text_width} are no multiples of {HEAD}"
            )));
        }
        if layers * image_layers == 0 {
            return Err(unknown("a tower has no layers".into()));
        }
        // A token's number and its position are told apart in one f32: see the text tower.
        if context > 128 || vocabulary > 1 << 17 {
            return Err(unknown(format!(
                "{vocabulary} tokens at {context} positions are more than 131072 at 128"
            )));
        }
        Ok(Architecture { embed, image, text })
    }
}

/// Tensors that only a transformer over patches has. Its projection is not among them: weights that lack it, or a tensor of
/// another name, are still told which tensor that is.
const VITS: [&str; 3] = [
    "visual.class_embedding",
    "visual.ln_pre.weight",
    "visual.transformer.resblocks.0.attn.in_proj_weight",
];
/// Tensors that only a ResNet has.
const RESNETS: [&str; 3] =
    ["visual.layer1.0.conv1.weight", "visual.attnpool.positional_embedding", "visual.bn1.weight"];

fn image_tower(weights: &impl Shapes) -> Result<ImageTower, NetworkError> {
    let count = |names: [&str; 3]| names.iter().filter(|name| weights.has(name)).count();
    match (count(VITS), count(RESNETS)) {
        (0, 0) => Err(unknown(
            "there is no image tower: neither `visual.transformer…` nor `visual.layer1…`".into(),
        )),
        (vits, resnets) if vits >= resnets => Ok(ImageTower::Vit(vit(weights)?)),
        _ => Ok(ImageTower::ResNet(resnet(weights)?)),
    }
}

fn vit(weights: &impl Shapes) -> Result<Vit, NetworkError> {
    let [width, _, patch, _] = weights.sides("visual.conv1.weight")?;
    let [positions, _] = weights.sides("visual.positional_embedding")?;
    let layers = weights.count("visual.transformer.resblocks.", ".attn.in_proj_weight");
    Ok(Vit { width, patch, layers, grid: grid(positions)? })
}

fn resnet(weights: &impl Shapes) -> Result<ResNet, NetworkError> {
    let [width, ..] = weights.sides::<4>("visual.layer1.0.conv1.weight")?;
    let blocks =
        [1, 2, 3, 4].map(|stage| weights.count(&format!("visual.layer{stage}."), ".conv1.weight"));
    let [positions, _] = weights.sides("visual.attnpool.positional_embedding")?;
    Ok(ResNet { width, blocks, grid: grid(positions)? })
}

/// The side of the square that all positions but one fill.
fn grid(positions: usize) -> Result<usize, NetworkError> {
    let patches = positions.saturating_sub(1);
    let side = patches.isqrt();
    if side * side == patches && side > 0 {
        return Ok(side);
    }
    Err(unknown(format!("{positions} positions are no square and one more")))
}

fn unknown(what: String) -> NetworkError {
    NetworkError::Unknown { network: "CLIP", what }
}
