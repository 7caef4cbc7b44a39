//! Numbers of another type that were read as f32: base64, which names no type, lets it happen.

use std::ops::Range;

/// Fewer values tell nothing.
const FEW: u32 = 64;

/// Finds features that are numbers of another type.
///
/// # Errors
/// What they look like.
pub(super) fn check_type(features: &[f32]) -> Result<(), String> {
    check_sizes(features)?;
    check_lower_halves(features)
}

/// f64 in halves, and f16 in pairs if zeros or small numbers are among them, have sizes that no features have.
fn check_sizes(features: &[f32]) -> Result<(), String> {
    const SMALLEST: f32 = 1e-9;
    const LARGEST: f32 = 1e6;
    let (smallest, largest) = (SMALLEST.to_bits(), LARGEST.to_bits());
    let (mut there, mut odd) = (0u32, 0u32);
    // On the bits, and without a way out, the loop over all becomes vectors.
    for value in features {
        let size = value.to_bits() & 0x7FFF_FFFF;
        there += u32::from(size != 0);
        odd += u32::from((size != 0) & ((size < smallest) | (size > largest)));
    }
    if there < FEW || odd < there / 16 {
        return Ok(());
    }
    Err(format!(
        "{:.0} % of its values are nearer to 0 than {SMALLEST:e} or beyond {LARGEST:e}, as those of another type (f16, f64) \
         are when they are read as f32; base64 does not say its type, NumPy arrays do",
        100.0 * f64::from(odd) / f64::from(there)
    ))
}

/// Of f16 or bf16 in pairs the lower half of each value is a number itself, of the size that features have. Those of true f32
/// are the last bits of mantissas: any, one as often as the other, or a few if the values were rounded. So different ones are
/// counted, among some values of an image; one that comes often would say as much as all of them.
fn check_lower_halves(features: &[f32]) -> Result<(), String> {
    const LOOKED_AT: usize = 2048;
    // Exponents of f16 for sizes from 2⁻¹⁰ to 2⁶: half of all there are. Those of bf16 from 2⁻²³ to 2¹⁶ begin with the same bits.
    const SIZES: Range<usize> = 5..21;
    /// Words of bits that an exponent's mantissas take.
    const WORDS: usize = 16;
    // A bit for each of all there are, which is quicker than sorting those that are there.
    let mut halves = [0u64; 64 * WORDS];
    for value in features.iter().step_by(features.len().div_ceil(LOOKED_AT).max(1)) {
        let half = value.to_bits() as u16;
        halves[usize::from(half >> 6)] |= u64::from(*value != 0.0) << (half & 63);
    }
    let count = |words: &[u64]| words.iter().map(|word| word.count_ones()).sum::<u32>();
    let (positive, negative) = halves.split_at(32 * WORDS);
    let sizes = SIZES.start * WORDS..SIZES.end * WORDS;
    let (there, of_features) =
        (count(&halves), count(&positive[sizes.clone()]) + count(&negative[sizes]));
    if there < FEW || of_features <= there - there / 16 {
        return Ok(());
    }
    Err("the lower halves of its values are numbers of 16 bits themselves, as of f16 or bf16 in pairs that are read as f32; \
         base64 does not say its type, NumPy arrays do"
        .into())
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    /// Numbers from 0 to 1, each as likely as the other.
    fn uniform(count: usize) -> Vec<f32> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 11) as f64 / (1u64 << 53) as f64) as f32
        };
        (0..count).map(|_| next()).collect()
    }

    /// The standard normal distribution, about.
    fn normal(count: usize) -> Vec<f32> {
        uniform(12 * count).chunks(12).map(|twelve| twelve.iter().sum::<f32>() - 6.0).collect()
    }

    /// What reading pairs of 16 bits as f32 makes of numbers.
    fn pairs(values: &[f32], bits: impl Fn(f32) -> u16) -> Vec<f32> {
        let pair = |pair: &[f32]| u32::from(bits(pair[1])) << 16 | u32::from(bits(pair[0]));
        values.chunks_exact(2).map(|values| f32::from_bits(pair(values))).collect()
    }

    fn map(values: &[f32], change: impl Fn(f32) -> f32) -> Vec<f32> {
        values.iter().map(|x| change(*x)).collect()
    }

    /// Features as detectors and others make them.
    fn sound() -> Vec<(&'static str, Vec<f32>)> {
        let (normal, uniform) = (normal(8192), uniform(8192));
        let length = normal.iter().map(|x| x * x).sum::<f32>().sqrt();
        let scale = 0.012_345_679;
        vec![
            ("normalised", map(&normal[..2048], |x| x / length * 2.0)),
            ("thousandths", map(&normal, |x| x * 1e-3)),
            ("thousands", map(&normal, |x| x * 1e3)),
            ("rectified", map(&normal, |x| x.max(0.0))),
            ("mostly zeros", map(&normal, |x| (x - 1.5).max(0.0))),
            ("large", map(&uniform, |x| 4.0 * x + 0.5)),
            ("f16 before", map(&normal, |x| f16::from_f32(x).to_f32())),
            ("bf16 before", map(&normal, |x| bf16::from_f32(x).to_f32())),
            ("mean of f16", map(&normal, |x| f16::from_f32(x).to_f32() / 196.0)),
            ("bytes", map(&uniform, |x| (x * 255.0).round() / 255.0)),
            ("int8", map(&normal, |x| (x / scale).round() * scale)),
            ("a third", map(&uniform, |_| 1.0 / 3.0)),
            ("mostly a third", map(&uniform, |x| if x < 0.9 { 1.0 / 3.0 } else { x })),
            ("hundredths", map(&uniform, |x| (x * 1000.0).round() / 100.0)),
            ("whole", map(&uniform, |x| (x * 1e5).round())),
            ("sigmoid", map(&normal, |x| 1.0 / (1.0 + (-x).exp()))),
            ("few", normal[..80].to_vec()),
            ("uniform", uniform),
            ("normal", normal),
        ]
    }

    #[test]
    fn features_of_any_making_are_no_finding() {
        for (name, features) in sound() {
            assert_eq!(check_type(&features), Ok(()), "{name}");
        }
    }

    #[test]
    fn pairs_of_sixteen_bits_are_a_finding_whatever_their_sizes() {
        let (normal, uniform) = (normal(8192), uniform(8192));
        let half = |x: f32| f16::from_f32(x).to_bits();
        for (name, values) in [
            ("large", map(&uniform, |x| 4.0 * x + 0.5)),
            ("from a sixteenth to eight", map(&uniform, |x| (7.0 * x).exp2() / 16.0)),
            ("the whole range", map(&uniform, |x| (17.0 * x).exp2() / 16384.0)),
            ("rectified", map(&normal, |x| x.max(0.0))),
            ("few", map(&uniform[..200], |x| 4.0 * x + 0.5)),
            ("uniform", uniform.clone()),
            ("normal", normal.clone()),
        ] {
            assert!(check_type(&pairs(&values, half)).is_err(), "{name}");
        }
        let brain = |x: f32| bf16::from_f32(x).to_bits();
        for (name, values) in [("normal", &normal), ("uniform", &uniform)] {
            assert!(check_type(&pairs(values, brain)).is_err(), "{name} in bf16");
        }
    }
}
