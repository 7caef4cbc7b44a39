//! Which pixels of the source a pixel of the target is made of, and with what weights.

use std::ops::Range;

/// Fractional bits of a weight.
pub(super) const PRECISION: u32 = 22;
/// Half of the last place, added before the shift.
pub(super) const HALF: i32 = 1 << (PRECISION - 1);

/// How pixels are weighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// A triangle: the detector's.
    Bilinear,
    /// Cubic convolution with a = -0.5: CLIP's.
    Bicubic,
}

impl Filter {
    /// Pixels on either side, without scaling.
    fn support(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
        }
    }

    fn at(self, t: f64) -> f64 {
        let t = t.abs();
        match self {
            Filter::Bilinear if t < 1.0 => 1.0 - t,
            Filter::Bicubic if t < 1.0 => ((-0.5 + 2.0) * t - (-0.5 + 3.0)) * t * t + 1.0,
            Filter::Bicubic if t < 2.0 => (((t - 5.0) * t + 8.0) * t - 4.0) * -0.5,
            _ => 0.0,
        }
    }
}

/// The weights of a range of one axis's target pixels.
pub(super) struct Weights {
    /// First source pixel of each.
    first: Vec<usize>,
    /// Where each one's weights begin in `fixed`; one more at the end.
    start: Vec<usize>,
    /// Weights in units of 2⁻²².
    fixed: Vec<i32>,
}

impl Weights {
    /// For the target pixels `wanted` of an axis that goes from `source` to `target` pixels. The order of operations is
    /// Pillow's, because the last bit depends on it.
    pub(super) fn new(
        filter: Filter,
        source: usize,
        target: usize,
        wanted: Range<usize>,
    ) -> Weights {
        let scale = source as f64 / target as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let inverse = 1.0 / stretch;
        let mut weights = Weights { first: Vec::new(), start: vec![0], fixed: Vec::new() };
        let mut values = Vec::new();
        for index in wanted {
            let centre = (index as f64 + 0.5) * scale;
            let first = ((centre - support + 0.5) as isize).max(0) as usize;
            let last = ((centre + support + 0.5) as usize).min(source);
            values.clear();
            values.extend(
                (0..last - first).map(|x| filter.at(((x + first) as f64 - centre + 0.5) * inverse)),
            );
            let sum: f64 = values.iter().sum();
            weights.first.push(first);
            weights.fixed.extend(values.iter().map(|&value| {
                let scaled =
                    if sum == 0.0 { value } else { value / sum } * f64::from(1 << PRECISION);
                (scaled + if value < 0.0 { -0.5 } else { 0.5 }) as i32
            }));
            weights.start.push(weights.fixed.len());
        }
        weights
    }

    /// Number of target pixels.
    pub(super) fn len(&self) -> usize {
        self.first.len()
    }

    /// The first source pixel of the n-th target pixel of the range, and the weights from there on.
    pub(super) fn of(&self, index: usize) -> (usize, &[i32]) {
        (self.first[index], &self.fixed[self.start[index]..self.start[index + 1]])
    }

    /// Most source pixels of any target pixel.
    pub(super) fn longest(&self) -> usize {
        self.start.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }

    /// The source pixels that are needed at all: the first, and one past the last.
    pub(super) fn span(&self) -> (usize, usize) {
        let first = self.first.first().copied().unwrap_or(0);
        let last = (0..self.len()).map(|n| self.first[n] + self.of(n).1.len()).max().unwrap_or(0);
        (first, last)
    }
}

/// A sum of weighted pixels, which began with [`HALF`], as a pixel.
#[inline(always)]
pub(super) fn to_pixel(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}
