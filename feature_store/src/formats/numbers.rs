//! Numbers of foreign dumps as f32 and i64: a value that would become another is an error, never cut off or infinite unseen.

use unpickle::{Dtype, NdArray, Value};

use crate::RoundingError;

/// f32 values, and how far they are from those of the dump.
pub(super) type Measured = (Vec<f32>, RoundingError);

/// f64 values, rounded to f32, which is what every reader of such a dump makes of them.
///
/// # Errors
/// A finite value that f32 cannot hold.
pub(super) fn narrow(
    values: impl IntoIterator<Item = f64>,
    name: &str,
) -> Result<Vec<f32>, String> {
    let narrowed = |(place, value): (usize, f64)| {
        let narrow = value as f32;
        match value.is_finite() && !narrow.is_finite() {
            true => Err(format!("value {place} of its `{name}` is {value:e}, more than f32 holds")),
            false => Ok(narrow),
        }
    };
    values.into_iter().enumerate().map(narrowed).collect()
}

/// As [`narrow`], and how much was rounded; none at all is no different from f32 values.
///
/// # Errors
/// What [`narrow`] says.
pub(super) fn measured(values: &[f64], name: &str) -> Result<Measured, String> {
    let error = RoundingError::of_narrowing(values);
    let error = if error.largest > 0.0 { error } else { RoundingError::default() };
    Ok((narrow(values.iter().copied(), name)?, error))
}

/// Whole numbers as f32.
///
/// # Errors
/// One that f32 cannot hold exactly.
pub(super) fn exact(values: impl IntoIterator<Item = i64>, name: &str) -> Result<Vec<f32>, String> {
    let exactly = |value: i64| match value.unsigned_abs() <= 1 << f32::MANTISSA_DIGITS {
        true => Ok(value as f32),
        false => Err(format!("its `{name}` hold {value}, which f32 cannot hold exactly")),
    };
    values.into_iter().map(exactly).collect()
}

/// Floating-point numbers that are whole, as i64.
///
/// # Errors
/// One that is not.
pub(super) fn whole(values: impl IntoIterator<Item = f64>, name: &str) -> Result<Vec<i64>, String> {
    values.into_iter().map(|value| whole_number(value, name)).collect()
}

/// One of them.
fn whole_number(value: f64, name: &str) -> Result<i64, String> {
    // Whole numbers of an f64 are all there up to 2⁵³.
    match value.fract() == 0.0 && value.abs() <= (1u64 << f64::MANTISSA_DIGITS) as f64 {
        true => Ok(value as i64),
        false => Err(format!("its `{name}` hold {value}, which is no whole number")),
    }
}

/// u64 values as i64.
///
/// # Errors
/// One beyond.
pub(super) fn signed(
    values: impl IntoIterator<Item = u64>,
    name: &str,
) -> Result<Vec<i64>, String> {
    let signed = |value: u64| {
        i64::try_from(value).map_err(|_| format!("its `{name}` hold {value}, beyond 64 bits"))
    };
    values.into_iter().map(signed).collect()
}

/// A NumPy array of floating-point numbers, or of whole ones that f32 holds.
///
/// # Errors
/// What [`narrow`] and [`exact`] say.
pub(super) fn floats(array: &NdArray, name: &str) -> Result<Vec<f32>, String> {
    match array.dtype() {
        Dtype::F64 => narrow(array.to_f64s().unwrap_or_default(), name),
        _ => array.to_f32s().map_or_else(|| exact(integers(array, name)?, name), Ok),
    }
}

/// A NumPy array of features, which are what the record of rounding is about.
///
/// # Errors
/// What [`floats`] says.
pub(super) fn features(array: &NdArray, name: &str) -> Result<Measured, String> {
    match array.dtype() {
        Dtype::F64 => {
            let values = array.to_f64s().ok_or_else(|| format!("its `{name}` are malformed"))?;
            measured(&values, name)
        }
        _ => Ok((floats(array, name)?, RoundingError::default())),
    }
}

/// A NumPy array of whole numbers, of whatever type.
///
/// # Errors
/// What [`whole`] and [`signed`] say.
pub(super) fn integers(array: &NdArray, name: &str) -> Result<Vec<i64>, String> {
    if let Some(values) = array.to_i64s() {
        return Ok(values);
    }
    match array.to_f64s() {
        Some(values) => whole(values, name),
        None => Err(format!("its `{name}` hold a number beyond 64 bits")),
    }
}

/// A whole number of a dictionary, such as an image's width: a number of any type, an array of one, or text that spells one.
///
/// # Errors
/// What it is instead.
pub(super) fn integer(value: &Value, name: &str) -> Result<i64, String> {
    if let Some(number) = value.as_int() {
        return Ok(number);
    }
    match value {
        Value::Float(number) => whole_number(*number, name),
        Value::Array(array) => match integers(array, name)?[..] {
            [number] => Ok(number),
            ref numbers => Err(format!("its `{name}` are {} numbers", numbers.len())),
        },
        _ => Err(format!("its `{name}` is no number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_become_another_value_is_refused() {
        assert_eq!(narrow([1.5, f64::INFINITY], "a").unwrap(), [1.5, f32::INFINITY]);
        assert!(narrow([f64::NAN], "a").unwrap()[0].is_nan());
        assert!(narrow([0.0, 1e300], "a").unwrap_err().contains("value 1 of its `a` is 1e300"));
        assert_eq!(whole([-3.0, 640.0], "a").unwrap(), [-3, 640]);
        for value in [640.7, f64::NAN, f64::INFINITY, 1e300] {
            assert!(whole([value], "a").is_err(), "{value}");
        }
        assert_eq!(exact([1 << 24, -5], "a").unwrap(), [16_777_216.0, -5.0]);
        assert!(exact([(1 << 24) + 1], "a").is_err());
        assert!(exact([i64::MIN], "a").is_err());
        assert!(signed([1 << 63], "a").unwrap_err().contains("9223372036854775808"));
    }

    #[test]
    fn whole_numbers_stand_for_floating_point_ones_that_are_the_same() {
        let array = |items: &[u64]| {
            let bytes: Vec<u8> = items.iter().flat_map(|x| x.to_le_bytes()).collect();
            NdArray::new(Dtype::U64, vec![items.len()], bytes.into()).unwrap()
        };
        assert_eq!(floats(&array(&[0, 640]), "a").unwrap(), [0.0, 640.0]);
        for (item, reason) in [((1 << 24) + 1, "16777217"), (u64::MAX, "beyond 64 bits")] {
            let said = floats(&array(&[item]), "a").unwrap_err();
            assert!(said.contains(reason), "{said}");
        }
    }

    #[test]
    fn a_size_may_be_spelt_in_any_way_but_not_halved() {
        let array = |items: &[f64]| {
            let bytes: Vec<u8> = items.iter().flat_map(|x| x.to_le_bytes()).collect();
            Value::Array(NdArray::new(Dtype::F64, vec![items.len()], bytes.into()).unwrap())
        };
        for value in [Value::Int(7), Value::Float(7.0), Value::Str("7".into()), array(&[7.0])] {
            assert_eq!(integer(&value, "w"), Ok(7), "{value:?}");
        }
        for value in [Value::Float(7.5), Value::None, array(&[1.0, 2.0]), array(&[0.5])] {
            assert!(integer(&value, "w").is_err(), "{value:?}");
        }
    }
}
