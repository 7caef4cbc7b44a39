//! Resizing as Pillow does it, to the last bit: anti-aliased, in two passes of integers.
//!
//! The horizontal pass comes first and is rounded to 8 bits before the vertical one; a pass is left out if its side does
//! not change. So did every Pillow up to 12, with which the published features were made; Pillow 13 begins with the
//! columns where a picture loses more than twice as many rows as columns, which changes some pixels by a few units. Where a model looks at a part of the resized picture only, only that part is computed.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod float;
mod horizontal;
mod vertical;
mod weights;

pub use float::bilinear_f32;
pub use weights::Filter;

use super::Raster;
use horizontal::Horizontal;
use weights::Weights;

/// A part of the resized picture, in its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Window {
    /// All of a picture of this size.
    pub fn all(width: usize, height: usize) -> Window {
        Window { left: 0, top: 0, width, height }
    }
}

/// Resizes to `width` and `height` and hands over the rows of the window, from top to bottom, each
/// `[window.width, CHANNELS]`.
///
/// # Panics
/// If a side of the source or the target is zero, or the window does not lie within the target: the caller has looked.
pub fn resize_rows<const C: usize>(
    source: &Raster<C>,
    (width, height): (usize, usize),
    filter: Filter,
    window: Window,
    mut row: impl FnMut(usize, &[u8]),
) {
    assert!(source.width > 0 && source.height > 0 && width > 0 && height > 0);
    assert!(window.left + window.width <= width && window.top + window.height <= height);
    let vertical = (height != source.height).then(|| {
        Weights::new(filter, source.height, height, window.top..window.top + window.height)
    });
    // The rows of the source that the window needs.
    let (first, last) = match &vertical {
        Some(weights) => weights.span(),
        None => (window.top, window.top + window.height),
    };
    let stride = source.width * C;
    let rows = source.data[first * stride..last * stride].chunks_exact(stride);
    let columns = window.left * C..(window.left + window.width) * C;
    let horizontal = (width != source.width).then(|| {
        let columns = window.left..window.left + window.width;
        Horizontal::<C>::new(Weights::new(filter, source.width, width, columns), source.width)
    });

    match (horizontal, vertical) {
        (None, None) => rows.enumerate().for_each(|(y, pixels)| row(y, &pixels[columns.clone()])),
        (Some(mut pass), None) => {
            let mut narrowed = vec![0; columns.len()];
            for (y, pixels) in rows.enumerate() {
                pass.row(pixels, &mut narrowed);
                row(y, &narrowed);
            }
        }
        (horizontal, Some(weights)) => {
            let mut between = vec![0; (last - first) * columns.len()];
            let targets = between.chunks_exact_mut(columns.len());
            match horizontal {
                Some(mut pass) => {
                    rows.zip(targets).for_each(|(pixels, target)| pass.row(pixels, target));
                }
                None => rows
                    .zip(targets)
                    .for_each(|(pixels, target)| target.copy_from_slice(&pixels[columns.clone()])),
            }
            let mut resized = vec![0; columns.len()];
            for y in 0..window.height {
                let (start, weights) = weights.of(y);
                vertical::row(&between, columns.len(), start - first, weights, &mut resized);
                row(y, &resized);
            }
        }
    }
}

/// Resizes and keeps the window. Pillow's name for it is `Image.resize((width, height), filter)`, then `crop`.
///
/// # Panics
/// As [`resize_rows`].
pub fn resize<const C: usize>(
    source: &Raster<C>,
    size: (usize, usize),
    filter: Filter,
    window: Window,
) -> Raster<C> {
    let mut data = Vec::with_capacity(window.width * window.height * C);
    resize_rows(source, size, filter, window, |_, row| data.extend_from_slice(row));
    Raster { width: window.width, height: window.height, data }
}

/// Resizes with the nearest pixel: what Pillow does to a palette whatever filter it is given. `[height, width]` values.
///
/// # Panics
/// As [`resize_rows`].
pub fn nearest(source: &Raster<1>, (width, height): (usize, usize), window: Window) -> Raster<1> {
    // Centres of the target's pixels, summed up step by step as Pillow does.
    let positions = |from: usize, to: usize| -> Vec<usize> {
        let step = from as f64 / to as f64;
        let centres = std::iter::successors(Some(step * 0.5), |centre| Some(centre + step));
        centres.map(|centre| (centre as usize).min(from - 1)).take(to).collect()
    };
    let columns = positions(source.width, width);
    let columns = &columns[window.left..window.left + window.width];
    let rows = positions(source.height, height);
    let mut data = Vec::with_capacity(window.width * window.height);
    for row in &rows[window.top..window.top + window.height] {
        data.extend(columns.iter().map(|x| source.data[row * source.width + x]));
    }
    Raster { width: window.width, height: window.height, data }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pixels without any pattern.
    fn noise<const C: usize>(width: usize, height: usize) -> Raster<C> {
        let mut state = 12345u32;
        let next = |_| {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            (state >> 24) as u8
        };
        Raster { width, height, data: (0..width * height * C).map(next).collect() }
    }

    #[test]
    fn a_window_equals_the_same_part_of_the_whole() {
        let source = noise::<3>(61, 47);
        for (width, height) in [(30, 90), (61, 20), (150, 47), (61, 47)] {
            let whole =
                resize(&source, (width, height), Filter::Bicubic, Window::all(width, height));
            let window = Window { left: 7, top: 5, width: 20, height: 13 };
            let part = resize(&source, (width, height), Filter::Bicubic, window);
            for y in 0..13 {
                let at = ((y + 5) * width + 7) * 3;
                assert_eq!(part.data[y * 60..][..60], whole.data[at..at + 60]);
            }
        }
    }

    #[test]
    fn one_pixel_fills_any_size() {
        let source = Raster::<3> { width: 1, height: 1, data: vec![3, 200, 255] };
        let large = resize(&source, (50, 40), Filter::Bilinear, Window::all(50, 40));
        assert!(large.data.chunks_exact(3).all(|pixel| pixel == [3, 200, 255]));
    }

    #[test]
    fn all_channels_are_treated_alike() {
        let grey = noise::<1>(37, 29);
        let expand = |data: &[u8], n| data.iter().flat_map(|&v| vec![v; n]).collect::<Vec<u8>>();
        for (width, height) in [(11, 13), (80, 61), (37, 9), (5, 29), (400, 3)] {
            for filter in [Filter::Bilinear, Filter::Bicubic] {
                let window = Window::all(width, height);
                let one = resize(&grey, (width, height), filter, window);
                let three = Raster::<3> { data: expand(&grey.data, 3), width: 37, height: 29 };
                let four = Raster::<4> { data: expand(&grey.data, 4), width: 37, height: 29 };
                assert_eq!(
                    resize(&three, (width, height), filter, window).data,
                    expand(&one.data, 3)
                );
                assert_eq!(
                    resize(&four, (width, height), filter, window).data,
                    expand(&one.data, 4)
                );
            }
        }
    }
}
