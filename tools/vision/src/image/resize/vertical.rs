//! The pass along the columns: rows are weighted and added as wholes, which compilers turn into vectors by themselves.

use super::weights::{HALF, to_pixel};

/// Values that are summed at a time: their sums stay in registers.
const CHUNK: usize = 64;

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

/// Loops are counted and lengths are constant where it is hot: iterators are not inlined into a function with features of
/// its own.
#[inline(always)]
fn row_plain(source: &[u8], stride: usize, first: usize, weights: &[i32], target: &mut [u8]) {
    let source = &source[first * stride..];
    let whole = target.len() - target.len() % CHUNK;
    let mut at = 0;
    while at < whole {
        let mut sums = [HALF; CHUNK];
        let mut row = at;
        for &weight in weights {
            let Some(taps) = source[row..].first_chunk::<CHUNK>() else { break };
            for n in 0..CHUNK {
                sums[n] += weight * i32::from(taps[n]);
            }
            row += stride;
        }
        let Some(values) = target[at..].first_chunk_mut::<CHUNK>() else { break };
        for n in 0..CHUNK {
            values[n] = to_pixel(sums[n]);
        }
        at += CHUNK;
    }
    for (at, value) in target.iter_mut().enumerate().skip(whole) {
        let taps = source[at..].iter().step_by(stride);
        let sum = weights.iter().zip(taps).fold(HALF, |sum, (k, &tap)| sum + k * i32::from(tap));
        *value = to_pixel(sum);
    }
}
