//! From the feature map to the boxes worth looking at.

use onnx::{BuildError, ConvOptions, Dtype, GraphBuilder, TensorData, Value};

use super::{Parts, STRIDE};
use crate::network::{NetworkError, constant};

/// ln(1000/16): no box grows by more than this factor.
const MOST_GROWTH: f32 = 4.135_166_6;
/// Scores of boxes that do not count; those that count are above [`FLOOR`].
const NO_SCORE: f32 = f32::MIN;
const FLOOR: f32 = -3e38;

/// Corners or sides of boxes, one value for each coordinate.
type Corners = [Value; 4];

impl Parts<'_, '_, '_> {
    /// How likely each anchor holds something, `[1, anchors, h, w]`, and how it should move, `[1, 4·anchors, h, w]`.
    pub(super) fn proposal_head(&mut self, map: Value) -> Result<(Value, Value), NetworkError> {
        const HEAD: &str = "proposal_generator.rpn_head";
        let anchors = self.options.anchors.len();
        let [hidden, channels, ..] = self.weights.sides::<4>(&format!("{HEAD}.conv.weight"))?;
        let padded = ConvOptions { padding: 1, ..ConvOptions::default() };
        let x = self.biased_conv(&format!("{HEAD}.conv"), [hidden, channels, 3, 3], map, padded)?;
        let x = self.graph.scope(&format!("{HEAD}.conv"), |graph| graph.relu(x))?;
        self.tap("rpn.hidden", x)?;
        let plain = ConvOptions::default();
        let objectness = self.biased_conv(
            &format!("{HEAD}.objectness_logits"),
            [anchors, hidden, 1, 1],
            x,
            plain,
        )?;
        self.tap("rpn.objectness_logits", objectness)?;
        let deltas = self.biased_conv(
            &format!("{HEAD}.anchor_deltas"),
            [4 * anchors, hidden, 1, 1],
            x,
            plain,
        )?;
        self.tap("rpn.anchor_deltas", deltas)?;
        Ok((objectness, deltas))
    }

    /// The best boxes, of which none overlaps a better one: `[n, 4]`, best first.
    pub(super) fn proposals(
        &mut self,
        image: Value,
        objectness: Value,
        deltas: Value,
    ) -> Result<Value, NetworkError> {
        let count = self.options.anchors.len() as i64;
        let (boxes, scores) = self.graph.scope("proposals", |graph| {
            let cells = graph.reshape(objectness, &[count, -1])?;
            let cells = graph.transpose(cells, &[1, 0])?; // [h·w, anchors]
            Ok::<_, BuildError>((
                graph.reshape(deltas, &[count, 4, -1])?,
                graph.reshape(cells, &[-1])?,
            ))
        })?;
        self.tap("rpn.scores_flat", scores)?;
        let anchors = self.anchors(objectness)?;
        let boxes = self.graph.scope("proposals", |graph| {
            let cells = graph.transpose(boxes, &[2, 0, 1])?; // [h·w, anchors, 4]
            decode(graph, anchors, cells)
        })?;
        self.tap("rpn.decoded_boxes", boxes)?;
        let (boxes, scores) = self.best(image, boxes, scores)?;
        self.suppress(boxes, scores)
    }

    /// Corners of all anchors, in the order row, column, anchor: each `[h·w, anchors]`.
    fn anchors(&mut self, objectness: Value) -> Result<Corners, NetworkError> {
        let cells = self.options.anchors;
        let corner = |axis: usize| cells.iter().map(|cell| cell[axis]).collect::<Vec<_>>();
        let graph = &mut *self.graph;
        let corners = graph.scope("proposals/anchors", |graph| {
            // Columns and rows are counted on the map: its shape would be computed on the CPU.
            let ones = ones(graph, objectness)?;
            let x = grid(graph, ones, 3)?;
            let y = grid(graph, ones, 2)?;
            let mut corners = Vec::new();
            for (axis, position) in [x, y, x, y].into_iter().enumerate() {
                let cell =
                    constant(graph, &format!("anchors/{axis}"), &[cells.len()], corner(axis))?;
                corners.push(graph.add(position, cell)?);
            }
            Ok::<_, NetworkError>([corners[0], corners[1], corners[2], corners[3]])
        })?;
        if self.taps.wants("rpn.anchors") {
            let all = self.graph.scope("proposals/anchors", |graph| stack(graph, corners))?;
            self.tap("rpn.anchors", all)?;
        }
        Ok(corners)
    }

    /// The boxes of the highest scores, clipped to the image; those without area get a score that does not count.
    fn best(
        &mut self,
        image: Value,
        boxes: Value,
        scores: Value,
    ) -> Result<(Value, Value), NetworkError> {
        let before = self.options.before;
        let (scores, index, boxes) = self.graph.scope("proposals/best", |graph| {
            // There may be fewer: empty boxes of no score fill up.
            let none = graph.constant("proposals/no_scores", filled(&[before], NO_SCORE)?)?;
            let nothing = graph.constant("proposals/no_boxes", filled(&[before, 4], 0.0)?)?;
            let scores = graph.concat(&[scores, none], 0)?;
            let boxes = graph.concat(&[boxes, nothing], 0)?;
            let (scores, index) = graph.top_k(scores, before)?;
            let boxes = graph.gather(boxes, index, 0)?;
            let limits = image_limits(graph, image)?;
            Ok::<_, NetworkError>((scores, index, clip(graph, boxes, limits)?))
        })?;
        self.tap("rpn.topk_scores", scores)?;
        self.tap("rpn.topk_index", index)?;
        self.tap("rpn.topk_boxes_clipped", boxes)?;
        let scores = self.graph.scope("proposals/best", |graph| {
            let [x1, y1, x2, y2] = columns(graph, boxes)?;
            let (wide, high) = (graph.greater(x2, x1)?, graph.greater(y2, y1)?);
            let counts = graph.and(wide, high)?;
            let counts = graph.squeeze(counts, &[1])?;
            let none = graph.scalar(NO_SCORE)?;
            graph.select(counts, scores, none)
        })?;
        Ok((boxes, scores))
    }

    fn suppress(&mut self, boxes: Value, scores: Value) -> Result<Value, NetworkError> {
        let (after, overlap) = (self.options.after, self.options.overlap);
        let (kept, logits, chosen) = self.graph.scope("proposals/suppress", |graph| {
            let all = graph.unsqueeze(boxes, &[0])?;
            let ranks = graph.unsqueeze(scores, &[0, 1])?;
            let kept = graph.non_max_suppression(all, ranks, after, overlap, FLOOR)?;
            let kept = graph.slice(kept, 1, 2, 3)?;
            let kept = graph.squeeze(kept, &[1])?;
            Ok::<_, BuildError>((
                kept,
                graph.gather(scores, kept, 0)?,
                graph.gather(boxes, kept, 0)?,
            ))
        })?;
        self.tap("rpn.nms_keep", kept)?;
        self.tap("rpn.proposal_logits", logits)?;
        self.tap("rpn.proposal_boxes", chosen)?;
        Ok(chosen)
    }

    fn biased_conv(
        &mut self,
        name: &str,
        shape: [usize; 4],
        x: Value,
        options: ConvOptions,
    ) -> Result<Value, NetworkError> {
        let (weight_name, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
        let weight = self.weights.get(&weight_name, &shape)?;
        let bias = self.weights.get(&bias_name, &shape[..1])?;
        Ok(self.graph.scope(name, |graph| {
            let weight = graph.constant(&weight_name, weight)?;
            let bias = graph.constant(&bias_name, bias)?;
            graph.conv(x, weight, Some(bias), options)
        })?)
    }
}

