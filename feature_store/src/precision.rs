//! How features are stored: f32, f16, bf16, or bytes with one scale per region.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// How features are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point: lossless for every known dump.
    #[default]
    F32,
    /// 16-bit floating point, rounded to nearest even: relative error at most 2⁻¹¹ up to 65504.
    F16,
    /// The upper half of an f32, rounded to nearest even: its range, relative error at most 2⁻⁸.
    Bf16,
    /// Bytes of `scale · [-127, 127]` with one f32 scale per region: error at most half the scale.
    Int8,
}

impl Precision {
    /// All of them, in the order of their codes in a record.
    pub const ALL: [Precision; 4] =
        [Precision::F32, Precision::F16, Precision::Bf16, Precision::Int8];

    /// Bytes per value.
    pub fn size(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::F16 | Precision::Bf16 => 2,
            Precision::Int8 => 1,
        }
    }

    /// Its name as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
        }
    }

    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<Precision> {
        Precision::ALL.into_iter().find(|precision| precision.code() == code)
    }
}

/// How far stored features are from those that were given to the first store they were in: exact where they were rounded
/// once, a bound where they were rounded again. Not finite if it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RoundingError {
    /// Largest absolute difference.
    pub largest: f64,
    /// Sum of the absolute differences.
    pub sum: f64,
    /// Number of values.
    pub values: u64,
}

impl RoundingError {
    /// Mean absolute difference, or its bound; 0 without values.
    pub fn mean(&self) -> f64 {
        let mean = if self.values == 0 { self.sum } else { self.sum / self.values as f64 };
        mean.min(self.largest)
    }

    /// Of values of which nobody knows any more what was given.
    pub(crate) const UNKNOWN: RoundingError =
        RoundingError { largest: f64::INFINITY, sum: f64::INFINITY, values: 0 };

    /// Of values that are kept to the last bit.
    pub(crate) fn none(values: usize) -> RoundingError {
        RoundingError { values: values as u64, ..RoundingError::default() }
    }

    /// Whether it can be the record of any rounding.
    pub(crate) fn is_possible(&self) -> bool {
        self.largest >= 0.0 && self.sum >= 0.0
    }

    /// Whether it is known.
    pub fn is_known(&self) -> bool {
        self.largest.is_finite()
    }

    /// Of values of a dump that are made f32; not finite ones stay what they are.
    pub(crate) fn of_narrowing(given: &[f64]) -> RoundingError {
        let mut error = RoundingError { values: given.len() as u64, ..RoundingError::default() };
        for &value in given.iter().filter(|value| value.is_finite()) {
            let difference = (value - f64::from(value as f32)).abs();
            error.largest = error.largest.max(difference);
            error.sum += difference;
        }
        error
    }

    /// The bound for values that were rounded before: as large an error on average as all that came with them.
    pub(crate) fn after(mut self, earlier: &RoundingError) -> RoundingError {
        self.largest += earlier.largest;
        if self.values > 0 {
            self.sum += earlier.mean() * self.values as f64;
        }
        self
    }

    pub(crate) fn add(&mut self, other: &RoundingError) {
        self.largest = self.largest.max(other.largest);
        self.sum += other.sum;
        self.values += other.values;
    }

    fn between(given: &[f32], stored: &[f32]) -> RoundingError {
        let (mut largest, mut sum) = (0.0f32, 0.0f64);
        // Sums of a block in f32, of the blocks in f64: fast and exact enough for a mean.
        for (given, stored) in given.chunks(1024).zip(stored.chunks(1024)) {
            let mut block = 0.0f32;
            for (given, stored) in given.iter().zip(stored) {
                let difference = (given - stored).abs();
                // Not a number, or infinite on both sides, is kept as it is.
                let difference = if difference.is_nan() { 0.0 } else { difference };
                largest = largest.max(difference);
                block += difference;
            }
            // Values near the end of f32 add up to more than it holds.
            let exact =
                || given.iter().zip(stored).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
            let held = block.is_finite();
            sum += if held {
                f64::from(block)
            } else {
                exact().filter(|x| x.is_finite()).sum::<f64>()
            };
        }
        RoundingError { largest: f64::from(largest), sum, values: given.len() as u64 }
    }
}

