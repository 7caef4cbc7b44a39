//! Numbers of another type that were read as f32: base64, which names no type, lets it happen.

/// Fewer values tell nothing.
const FEW: u32 = 64;
/// Values of an image that are looked at, in pairs from all over it, at most.
const LOOKED_AT: usize = 4096;

/// Finds features that are numbers of another type.
///
/// # Errors
/// What they look like.
pub(super) fn check_type(features: &[f32]) -> Result<(), String> {
    let pairs = features.as_chunks::<2>().0;
    let pairs: Vec<[f32; 2]> =
        pairs.iter().step_by(features.len().div_ceil(LOOKED_AT).max(1)).copied().collect();
    let what = if are_whole(pairs.as_flattened()) {
        "its values are nearer to 0 than any f32 of full precision, as whole numbers"
    } else if are_parts_of_f64(&pairs) {
        "every other of its values is of a size that no features have, as halves of f64"
    } else if are_pairs(pairs.as_flattened()) {
        "the lower halves of its values are numbers of 16 bits themselves, as of f16 or bf16 in pairs"
    } else {
        return Ok(());
    };
    Err(format!("{what} that are read as f32; base64 does not say its type, NumPy arrays do"))
}

/// Integers that are not huge are subnormal as f32, nearly all of them.
fn are_whole(features: &[f32]) -> bool {
    let count = |is: &dyn Fn(f32) -> bool| features.iter().filter(|x| is(**x)).count() as u32;
    let (there, subnormal) = (count(&|x| x != 0.0), count(&f32::is_subnormal));
    there >= FEW && subnormal > there - there / 16
}

/// Of an f64 the higher half is a number of a usual size as f32, the lower one of any: its exponent are bits of a mantissa.
/// In probabilities or what has a heavy tail there are such sizes, too, but no fewer at odd places than at even ones.
fn are_parts_of_f64(pairs: &[[f32; 2]]) -> bool {
    let is_odd = |x: &f32| !(1e-9..=1e6).contains(&x.abs());
    let count = |half: usize| {
        let there = pairs.iter().map(|pair| pair[half]).filter(|x| *x != 0.0);
        (there.clone().count() as u32, there.filter(is_odd).count() as u32)
    };
    let ((there, lower), (_, higher)) = (count(0), count(1));
    there >= FEW && lower > there / 8 && higher < lower / 16
}

/// Of f16 or bf16 in pairs the lower half of each value is a number itself, and numbers of one kind have few exponents. The
/// lower halves of true f32 are the last bits of mantissas: any, one as often as the other, or a few if the values were
/// rounded. So different ones are counted; one that comes often would say as much as all of them.
fn are_pairs(features: &[f32]) -> bool {
    /// So many different halves within so many of the 32 exponents of f16 are no accident. Those of bf16 begin with the same
    /// bits, three for one.
    const CLOSE: [(u32, usize); 2] = [(FEW, 16), (FEW / 4, 2)];
    let (mut lower, mut higher) = (Halves::default(), Halves::default());
    for value in features.iter().filter(|value| **value != 0.0) {
        lower.add(value.to_bits() as u16);
        higher.add((value.to_bits() >> 16) as u16);
    }
    let by_exponent = lower.by_exponent();
    let there: u32 = by_exponent.iter().sum();
    // Where the higher halves do not differ as the lower ones do, it is true f32 about one value.
    let both_differ = higher.by_exponent().iter().sum::<u32>() >= there / 4;
    let are_close = |(few, exponents): (u32, usize)| {
        let mut windows = by_exponent.windows(exponents);
        there >= few && windows.any(|window| window.iter().sum::<u32>() > there - there / 16)
    };
    both_differ && CLOSE.into_iter().any(are_close)
}

/// Which of all numbers of 16 bits there are: a bit for each, which is quicker than sorting those that are there.
struct Halves([u64; 64 * Halves::WORDS]);

impl Default for Halves {
    fn default() -> Halves {
        Halves([0; 64 * Halves::WORDS])
    }
}

impl Halves {
    /// Words of bits that an exponent's mantissas take.
    const WORDS: usize = 16;

    fn add(&mut self, half: u16) {
        self.0[usize::from(half >> 6)] |= 1 << (half & 63);
    }

    /// How many different ones there are of each exponent of f16, whatever their sign.
    fn by_exponent(&self) -> [u32; 32] {
        let (positive, negative) = self.0.split_at(32 * Halves::WORDS);
        let count = |words: &[u64], exponent: usize| -> u32 {
            let words = &words[exponent * Halves::WORDS..][..Halves::WORDS];
            words.iter().map(|word| word.count_ones()).sum()
        };
        std::array::from_fn(|exponent| count(positive, exponent) + count(negative, exponent))
    }
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

    /// Distributions over 1024 classes each.
    fn softmax(logits: &[f32]) -> Vec<f32> {
        let distribution = |logits: &[f32]| {
            let largest = logits.iter().copied().fold(f32::MIN, f32::max);
            let powers = map(logits, |x| (x - largest).exp());
            let sum: f32 = powers.iter().sum();
            map(&powers, |x| x / sum)
        };
        logits.chunks(1024).flat_map(distribution).collect()
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
            ("probabilities", softmax(&map(&normal, |x| 8.0 * x))),
            ("certain probabilities", softmax(&map(&normal, |x| 30.0 * x))),
            ("heavy tails", map(&normal, |x| (12.0 * x).exp())),
            ("about three", map(&uniform, |x| 3.0 + x * 1e-4)),
            ("about one", map(&uniform, |x| 1.0 + x * 1e-3)),
            ("twentieths", map(&uniform, |x| (x * 20.0).round() / 20.0)),
            ("fiftieths", map(&uniform, |x| (x * 50.0).round() * 0.02)),
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
            ("about three", map(&uniform, |x| 2.95 + 0.1 * x)),
            ("thousandths", map(&normal, |x| x * 1e-3)),
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

    #[test]
    fn halves_of_f64_and_whole_numbers_are_a_finding() {
        // Sums of few bits become f32 with all of them.
        let (normal, uniform) = (map(&normal(8192), |x| x / 1.1), uniform(8192));
        for (name, values) in [
            ("normal", normal.clone()),
            ("rectified", map(&normal, |x| x.max(0.0))),
            ("whole", map(&uniform, |x| (x * 1000.0).round())),
        ] {
            // Divided as f64, so that the last bits are there; and what was f32 before, of which they are not.
            for divisor in [300.0, 1.0] {
                let bytes = values.iter().flat_map(|x| (f64::from(*x) / divisor).to_le_bytes());
                let bytes: Vec<u8> = bytes.collect();
                let halves = bytes.as_chunks::<4>().0.iter().map(|half| f32::from_le_bytes(*half));
                let found = check_type(&halves.collect::<Vec<_>>());
                // Whole numbers end in zeros as f64, too: nothing is strange about them.
                let expected = name != "whole" || divisor > 1.0;
                assert_eq!(found.is_err(), expected, "{name} / {divisor}: {found:?}");
            }
        }
        let whole = map(&uniform, |x| f32::from_bits((x * 255.0) as u32));
        assert!(check_type(&whole).unwrap_err().contains("whole numbers"));
    }
}