/// Anchors moved by deltas `[h·w, anchors, 4]`: `[h·w·anchors, 4]`.
fn decode(
    graph: &mut GraphBuilder,
    [x1, y1, x2, y2]: Corners,
    deltas: Value,
) -> Result<Value, BuildError> {
    let parts = graph.split(deltas, -1, &[1; 4])?;
    let mut moves = Vec::new();
    for part in parts {
        moves.push(graph.squeeze(part, &[-1])?);
    }
    let mut sides = Vec::new();
    for (low, high, shift, growth) in [(x1, x2, moves[0], moves[2]), (y1, y2, moves[1], moves[3])] {
        let length = graph.sub(high, low)?;
        let middle = graph.scale(length, 0.5)?;
        let centre = graph.add(low, middle)?;
        let shift = graph.mul(shift, length)?;
        let centre = graph.add(shift, centre)?;
        let growth = graph.at_most(growth, MOST_GROWTH)?;
        let growth = graph.exp(growth)?;
        let length = graph.mul(growth, length)?;
        let reach = graph.scale(length, 0.5)?;
        sides.push((graph.sub(centre, reach)?, graph.add(centre, reach)?));
    }
    stack(graph, [sides[0].0, sides[1].0, sides[0].1, sides[1].1])
}

/// Corners `[h·w, anchors]` as boxes `[h·w·anchors, 4]`.
fn stack(graph: &mut GraphBuilder, corners: Corners) -> Result<Value, BuildError> {
    let mut parts = Vec::new();
    for corner in corners {
        parts.push(graph.unsqueeze(corner, &[-1])?);
    }
    let all = graph.concat(&parts, -1)?;
    graph.reshape(all, &[-1, 4])
}

