//! CLIP's networks as ONNX graphs: either image tower, the text tower, or both with logits.
//!
//! Inputs: `image` f32 `[images, 3, n, n]` and `tokens` i64 `[texts, tokens]`, up to the context's length: what follows the
//! last end-of-text of the batch may be cut off, since no position sees a later one. Outputs: `image_features` and
//! `text_features`, `[.., embed]`, not normalised; with both towers also `logits_per_image` and `logits_per_text`.
//!
//! Only what is asked for is computed: of the last block only the position that is read. Where it changes no bit, constants
//! are folded: the attention's 1/√64 into the query's weights, the class embedding into the first position.

mod architecture;
mod blocks;
mod resnet;
mod text;
mod vit;

pub use architecture::{Architecture, ImageTower, ResNet, TextTower, Vit};

use onnx::passes::{HalfOptions, PassError};
use onnx::{GraphBuilder, Model, Value};

use crate::network::{NETWORK, NetworkError, Taps, Tensors, Weights, constant};

/// Under what key an exported model says which image tower its text tower goes with; see
/// [`image_tower_digest`](super::image_tower_digest).
pub const IMAGE_TOWER: &str = "image_tower";
/// Under which a model says how many tokens its text tower knows.
pub(super) const VOCABULARY: &str = "vocabulary";

/// Which towers a graph holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Towers {
    /// Images to features.
    Image,
    /// Texts to features.
    Text,
    /// Both, and how well each image fits each text.
    #[default]
    Both,
}

/// What a graph gives.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Which towers.
    pub towers: Towers,
    /// More outputs: `image_features_normed`, `text_features_normed`, `eot_index`; for comparisons also those inside
    /// (`visual.ln_pre`, `visual.layer1`, `text.block0`, …).
    pub outputs: &'a [&'a str],
}

/// The graph of CLIP's weights; all sizes follow from them.
///
/// # Errors
/// [`NetworkError`] for weights that are missing, of another shape, or not CLIP's, and for outputs that are not there.
pub fn build(weights: &Weights, options: Options) -> Result<Model, NetworkError> {
    let architecture = Architecture::of(weights)?;
    let weights = Tensors(weights);
    let mut graph = GraphBuilder::new("clip");
    let mut taps = Taps::new(options.outputs);
    let parts =
        &mut Parts { graph: &mut graph, weights, taps: &mut taps, embed: architecture.embed };
    let image =
        (options.towers != Towers::Text).then(|| parts.image(&architecture.image)).transpose()?;
    let text =
        (options.towers != Towers::Image).then(|| parts.text(architecture.text)).transpose()?;
    if let (Some(image), Some(text)) = (image, text) {
        parts.logits(image, text)?;
    }
    taps.finish()?;
    graph.metadata(NETWORK, "clip");
    graph.metadata("embed", architecture.embed.to_string());
    graph.metadata("image_size", architecture.image.size().to_string());
    graph.metadata("context", architecture.text.context.to_string());
    graph.metadata(VOCABULARY, architecture.text.vocabulary.to_string());
    Ok(graph.finish()?)
}

/// The graph in half precision; what finds the end of a text stays in f32, since the numbers there are beyond f16's range.
///
/// # Errors
/// [`PassError`] for a model that was not made by [`build`], and for weights beyond f16's range.
pub fn half(model: &Model) -> Result<Model, PassError> {
    onnx::passes::half(model, HalfOptions { kept: &["end_of_text/"] })
}

/// A graph in the making.
struct Parts<'g, 'w, 'o> {
    graph: &'g mut GraphBuilder,
    weights: Tensors<'w>,
    taps: &'g mut Taps<'o>,
    embed: usize,
}

impl Parts<'_, '_, '_> {
    /// Images to features; gives them normalised.
    fn image(&mut self, tower: &ImageTower) -> Result<Value, NetworkError> {
        let size = tower.size();
        let image = self.graph.input(
            "image",
            onnx::Dtype::F32,
            &["images".into(), 3.into(), size.into(), size.into()],
        )?;
        let features = match tower {
            ImageTower::Vit(vit) => self.vit(*vit, image)?,
            ImageTower::ResNet(resnet) => self.resnet(resnet, image)?,
        };
        self.graph.output("image_features", features)?;
        let normed = self.normed("image_features_normed", features)?;
        Ok(normed)
    }

    /// Texts to features; gives them normalised.
    fn text(&mut self, tower: TextTower) -> Result<Value, NetworkError> {
        let tokens =
            self.graph.input("tokens", onnx::Dtype::I64, &["texts".into(), "tokens".into()])?;
        let features = self.text_tower(tower, tokens)?;
        self.graph.output("text_features", features)?;
        self.normed("text_features_normed", features)
    }

    /// Each feature divided by its length.
    fn normed(&mut self, name: &str, features: Value) -> Result<Value, NetworkError> {
        let normed = self.graph.scope(name, |graph| {
            let length = graph.reduce_l2(features, &[-1], true)?;
            graph.div(features, length)
        })?;
        self.tap(name, normed)?;
        Ok(normed)
    }

    /// exp(logit_scale) × cosine: `[images, texts]` and its transpose.
    fn logits(&mut self, image: Value, text: Value) -> Result<(), NetworkError> {
        let scale = self.weights.numbers("logit_scale", &[])?[0].exp();
        let scale = constant(self.graph, "exp(logit_scale)", &[], vec![scale])?;
        let (per_image, per_text) = self.graph.scope("logits", |graph| {
            let scaled = graph.mul(image, scale)?;
            let columns = graph.transpose(text, &[1, 0])?;
            let per_image = graph.matmul(scaled, columns)?;
            Ok::<_, NetworkError>((per_image, graph.transpose(per_image, &[1, 0])?))
        })?;
        self.graph.output("logits_per_image", per_image)?;
        self.graph.output("logits_per_text", per_text)?;
        Ok(())
    }

    fn tap(&mut self, name: &str, value: Value) -> Result<(), NetworkError> {
        self.taps.tap(self.graph, name, value)
    }
}
