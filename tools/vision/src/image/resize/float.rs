//! Bilinear resizing without anti-aliasing and without rounding: what PyTorch's `interpolate` does to a float picture.

use crate::image::Raster;

/// One resized row's place in the source: two neighbours and the weight of the second.
struct Neighbours {
    first: usize,
    second: usize,
    weight: f32,
}

/// Half-pixel centres, positions before the first pixel taken as the first.
fn neighbours(source: usize, target: usize) -> Vec<Neighbours> {
    let scale = source as f32 / target as f32;
    let of = |index: usize| {
        let position = ((index as f32 + 0.5) * scale - 0.5).max(0.0);
        let first = (position as usize).min(source - 1);
        Neighbours { first, second: (first + 1).min(source - 1), weight: position - first as f32 }
    };
    (0..target).map(of).collect()
}

/// Resizes to `width` and `height`; the rows come from top to bottom, each `[width, CHANNELS]`.
///
/// # Panics
/// If a side is zero.
pub fn bilinear_f32<const C: usize>(
    source: &Raster<C>,
    (width, height): (usize, usize),
    mut row: impl FnMut(usize, &[f32]),
) {
    assert!(source.width > 0 && source.height > 0 && width > 0 && height > 0);
    let columns = neighbours(source.width, width);
    let mut resized = vec![0.0; width * C];
    for (y, rows) in neighbours(source.height, height).iter().enumerate() {
        let stride = source.width * C;
        let upper = &source.data[rows.first * stride..][..stride];
        let lower = &source.data[rows.second * stride..][..stride];
        for (pixel, at) in resized.chunks_exact_mut(C).zip(&columns) {
            for (channel, value) in pixel.iter_mut().enumerate() {
                let tap = |row: &[u8], x: usize| f32::from(row[x * C + channel]);
                let across =
                    |row| tap(row, at.first) * (1.0 - at.weight) + tap(row, at.second) * at.weight;
                *value = across(upper) * (1.0 - rows.weight) + across(lower) * rows.weight;
            }
        }
        row(y, &resized);
    }
}
