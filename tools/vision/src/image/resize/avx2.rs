//! The horizontal pass for three and four channels with AVX2.
//!
//! A weight of 23 bits does not fit the multiplication of 16-bit pairs that these machines are good at, so it is split:
//! weight = high · 2¹¹ + low, both of which do. Sums wrap around where the plain ones would, so the bits are the same.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_packs_epi32,
    _mm_packus_epi16, _mm_set1_epi32, _mm_setr_epi8, _mm_srai_epi32, _mm256_add_epi32,
    _mm256_broadcastsi128_si256, _mm256_castsi256_si128, _mm256_extracti128_si256,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_set_m128i, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_slli_epi32,
};

use super::weights::{HALF, PRECISION, Weights};

/// Bits of the lower part of a weight.
const LOW_BITS: u32 = 11;
/// Source pixels that are multiplied at once.
const BLOCK: usize = 4;

/// Weights of four neighbouring pixels, in the order in which the pixels' channels are multiplied: (0, 1) four times,
/// then (2, 3) four times.
#[derive(Clone, Copy)]
struct Block {
    high: [i16; 16],
    low: [i16; 16],
}

pub(super) struct Horizontal {
    /// Byte offset of each target pixel's first source pixel.
    first: Vec<usize>,
    /// Blocks of a target pixel.
    blocks_each: usize,
    blocks: Vec<Block>,
    /// A row with room behind it: blocks reach past the last pixel, with weights of zero.
    padded: Vec<u8>,
}

impl Horizontal {
    /// `None` on a machine without AVX2, or for another number of channels.
    pub(super) fn new<const C: usize>(weights: &Weights, width: usize) -> Option<Horizontal> {
        if !matches!(C, 3 | 4) || !std::is_x86_feature_detected!("avx2") {
            return None;
        }
        let blocks_each = weights.longest().div_ceil(BLOCK);
        let mut blocks = Vec::with_capacity(weights.len() * blocks_each);
        for index in 0..weights.len() {
            let (_, weights) = weights.of(index);
            blocks.extend((0..blocks_each).map(|n| {
                Block::new([0, 1, 2, 3].map(|k| weights.get(n * BLOCK + k).copied().unwrap_or(0)))
            }));
        }
        let first = (0..weights.len()).map(|index| weights.of(index).0 * C).collect();
        let padded = vec![0; (width + blocks_each * BLOCK) * C + 16];
        Some(Horizontal { first, blocks_each, blocks, padded })
    }

    pub(super) fn row<const C: usize>(&mut self, source: &[u8], target: &mut [u8]) {
        self.padded[..source.len()].copy_from_slice(source);
        // SAFETY: `new` makes one of these only on a machine that has AVX2.
        unsafe { self.padded_row::<C>(target) }
    }

    // Counted loops: iterators and copies are not inlined into a function with features of its own.
    #[allow(clippy::needless_range_loop, clippy::manual_memcpy)]
    #[target_feature(enable = "avx2")]
    fn padded_row<const C: usize>(&self, target: &mut [u8]) {
        // Channel c of the pixels 0 and 1 side by side, widened to 16 bits; then of 2 and 3. -1 makes a zero.
        let order = match C {
            3 => _mm256_set_m128i(
                _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1),
                _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1),
            ),
            _ => _mm256_set_m128i(
                _mm_setr_epi8(8, -1, 12, -1, 9, -1, 13, -1, 10, -1, 14, -1, 11, -1, 15, -1),
                _mm_setr_epi8(0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1),
            ),
        };
        for index in 0..self.first.len() {
            let first = self.first[index];
            let blocks = &self.blocks[index * self.blocks_each..(index + 1) * self.blocks_each];
            let (mut high, mut low) = (_mm256_setzero_si256(), _mm256_setzero_si256());
            for n in 0..blocks.len() {
                let at = first + n * BLOCK * C;
                let four = load_bytes(&self.padded[at..at + 16]);
                let four = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(four), order);
                let (above, below) = (load_words(&blocks[n].high), load_words(&blocks[n].low));
                high = _mm256_add_epi32(high, _mm256_madd_epi16(four, above));
                low = _mm256_add_epi32(low, _mm256_madd_epi16(four, below));
            }
            let sums = _mm256_add_epi32(_mm256_slli_epi32::<{ LOW_BITS as i32 }>(high), low);
            let sums =
                _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
            let sums = _mm_add_epi32(sums, _mm_set1_epi32(HALF));
            let values = _mm_srai_epi32::<{ PRECISION as i32 }>(sums);
            let words = _mm_packs_epi32(values, values);
            let bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words)).to_le_bytes();
            let pixel = &mut target[index * C..(index + 1) * C];
            for n in 0..C {
                pixel[n] = bytes[n];
            }
        }
    }
}

impl Block {
    fn new(weights: [i32; 4]) -> Block {
        let part = |of: fn(i32) -> i32| {
            let [a, b, c, d] = weights.map(|weight| of(weight) as i16);
            let mut pairs = [0; 16];
            for n in 0..4 {
                (pairs[2 * n], pairs[2 * n + 1]) = (a, b);
                (pairs[8 + 2 * n], pairs[8 + 2 * n + 1]) = (c, d);
            }
            pairs
        };
        Block { high: part(|w| w >> LOW_BITS), low: part(|w| w & ((1 << LOW_BITS) - 1)) }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_bytes(bytes: &[u8]) -> __m128i {
    assert!(bytes.len() >= 16);
    // SAFETY: 16 bytes are there, as just asked; the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_words(words: &[i16; 16]) -> __m256i {
    // SAFETY: the array has the 32 bytes that are read; the load needs no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[cfg(test)]
mod tests {
    use super::super::{Filter, horizontal};
    use super::*;

    #[test]
    fn vectors_give_what_the_plain_pass_gives() {
        let bytes: Vec<u8> =
            (0..301u32 * 4).map(|n| (n.wrapping_mul(2654435761) >> 24) as u8).collect();
        for width in [1, 2, 3, 5, 17, 100, 301] {
            for target in [1, 2, 7, 64, 300, 999] {
                for filter in [Filter::Bilinear, Filter::Bicubic] {
                    compare::<3>(&bytes[..width * 3], width, target, filter);
                    compare::<4>(&bytes[..width * 4], width, target, filter);
                }
            }
        }
    }

    fn compare<const C: usize>(source: &[u8], width: usize, target: usize, filter: Filter) {
        let weights = Weights::new(filter, width, target, 0..target);
        let Some(mut vectors) = Horizontal::new::<C>(&weights, width) else { return };
        let (mut fast, mut plain) = (vec![0; target * C], vec![0; target * C]);
        vectors.row::<C>(source, &mut fast);
        horizontal::row(&weights, source, &mut plain, C);
        assert_eq!(fast, plain, "{width} to {target}, {filter:?}");
    }
}