/// Appends features `[n, dim]` in a precision; for [`Precision::Int8`] the scales are returned, else nothing.
///
/// # Errors
/// A value that the precision cannot hold.
pub(crate) fn narrow(
    features: &[f32],
    dim: usize,
    precision: Precision,
    out: &mut Vec<u8>,
) -> Result<Vec<f32>, String> {
    check_range(features, dim, precision)?;
    match precision {
        Precision::F32 => {
            append(out, features, f32::to_le_bytes);
            Ok(Vec::new())
        }
        Precision::F16 => {
            let mut halves = vec![f16::ZERO; features.len()];
            halves.convert_from_f32_slice(features);
            append(out, halves.reinterpret_cast(), u16::to_le_bytes);
            Ok(Vec::new())
        }
        Precision::Bf16 => {
            let mut halves = vec![bf16::ZERO; features.len()];
            halves.convert_from_f32_slice(features);
            append(out, halves.reinterpret_cast(), u16::to_le_bytes);
            Ok(Vec::new())
        }
        Precision::Int8 => {
            features.chunks_exact(dim.max(1)).map(|row| quantise(row, out)).collect()
        }
    }
}

/// Refuses finite values that would become infinite; what is not finite stays as it is.
///
/// # Errors
/// The first such value and its region.
pub(crate) fn check_range(
    features: &[f32],
    dim: usize,
    precision: Precision,
) -> Result<(), String> {
    // From halfway between the largest number and the next power of two on, rounding to nearest ends at infinity.
    const BF16_END: f32 = f32::from_bits(0x7F7F_8000);
    let (end, largest) = match precision {
        Precision::F16 => (65_520.0, 65_504.0),
        Precision::Bf16 => (BF16_END, f32::from_bits(0x7F7F_0000)),
        Precision::F32 | Precision::Int8 => return Ok(()),
    };
    let is_beyond = |x: f32| (x.abs() >= end) & (x.abs() < f32::INFINITY);
    // Without a way out, the loop over all becomes vectors.
    if !features.iter().fold(false, |any, &x| any | is_beyond(x)) {
        return Ok(());
    }
    let at = features.iter().position(|&x| is_beyond(x)).unwrap_or(0);
    let instead = if features.iter().any(|x| x.is_finite() && x.abs() >= BF16_END) {
        "f32"
    } else {
        "bf16 or f32"
    };
    let (region, value, name) = (at / dim.max(1), features[at], precision.name());
    Err(format!(
        "region {region} holds {value:e}, {name} ends at {largest:e}; --precision {instead} holds all (with --force, after a \
         run that has begun in another)"
    ))
}

/// One region's values as bytes; returns their scale.
fn quantise(row: &[f32], out: &mut Vec<u8>) -> Result<f32, String> {
    let largest = row.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    if row.iter().any(|x| !x.is_finite()) {
        return Err("a feature is not finite, which int8 cannot hold".into());
    }
    let scale = largest / 127.0;
    // Rounded up, the largest scales would take 127 of them beyond f32.
    let scale = if (127.0 * scale).is_finite() { scale } else { scale.next_down() };
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    // Subnormal scales have no finite inverse: such a row is all but zero.
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    out.extend(
        row.iter().map(|x| (x * inverse).round_ties_even().clamp(-127.0, 127.0) as i8 as u8),
    );
    Ok(scale)
}

/// Widens stored features into `out`, `[rows, dim]`; `scales` are read only for [`Precision::Int8`].
pub(crate) fn widen(
    bytes: &[u8],
    dim: usize,
    precision: Precision,
    scales: impl Fn(usize) -> f32,
    out: &mut [f32],
) {
    let bytes = &bytes[..out.len() * precision.size()];
    match precision {
        Precision::F32 if cfg!(target_endian = "little") => {
            bytemuck::cast_slice_mut::<f32, u8>(out).copy_from_slice(bytes);
        }
        Precision::F32 => {
            out.iter_mut().zip(bytes.as_chunks().0).for_each(|(x, b)| *x = f32::from_le_bytes(*b));
        }
        Precision::F16 => match bytemuck::try_cast_slice::<u8, u16>(bytes) {
            Ok(halves) if cfg!(target_endian = "little") => {
                halves.reinterpret_cast::<f16>().convert_to_f32_slice(out);
            }
            _ => out
                .iter_mut()
                .zip(bytes.as_chunks().0)
                .for_each(|(x, b)| *x = f16::from_le_bytes(*b).to_f32()),
        },
        // An upper half needs no more than a shift, which compilers turn into vectors.
        Precision::Bf16 => out
            .iter_mut()
            .zip(bytes.as_chunks().0)
            .for_each(|(x, b)| *x = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16)),
        Precision::Int8 => {
            let rows = out.chunks_mut(dim.max(1)).zip(bytes.chunks(dim.max(1)));
            for (row, (out, bytes)) in rows.enumerate() {
                let scale = scales(row);
                out.iter_mut().zip(bytes).for_each(|(x, &b)| *x = f32::from(b as i8) * scale);
            }
        }
    }
}