/// Ones `[1, 1, h, w]` of a map's size.
pub(super) fn ones(graph: &mut GraphBuilder, map: Value) -> Result<Value, BuildError> {
    let channel = graph.slice(map, 1, 0, 1)?;
    let zeros = graph.scale(channel, 0.0)?;
    let one = graph.scalar(1.0)?;
    graph.add(zeros, one)
}

/// Positions of cells along an axis in pixels, row by row: `[h·w, 1]`.
fn grid(graph: &mut GraphBuilder, ones: Value, axis: i64) -> Result<Value, BuildError> {
    let counted = graph.cumulative_sum(ones, axis)?;
    let one = graph.scalar(1.0)?;
    let from_zero = graph.sub(counted, one)?;
    let pixels = graph.scale(from_zero, STRIDE)?;
    graph.reshape(pixels, &[-1, 1])
}

/// Width, height, width, height of the image: `[1, 4]`.
fn image_limits(graph: &mut GraphBuilder, image: Value) -> Result<Value, BuildError> {
    let row = graph.slice(image, 2, 0, 1)?;
    let column = graph.slice(image, 3, 0, 1)?;
    let mut limits = Vec::new();
    for line in [row, column] {
        let ones = ones(graph, line)?;
        let sum = graph.reduce_sum(ones, &[2, 3], false)?;
        limits.push(sum);
    }
    graph.concat(&[limits[0], limits[1], limits[0], limits[1]], 1)
}

/// Boxes `[n, 4]` cut off at 0 and at the image's end.
fn clip(graph: &mut GraphBuilder, boxes: Value, limits: Value) -> Result<Value, BuildError> {
    let zero = graph.scalar(0.0)?;
    let boxes = graph.max(boxes, zero)?;
    graph.min(boxes, limits)
}

/// x1, y1, x2, y2 of boxes `[n, 4]`, each `[n, 1]`.
pub(super) fn columns(graph: &mut GraphBuilder, boxes: Value) -> Result<Corners, BuildError> {
    debug_assert_eq!(graph.dtype(boxes), Dtype::F32);
    let parts = graph.split(boxes, 1, &[1; 4])?;
    Ok([parts[0], parts[1], parts[2], parts[3]])
}

fn filled(shape: &[usize], value: f32) -> Result<TensorData, NetworkError> {
    TensorData::new(shape, vec![value; shape.iter().product()])
        .map_err(|source| NetworkError::Tensor { name: "proposals".into(), source })
}
