//! The detector's network as ONNX graphs, of standard operators that all have CUDA kernels unless asked otherwise.
//!
//! | part | inputs | outputs |
//! |---|---|---|
//! | [`Part::Whole`] | `image` | `proposals` and those of the heads |
//! | [`Part::Given`] | `image`, `boxes` | those of the heads |
//! | [`Part::Backbone`] | `image` | `map`, `objectness`, `deltas` |
//! | [`Part::Heads`] | `map`, `boxes` | those of the heads |
//!
//! `image` is f32 `[1, 3, height, width]`, blue, green, red, less the pixel means; boxes are x1, y1, x2, y2 in its pixels,
//! clipped to it. The heads give, for each of the n boxes: `features` `[n, 2048]`, `class_logits` `[n, 1601]` (background
//! last), `box_deltas` `[n, 6400]`, and, where the weights have them, `attribute_logits` `[n, 401]` ("none" last).
//!
//! The whole in one graph is one file and one run: nothing has to come back from the device in between. Batch
//! normalisation is folded into the convolutions.

mod backbone;
mod heads;
mod pooling;
mod proposals;

pub use pooling::{Pooling, pooling_graph};

use onnx::passes::{HalfOptions, PassError};
use onnx::{Dim, Dtype, GraphBuilder, Model, Value};

use crate::network::{NETWORK, NetworkError, Taps, Tensors, Weights};

/// What a graph holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    /// From the image to the heads' numbers, with the network's own proposals.
    #[default]
    Whole,
    /// From the image and boxes to the heads' numbers.
    Given,
    /// From the image to the feature map and what proposals are made of.
    Backbone,
    /// From the feature map and boxes to the heads' numbers.
    Heads,
}

/// Sizes that do not follow from the weights.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    /// What the graph holds.
    pub part: Part,
    /// Anchors of a cell around the origin: x1, y1, x2, y2.
    pub anchors: &'a [[f32; 4]],
    /// Boxes before the suppression of overlapping ones.
    pub before: usize,
    /// Boxes after it, at most.
    pub after: usize,
    /// Boxes that overlap a better one by more than this are dropped.
    pub overlap: f32,
    /// Longest side of an image; larger ones give wrong numbers.
    pub longest: usize,
    /// How regions are pooled.
    pub pooling: Pooling,
    /// More outputs, for comparisons: `res4`, `rpn.topk_scores`, `roi.pooled`, ….
    pub outputs: &'a [&'a str],
}

impl<'a> Options<'a> {
    /// VOLTA's settings, with these anchors.
    pub fn new(anchors: &'a [[f32; 4]]) -> Options<'a> {
        Options {
            part: Part::Whole,
            anchors,
            before: 6000,
            after: 300,
            overlap: 0.7,
            longest: 1333,
            pooling: Pooling::Gathers,
            outputs: &[],
        }
    }
}

/// Pixels per cell of the feature map.
const STRIDE: f32 = 16.0;

/// The graph of a detector's weights.
///
/// # Errors
/// [`NetworkError`] for weights that are missing or of another shape, and for outputs that are not there.
pub fn build(weights: &Weights, options: &Options) -> Result<Model, NetworkError> {
    let mut graph = GraphBuilder::new("detector");
    let mut taps = Taps::new(options.outputs);
    let parts =
        &mut Parts { graph: &mut graph, weights: Tensors(weights), taps: &mut taps, options };
    match options.part {
        Part::Whole => parts.whole()?,
        Part::Given => parts.given()?,
        Part::Backbone => parts.backbone_alone()?,
        Part::Heads => parts.heads_alone()?,
    }
    taps.finish()?;
    graph.metadata(NETWORK, "detector");
    graph.metadata("longest", options.longest.to_string());
    Ok(graph.finish()?)
}

/// The graph in half precision; what decides about boxes stays in f32, since their corners need more than f16's 11 bits.
///
/// # Errors
/// [`PassError`] for a model that was not made by [`build`], and for weights beyond f16's range.
pub fn half(model: &Model) -> Result<Model, PassError> {
    const KEPT: [&str; 5] =
        ["proposals/", "regions/corners", "regions/size", "regions/rows", "regions/columns"];
    onnx::passes::half(model, HalfOptions { kept: &KEPT })
}

/// A graph in the making.
struct Parts<'g, 'w, 'o> {
    graph: &'g mut GraphBuilder,
    weights: Tensors<'w>,
    taps: &'g mut Taps<'o>,
    options: &'o Options<'o>,
}

impl Parts<'_, '_, '_> {
    fn whole(&mut self) -> Result<(), NetworkError> {
        let image = self.image()?;
        let map = self.backbone(image)?;
        let (objectness, deltas) = self.proposal_head(map)?;
        let boxes = self.proposals(image, objectness, deltas)?;
        self.graph.output("proposals", boxes)?;
        self.heads(map, boxes)
    }

    fn given(&mut self) -> Result<(), NetworkError> {
        let image = self.image()?;
        let boxes = self.boxes()?;
        let map = self.backbone(image)?;
        self.heads(map, boxes)
    }

    fn backbone_alone(&mut self) -> Result<(), NetworkError> {
        let image = self.image()?;
        let map = self.backbone(image)?;
        let (objectness, deltas) = self.proposal_head(map)?;
        for (name, value) in [("map", map), ("objectness", objectness), ("deltas", deltas)] {
            self.graph.output(name, value)?;
        }
        Ok(())
    }

    fn heads_alone(&mut self) -> Result<(), NetworkError> {
        let [_, channels, ..] = self.weights.sides::<4>("roi_heads.res5.0.conv1.weight")?;
        let sides: [Dim; 4] = [1.into(), channels.into(), "map_height".into(), "map_width".into()];
        let map = self.graph.input("map", Dtype::F32, &sides)?;
        let boxes = self.boxes()?;
        self.heads(map, boxes)
    }

    fn image(&mut self) -> Result<Value, NetworkError> {
        let sides: [Dim; 4] = [1.into(), 3.into(), "height".into(), "width".into()];
        Ok(self.graph.input("image", Dtype::F32, &sides)?)
    }

    fn boxes(&mut self) -> Result<Value, NetworkError> {
        Ok(self.graph.input("boxes", Dtype::F32, &["boxes".into(), 4.into()])?)
    }

    fn tap(&mut self, name: &str, value: Value) -> Result<(), NetworkError> {
        self.taps.tap(self.graph, name, value)
    }
}