/// How far `stored` (as written by [`narrow`]) is from the features it was made of.
pub(crate) fn rounding_error(
    features: &[f32],
    dim: usize,
    precision: Precision,
    stored: &[u8],
    scales: &[f32],
) -> RoundingError {
    if precision == Precision::F32 {
        return RoundingError::none(features.len());
    }
    let mut back = vec![0.0; features.len()];
    widen(stored, dim, precision, |row| scales[row], &mut back);
    RoundingError::between(features, &back)
}

fn append<T: bytemuck::NoUninit, const N: usize>(
    out: &mut Vec<u8>,
    values: &[T],
    to_le_bytes: fn(T) -> [u8; N],
) {
    if cfg!(target_endian = "little") {
        out.extend_from_slice(bytemuck::cast_slice(values));
    } else {
        values.iter().for_each(|&value| out.extend(to_le_bytes(value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_precision_keeps_its_promise() {
        let features: Vec<f32> =
            (0..512).map(|i| ((i * 7919) % 1000) as f32 / 300.0 - 1.0).collect();
        for precision in Precision::ALL {
            let mut bytes = Vec::new();
            let scales = narrow(&features, 128, precision, &mut bytes).unwrap();
            assert_eq!(bytes.len(), features.len() * precision.size());
            let error = rounding_error(&features, 128, precision, &bytes, &scales);
            let bound = match precision {
                Precision::F32 => 0.0,
                Precision::F16 => 2.4 / 2048.0,
                Precision::Bf16 => 2.4 / 256.0,
                Precision::Int8 => 2.4 / 127.0 / 2.0,
            };
            assert!(error.largest <= bound, "{precision:?}: {error:?}");
            assert!(precision == Precision::F32 || error.mean() > 0.0);
        }
    }

    #[test]
    fn no_finite_value_becomes_infinite() {
        let kept = |value: f32, precision| {
            let mut bytes = Vec::new();
            let scales = narrow(&[0.0, value], 1, precision, &mut bytes)?;
            let mut back = [0.0; 2];
            widen(&bytes, 1, precision, |row| scales[row], &mut back);
            Ok::<f32, String>(back[1])
        };
        assert_eq!(kept(65_519.0, Precision::F16), Ok(65_504.0));
        for value in [65_520.0, -70_000.0, 3e38] {
            let refused = kept(value, Precision::F16).unwrap_err();
            assert!(refused.starts_with("region 1") && refused.contains("bf16"), "{refused}");
        }
        assert!(kept(3.39e38, Precision::Bf16).unwrap().is_finite());
        assert!(kept(f32::MAX, Precision::Bf16).unwrap_err().contains("--precision f32"));
        assert_eq!(kept(f32::INFINITY, Precision::F16), Ok(f32::INFINITY));
        for value in [f32::MAX, f32::MAX.next_down(), -3.4e38] {
            assert!(kept(value, Precision::Int8).unwrap().is_finite(), "{value}");
        }
        let apart = RoundingError::between(&[f32::MAX; 9], &[0.0; 9]);
        assert!(apart.sum.is_finite());
    }

    #[test]
    fn bytes_hold_zeros_and_refuse_infinity() {
        let mut bytes = Vec::new();
        assert_eq!(narrow(&[0.0; 4], 4, Precision::Int8, &mut bytes).unwrap(), [0.0]);
        assert_eq!(bytes, [0; 4]);
        assert!(narrow(&[1.0, f32::INFINITY], 2, Precision::Int8, &mut bytes).is_err());
        assert!(narrow(&[1.0, f32::NAN], 2, Precision::Int8, &mut bytes).is_err());
    }
}
