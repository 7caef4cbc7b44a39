//! The maximum of the feature map in each of 14 × 14 bins of a region.

use onnx::{BuildError, Dtype, GraphBuilder, PoolOptions, Value};

use super::proposals::{columns, ones};
use super::{Options, Parts, STRIDE};
use crate::network::{NetworkError, constant};

/// Bins along a side of a region.
pub(super) const SIDE: usize = 14;

/// How regions are pooled. All give the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pooling {
    /// By standard operators with CUDA kernels. A window of up to twice a power of two is covered by four windows of that
    /// power: the map is pooled once for each pair of powers, and each bin takes the largest of four of those.
    #[default]
    Gathers,
    /// By `MaxRoiPool`, which only the CPU has.
    MaxRoiPool,
}

/// Where bins lie along one axis: each `[n, 14]`, in cells.
struct Bins {
    /// First cell of the first window.
    first: Value,
    /// First cell of the last window.
    last: Value,
    /// Number of the windows' power.
    level: Value,
    /// There is a cell.
    filled: Value,
}

impl Parts<'_, '_, '_> {
    /// Map `[1, C, h, w]` and boxes `[n, 4]` in pixels to `[n, C, 14, 14]`.
    pub(super) fn pool(&mut self, map: Value, boxes: Value) -> Result<Value, NetworkError> {
        let powers = powers(self.options);
        let pooling = self.options.pooling;
        self.graph.scope("regions", |graph| match pooling {
            Pooling::MaxRoiPool => {
                let numbered = graph.scope("corners", |graph| graph.pad(boxes, 1, 1, 0))?; // image 0
                Ok(graph.max_roi_pool(map, numbered, SIDE, 1.0 / STRIDE)?)
            }
            Pooling::Gathers => gathers(graph, map, boxes, SIDE, &powers),
        })
    }
}

/// A graph of the pooling alone, to compare and to measure: `map` `[1, C, h, w]` and `boxes` `[n, 4]` to `pooled`.
///
/// # Errors
/// A side of 0.
pub fn pooling_graph(
    channels: usize,
    side: usize,
    longest: usize,
    pooling: Pooling,
) -> Result<onnx::Model, NetworkError> {
    let mut graph = GraphBuilder::new("pooling");
    let map =
        graph.input("map", Dtype::F32, &[1.into(), channels.into(), "h".into(), "w".into()])?;
    let boxes = graph.input("boxes", Dtype::F32, &["n".into(), 4.into()])?;
    let pooled = match pooling {
        Pooling::MaxRoiPool => {
            let numbered = graph.pad(boxes, 1, 1, 0)?;
            graph.max_roi_pool(map, numbered, side, 1.0 / STRIDE)?
        }
        Pooling::Gathers => gathers(&mut graph, map, boxes, side, &powers_of(longest, side))?,
    };
    graph.output("pooled", pooled)?;
    Ok(graph.finish()?)
}

fn powers(options: &Options) -> Vec<usize> {
    powers_of(options.longest, SIDE)
}

/// 1, 2, 4, … up to half of what a bin of the largest region can have.
fn powers_of(longest: usize, side: usize) -> Vec<usize> {
    // Corners are rounded, so a region has up to one cell more than the map; a bin's ends round outwards.
    let cells = longest.div_ceil(STRIDE as usize) + 2;
    let most = cells.div_ceil(side) + 1;
    std::iter::successors(Some(1), |power| Some(power * 2))
        .take_while(|power| *power == 1 || *power < most)
        .collect()
}

fn gathers(
    graph: &mut GraphBuilder,
    map: Value,
    boxes: Value,
    side: usize,
    powers: &[usize],
) -> Result<Value, NetworkError> {
    let table = table(graph, map, powers)?;
    let (height, width) = graph.scope("size", |graph| size(graph, map))?;
    let [x1, y1, x2, y2] = graph.scope("corners", |graph| columns(graph, boxes))?;
    let y = graph.scope("rows", |graph| bins(graph, [y1, y2], height, side, powers))?;
    let x = graph.scope("columns", |graph| bins(graph, [x1, x2], width, side, powers))?;
    Ok(graph.scope("bins", |graph| largest_of_four(graph, table, &y, &x, powers.len(), side))?)
}

/// The map pooled with every pair of powers, one after the other: `[powers², h, w, C]`.
fn table(graph: &mut GraphBuilder, map: Value, powers: &[usize]) -> Result<Value, BuildError> {
    let mut pooled = Vec::new();
    for height in powers {
        for width in powers {
            // The window of a cell reaches down and right; beyond the border there is nothing.
            let options = PoolOptions {
                window: [*height, *width],
                stride: 1,
                padding_end: [height - 1, width - 1],
                ceil: false,
            };
            pooled.push(if height * width == 1 { map } else { graph.max_pool(map, options)? });
        }
    }
    let all = graph.concat(&pooled, 0)?;
    graph.transpose(all, &[0, 2, 3, 1])
}

/// Height and width of the map in cells, each `[1]`.
fn size(graph: &mut GraphBuilder, map: Value) -> Result<(Value, Value), BuildError> {
    let ones = ones(graph, map)?;
    let (column, row) = (graph.slice(ones, 3, 0, 1)?, graph.slice(ones, 2, 0, 1)?);
    let height = graph.reduce_sum(column, &[1, 2, 3], false)?;
    let width = graph.reduce_sum(row, &[1, 2, 3], false)?;
    Ok((height, width))
}

