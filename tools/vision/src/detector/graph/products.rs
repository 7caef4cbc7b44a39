//! The last stage as products of matrices, for the CPU: the same numbers but for rounding, in fewer multiplications.
//!
//! Its 3x3 convolutions, spread by 2 on maps of 14 × 14, are ordinary ones on each of the four 7 × 7 maps of every second
//! row and column. Those are computed by Winograd's F(4×4, 3×3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural
//! Networks", arXiv 1509.09308): a map is cut into 2 × 2 tiles; what each tile sees is taken apart into 36 sums, multiplied
//! with the kernel's 36 sums, and put together again: 36 products where the plain way takes 144. The 1x1 convolutions are
//! products as they are. Positions are rows here, channels columns.

use onnx::{BuildError, GraphBuilder, TensorData, Value};

use super::Parts;
use crate::network::{NetworkError, constant, folded};

/// Maps that a region's 14 × 14 bins are taken apart into, along a side.
const PHASES: usize = 2;
/// Side of each.
const SIDE: usize = 7;
/// Results that a tile gives, and values that it sees, along a side.
const GIVES: usize = 4;
const SEES: usize = 6;
/// Tiles along a side; the last row of the second is thrown away.
const TILES: usize = 2;

/// What a tile sees, taken apart: Bᵀ of F(4, 3).
const APART: [[f64; SEES]; SEES] = [
    [4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
    [0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
    [0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
    [0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
    [0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
    [0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
];
/// The kernel, taken apart: G of F(4, 3).
const KERNEL: [[f64; 3]; SEES] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];
/// Put together again: Aᵀ of F(4, 3).
const TOGETHER: [[f64; SEES]; GIVES] = [
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    [0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
    [0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
    [0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
];

impl Parts<'_, '_, '_> {
    /// Regions' bins `[n, 14, 14, C]` to the features `[n, channels]`: the stage and the mean over its map.
    pub(super) fn last_stage_features(
        &mut self,
        bins: Value,
        channels: usize,
    ) -> Result<Value, NetworkError> {
        const PREFIX: &str = "roi_heads.res5";
        let mut x = self.graph.scope(PREFIX, |graph| apart(graph, bins, channels))?;
        let blocks = self.weights.count(&format!("{PREFIX}."), ".conv1.weight");
        if blocks == 0 {
            return Err(NetworkError::Missing(format!("{PREFIX}.0.conv1.weight")));
        }
        let mut width = channels;
        for block in 0..blocks {
            (x, width) = self.product_block(&format!("{PREFIX}.{block}"), x)?;
        }
        Ok(self.graph.scope("features", |graph| {
            let positions = (PHASES * SIDE).pow(2) as i64;
            let regions = graph.reshape(x, &[-1, positions, width as i64])?;
            graph.reduce_mean(regions, &[1], false)
        })?)
    }

    /// A block on rows; gives the number of its columns, too.
    fn product_block(&mut self, prefix: &str, x: Value) -> Result<(Value, usize), NetworkError> {
        let (inner, _) = self.pointwise(&format!("{prefix}.conv1"), x)?;
        let inner = self.graph.scope(&format!("{prefix}.conv1"), |graph| graph.relu(inner))?;
        let inner = self.three_by_three(&format!("{prefix}.conv2"), inner)?;
        let (inner, width) = self.pointwise(&format!("{prefix}.conv3"), inner)?;
        let shortcut = format!("{prefix}.shortcut");
        let x = if self.weights.has(&format!("{shortcut}.weight")) {
            self.pointwise(&shortcut, x)?.0
        } else {
            x
        };
        let sum = self.graph.scope(prefix, |graph| {
            let sum = graph.add(inner, x)?;
            graph.relu(sum)
        })?;
        Ok((sum, width))
    }

    /// A 1x1 convolution with its normalisation: x W + b.
    fn pointwise(&mut self, name: &str, x: Value) -> Result<(Value, usize), NetworkError> {
        let ([out, inputs, _, _], kernel, bias) =
            folded(self.weights, [name, &format!("{name}.norm")])?;
        let kernel = tensor(name, [out, inputs], kernel)?;
        let bias = tensor(name, [out], bias)?;
        let product = self.graph.scope(name, |graph| graph.linear(x, &kernel, Some(&bias)))?;
        Ok((product, out))
    }

    /// A 3x3 convolution with its normalisation and ReLU, of rows that are 7 × 7 maps one after the other.
    fn three_by_three(&mut self, name: &str, x: Value) -> Result<Value, NetworkError> {
        let ([out, inputs, _, _], kernel, bias) =
            folded(self.weights, [name, &format!("{name}.norm")])?;
        let kernel = kernel_apart(&kernel, out, inputs);
        let (tiles, sums) = ((TILES * TILES) as i64, (SEES * SEES) as i64);
        self.graph.scope(name, |graph| {
            let maps = graph.reshape(x, &[-1, (SIDE * SIDE) as i64, inputs as i64])?;
            let apart = constant(
                graph,
                "winograd/apart",
                &[SEES * SEES * TILES * TILES, SIDE * SIDE],
                map_apart(),
            )?;
            let seen = graph.matmul(apart, maps)?; // [maps, 36·4, in]
            let seen = graph.reshape(seen, &[-1, sums, tiles, inputs as i64])?;
            let seen = graph.transpose(seen, &[1, 0, 2, 3])?;
            let seen = graph.reshape(seen, &[sums, -1, inputs as i64])?; // [36, maps·4, in]
            let kernel =
                constant(graph, &format!("{name}.winograd"), &[SEES * SEES, inputs, out], kernel)?;
            let product = graph.matmul(seen, kernel)?;
            let product = graph.reshape(product, &[sums, -1, tiles, out as i64])?;
            let product = graph.transpose(product, &[1, 0, 2, 3])?;
            let product = graph.reshape(product, &[-1, sums * tiles, out as i64])?;
            let together = constant(
                graph,
                "winograd/together",
                &[SIDE * SIDE, SEES * SEES * TILES * TILES],
                map_together(),
            )?;
            let maps = graph.matmul(together, product)?;
            let rows = graph.reshape(maps, &[-1, out as i64])?;
            let bias = constant(graph, &format!("{name}.bias"), &[out], bias)?;
            let rows = graph.add(rows, bias)?;
            Ok(graph.relu(rows)?)
        })
    }
}

/// Bins `[n, 14, 14, C]` as rows, in the order of regions, maps, and positions of those: `[n·196, C]`.
fn apart(graph: &mut GraphBuilder, bins: Value, channels: usize) -> Result<Value, BuildError> {
    let (side, phases, channels) = (SIDE as i64, PHASES as i64, channels as i64);
    let maps = graph.reshape(bins, &[-1, side, phases, side, phases, channels])?;
    let maps = graph.transpose(maps, &[0, 2, 4, 1, 3, 5])?;
    graph.reshape(maps, &[-1, channels])
}

/// Which values of a row of 7 each of the 6 sums of each of the 2 tiles is made of. Beyond the row there are zeros.
fn row_apart(sum: usize, tile: usize, position: usize) -> f64 {
    // A tile's first value lies one before its first result.
    let seen = (position + 1).checked_sub(GIVES * tile);
    seen.filter(|seen| *seen < SEES).map_or(0.0, |seen| APART[sum][seen])
}

/// `[(36 sums, 4 tiles), 49 positions]`
fn map_apart() -> Vec<f32> {
    let mut matrix = Vec::new();
    for_each_sum(|sum, tile| {
        for (y, x) in positions() {
            matrix.push((row_apart(sum[0], tile[0], y) * row_apart(sum[1], tile[1], x)) as f32);
        }
    });
    matrix
}

/// `[49 positions, (36 sums, 4 tiles)]`
fn map_together() -> Vec<f32> {
    let of = |sum: usize, tile: usize, position: usize| {
        if position / GIVES == tile { TOGETHER[position % GIVES][sum] } else { 0.0 }
    };
    let mut matrix = Vec::new();
    for (y, x) in positions() {
        for_each_sum(|sum, tile| {
            matrix.push((of(sum[0], tile[0], y) * of(sum[1], tile[1], x)) as f32)
        });
    }
    matrix
}

/// Kernels `[out, in, 3, 3]` as `[36 sums, in, out]`.
fn kernel_apart(kernel: &[f32], out: usize, inputs: usize) -> Vec<f32> {
    let mut apart = vec![0.0f32; SEES * SEES * inputs * out];
    for (row, window) in kernel.chunks_exact(9).enumerate() {
        let (output, input) = (row / inputs, row % inputs);
        for sum in 0..SEES * SEES {
            let (down, right) = (KERNEL[sum / SEES], KERNEL[sum % SEES]);
            let value: f64 =
                (0..9).map(|at| down[at / 3] * f64::from(window[at]) * right[at % 3]).sum();
            apart[(sum * inputs + input) * out + output] = value as f32;
        }
    }
    apart
}

fn positions() -> impl Iterator<Item = (usize, usize)> {
    (0..SIDE * SIDE).map(|position| (position / SIDE, position % SIDE))
}

/// Sums down and right, then tiles down and right.
fn for_each_sum(mut each: impl FnMut([usize; 2], [usize; 2])) {
    for sum in 0..SEES * SEES {
        for tile in 0..TILES * TILES {
            each([sum / SEES, sum % SEES], [tile / TILES, tile % TILES]);
        }
    }
}

fn tensor(
    name: &str,
    shape: impl Into<Vec<usize>>,
    numbers: Vec<f32>,
) -> Result<TensorData, NetworkError> {
    TensorData::new(shape, numbers)
        .map_err(|source| NetworkError::Tensor { name: name.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_apart_and_together_is_a_convolution() {
        let numbers = |count: usize, seed: f32| -> Vec<f32> {
            (0..count).map(|at| ((at as f32 + seed) * 12.9898).sin()).collect()
        };
        let (map, kernel) = (numbers(SIDE * SIDE, 1.0), numbers(9, 2.0));
        let (apart, together, kernel_apart) =
            (map_apart(), map_together(), kernel_apart(&kernel, 1, 1));
        let dot = |row: &[f32], values: &[f32]| {
            row.iter().zip(values).map(|(a, b)| f64::from(a * b)).sum::<f64>()
        };
        let products: Vec<f32> = apart
            .chunks_exact(SIDE * SIDE)
            .enumerate()
            .map(|(row, line)| dot(line, &map) as f32 * kernel_apart[row / (TILES * TILES)])
            .collect();
        for ((y, x), line) in positions().zip(together.chunks_exact(products.len())) {
            let at = |row: isize, column: isize| {
                let within =
                    (0..SIDE as isize).contains(&row) && (0..SIDE as isize).contains(&column);
                if within { map[row as usize * SIDE + column as usize] } else { 0.0 }
            };
            let wanted: f32 = (0..9)
                .map(|k| {
                    at(y as isize + k as isize / 3 - 1, x as isize + k as isize % 3 - 1) * kernel[k]
                })
                .sum();
            assert!((dot(line, &products) as f32 - wanted).abs() < 1e-5, "{y} {x}");
        }
    }
}
