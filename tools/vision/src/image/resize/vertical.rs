//! The pass along the columns: rows are weighted and added as wholes, which compilers turn into vectors by themselves.

use super::weights::{HALF, to_pixel};

/// Values that are summed at a time: their sums stay in registers.
const CHUNK: usize = 32;

/// One row of the target from the rows `first`.. of `source`, which are `stride` values long.
pub(super) fn row(source: &[u8], stride: usize, first: usize, weights: &[i32], target: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the machine has AVX2, as just asked.
        return unsafe { row_avx2(source, stride, first, weights, target) };
    }
    row_plain(source, stride, first, weights, target);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn row_avx2(source: &[u8], stride: usize, first: usize, weights: &[i32], target: &mut [u8]) {
    row_plain(source, stride, first, weights, target);
}

#[inline(always)]
fn row_plain(source: &[u8], stride: usize, first: usize, weights: &[i32], target: &mut [u8]) {
    let source = &source[first * stride..];
    let mut chunks = target.chunks_exact_mut(CHUNK);
    let mut at = 0;
    for chunk in &mut chunks {
        let mut sums = [HALF; CHUNK];
        for (row, &weight) in weights.iter().enumerate() {
            let taps = &source[row * stride + at..][..CHUNK];
            for (sum, &tap) in sums.iter_mut().zip(taps) {
                *sum += weight * i32::from(tap);
            }
        }
        for (value, sum) in chunk.iter_mut().zip(sums) {
            *value = to_pixel(sum);
        }
        at += CHUNK;
    }
    for value in chunks.into_remainder() {
        let taps = source[at..].iter().step_by(stride);
        let sum = weights.iter().zip(taps).fold(HALF, |sum, (k, &tap)| sum + k * i32::from(tap));
        *value = to_pixel(sum);
        at += 1;
    }
}
