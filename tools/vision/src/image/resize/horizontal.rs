//! The pass along the rows.

use super::weights::{HALF, Weights, to_pixel};

/// The horizontal pass of one picture.
pub(super) struct Horizontal<const C: usize> {
    weights: Weights,
    #[cfg(target_arch = "x86_64")]
    vectors: Option<super::avx2::Horizontal>,
}

impl<const C: usize> Horizontal<C> {
    /// For rows of `width` pixels.
    pub(super) fn new(weights: Weights, width: usize) -> Horizontal<C> {
        Horizontal {
            #[cfg(target_arch = "x86_64")]
            vectors: super::avx2::Horizontal::new::<C>(&weights, width),
            weights,
        }
    }

    /// One row: `source` has the width that was given, `target` one pixel per weight.
    pub(super) fn row(&mut self, source: &[u8], target: &mut [u8]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(vectors) = &mut self.vectors {
            return vectors.row::<C>(source, target);
        }
        row(&self.weights, source, target, C);
    }
}

/// The pass as it is defined, for machines without a faster one.
pub(super) fn row(weights: &Weights, source: &[u8], target: &mut [u8], channels: usize) {
    for (index, pixel) in target.chunks_exact_mut(channels).enumerate() {
        let (first, weights) = weights.of(index);
        for (channel, value) in pixel.iter_mut().enumerate() {
            let taps = source[first * channels + channel..].iter().step_by(channels);
            let sum = weights.iter().zip(taps).fold(HALF, |sum, (k, &p)| sum + k * i32::from(p));
            *value = to_pixel(sum);
        }
    }
}