/// Bins between two corners `[n, 1]` of regions, on a map of so many cells.
fn bins(
    graph: &mut GraphBuilder,
    [low, high]: [Value; 2],
    cells: Value,
    side: usize,
    powers: &[usize],
) -> Result<Bins, NetworkError> {
    let (low, high) = (to_cells(graph, low)?, to_cells(graph, high)?);
    let (zero, one) = (graph.scalar(0.0)?, graph.scalar(1.0)?);
    let size = graph.sub(high, low)?;
    let size = graph.add(size, one)?;
    let size = graph.max(size, one)?;
    let count = graph.scalar(side as f32)?;
    let step = graph.div(size, count)?;
    let numbers = |from: usize| (from..from + side).map(|bin| bin as f32).collect::<Vec<_>>();
    let starts = constant(graph, "bins/starts", &[1, side], numbers(0))?;
    let ends = constant(graph, "bins/ends", &[1, side], numbers(1))?;
    let within = |graph: &mut GraphBuilder, edge: Value| {
        let edge = graph.add(edge, low)?;
        let edge = graph.max(edge, zero)?;
        graph.min(edge, cells)
    };
    let start = graph.mul(step, starts)?;
    let start = graph.floor(start)?;
    let start = within(graph, start)?;
    let end = graph.mul(step, ends)?;
    let end = graph.ceil(end)?;
    let end = within(graph, end)?;
    let length = graph.sub(end, start)?;
    let filled = graph.greater(length, zero)?;
    let (mut level, mut window) = (graph.scale(length, 0.0)?, one);
    for power in &powers[..powers.len() - 1] {
        // Longer than twice this power: the next one is needed.
        let limit = graph.scalar(2.0 * *power as f32)?;
        let longer = graph.greater(length, limit)?;
        let longer = graph.cast(longer, Dtype::F32)?;
        level = graph.add(level, longer)?;
        let growth = graph.scale(longer, *power as f32)?;
        window = graph.add(window, growth)?;
    }
    // Of an empty bin some cell is taken, and thrown away afterwards.
    let last_cell = graph.sub(cells, one)?;
    let first = graph.min(start, last_cell)?;
    let last = graph.sub(end, window)?;
    let last = graph.max(last, zero)?;
    Ok(Bins { first, last, level, filled })
}

/// Pixels to cells, rounded to nearest, halves away from zero.
fn to_cells(graph: &mut GraphBuilder, pixels: Value) -> Result<Value, BuildError> {
    let scaled = graph.scale(pixels, 1.0 / STRIDE)?;
    let size = graph.abs(scaled)?;
    let whole = graph.floor(size)?;
    // Not floor(size + ½): that sum rounds up just below a half.
    let rest = graph.sub(size, whole)?;
    let half = graph.scalar(0.5)?;
    let up = graph.greater_or_equal(rest, half)?;
    let up = graph.cast(up, Dtype::F32)?;
    let rounded = graph.add(whole, up)?;
    let sign = graph.sign(scaled)?;
    graph.mul(rounded, sign)
}

fn largest_of_four(
    graph: &mut GraphBuilder,
    table: Value,
    y: &Bins,
    x: &Bins,
    powers: usize,
    side: usize,
) -> Result<Value, BuildError> {
    let level = graph.scale(y.level, powers as f32)?;
    let (level, x_level) = (rows(graph, level)?, lines(graph, x.level)?);
    let level = graph.add(level, x_level)?; // [n, 14, 14]
    let mut largest = None;
    for top in [y.first, y.last] {
        for left in [x.first, x.last] {
            let (top, left) = (rows(graph, top)?, lines(graph, left)?);
            let place = place(graph, [level, top, left])?;
            let window = graph.gather_nd(table, place)?; // [n, 14, 14, C]
            largest = Some(match largest {
                Some(largest) => graph.max(largest, window)?,
                None => window,
            });
        }
    }
    let largest = largest.unwrap_or(table);
    let (high, wide) = (rows(graph, y.filled)?, lines(graph, x.filled)?);
    let filled = graph.and(high, wide)?;
    let filled = graph.unsqueeze(filled, &[-1])?;
    let zero = graph.scalar(0.0)?;
    let pooled = graph.select(filled, largest, zero)?;
    debug_assert_eq!(graph.shape(pooled).0[1].fixed(), Some(side));
    graph.transpose(pooled, &[0, 3, 1, 2])
}

/// Level, row and column of each bin as i64 `[n, 14, 14, 3]`.
fn place(graph: &mut GraphBuilder, parts: [Value; 3]) -> Result<Value, BuildError> {
    // The level has the shape that rows and columns are broadcast to.
    let nothing = graph.scale(parts[0], 0.0)?;
    let mut columns = Vec::new();
    for part in parts {
        let whole = graph.add(part, nothing)?;
        let whole = graph.cast(whole, Dtype::I64)?;
        columns.push(graph.unsqueeze(whole, &[-1])?);
    }
    graph.concat(&columns, -1)
}

/// `[n, 14]` as rows of bins: `[n, 14, 1]`.
fn rows(graph: &mut GraphBuilder, bins: Value) -> Result<Value, BuildError> {
    graph.unsqueeze(bins, &[2])
}

/// `[n, 14]` as columns of bins: `[n, 1, 14]`.
fn lines(graph: &mut GraphBuilder, bins: Value) -> Result<Value, BuildError> {
    graph.unsqueeze(bins, &[1])
}
