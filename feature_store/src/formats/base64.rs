//! Arrays in base64, as TSV files and VOLTA's LMDB have them: little-endian numbers without a header.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytemuck::Pod;

/// The numbers of an array.
///
/// # Errors
/// What is wrong with the text: a byte that is not base64 and where it stands, or no whole number of numbers.
pub(super) fn decode<T: Pod>(text: &[u8], name: &str) -> Result<Vec<T>, String> {
    let fast = base64_simd::STANDARD;
    let bytes = fast.decoded_length(text).unwrap_or(0);
    let mut values = vec![T::zeroed(); bytes / size_of::<T>()];
    let out: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
    if out.len() != bytes || fast.decode(text, base64_simd::Out::from_slice(out)).is_err() {
        return Err(refusal::<T>(text, name));
    }
    if cfg!(target_endian = "big") {
        out.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
    }
    Ok(values)
}

/// Farther from an image's corner no pixel lies.
const FARTHEST: f64 = (1 << 24) as f64;

/// The corners of `count` boxes, if it is known, or of as many as there are. They are f32, or f64 where they are as long as
/// `count` boxes of those: corners may come out of a computation in NumPy that has made them so.
///
/// # Errors
/// What [`decode`] says; corners of f64 that lie in no image.
pub(super) fn boxes(text: &[u8], count: Option<usize>) -> Result<Vec<f32>, String> {
    let singles = decode::<f32>(text, "boxes")?;
    let Some(n) = count.filter(|n| *n > 0 && n.checked_mul(8) == Some(singles.len())) else {
        return Ok(singles);
    };
    let doubles = decode::<f64>(text, "boxes")?;
    // What is out of the way may as well be twice as many boxes of f32 and a wrong count.
    match doubles.iter().position(|x| !x.is_finite() || x.abs() > FARTHEST) {
        None => Ok(doubles.into_iter().map(|x| x as f32).collect()),
        Some(place) => Err(format!(
            "its boxes are {n} of f64 or {} of f32, it counts {n}, and value {place} of f64 is {:e}, which is in no image",
            2 * n,
            doubles[place]
        )),
    }
}

/// The slower decoder says where the text is wrong.
fn refusal<T>(text: &[u8], name: &str) -> String {
    match STANDARD.decode(text) {
        Err(_) if text.starts_with(b"b'") => format!(
            "its {name} are Python's spelling of bytes, b'…', not base64: write b64encode(…).decode()"
        ),
        Err(_) if text.starts_with(b"\"") => format!(
            "its {name} are in quotes, which these files do not have: write them with csv.QUOTE_NONE"
        ),
        Err(error) => format!("its {name} are not base64: {error}"),
        Ok(bytes) => {
            format!("its {name} are {} bytes, no multiple of {}", bytes.len(), size_of::<T>())
        }
    }
}

/// An array as text.
pub(super) fn encode<T: Pod>(values: &[T]) -> String {
    let bytes: &[u8] = bytemuck::cast_slice(values);
    if cfg!(target_endian = "big") {
        let turned = bytes.chunks_exact(size_of::<T>()).flat_map(|value| value.iter().rev());
        return base64_simd::STANDARD.encode_to_string(turned.copied().collect::<Vec<u8>>());
    }
    base64_simd::STANDARD.encode_to_string(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_wrong_is_named() {
        for length in [0, 1, 2, 3, 31, 1000] {
            let values: Vec<f32> = (0..length).map(|i| i as f32 - 7.5).collect();
            let text = encode(&values);
            assert_eq!(text, STANDARD.encode(bytemuck::cast_slice::<f32, u8>(&values)));
            assert_eq!(decode::<f32>(text.as_bytes(), "features").unwrap(), values);
        }
        let refused = |text: &str| decode::<f32>(text.as_bytes(), "boxes").unwrap_err();
        assert!(refused("AAAA!AA=").contains("boxes are not base64: Invalid symbol 33, offset 4"));
        assert!(refused("AAAAAA").contains("not base64"), "without padding");
        assert!(refused("AAAA").contains("3 bytes, no multiple of 4"));
    }

    #[test]
    fn boxes_of_f64_are_told_from_their_length_and_read_if_they_are_places() {
        let corners = [0.0f64, 0.1, 640.5, 480.0, 1.0, 2.0, 3.0, 1.0 / 3.0];
        let narrow = corners.map(|x| x as f32);
        let text = encode(&corners);
        assert_eq!(boxes(text.as_bytes(), Some(2)).unwrap(), narrow);
        for (text, count) in [(encode(&narrow), Some(2)), (encode(&narrow), None)] {
            assert_eq!(boxes(text.as_bytes(), count).unwrap(), narrow);
        }
        for count in [None, Some(0), Some(3), Some(4), Some(usize::MAX)] {
            assert_eq!(boxes(text.as_bytes(), count).unwrap().len(), 16, "{count:?}");
        }
        for wrong in [f64::NAN, f64::INFINITY, 1e300, -1e8] {
            let mut corners = corners;
            corners[5] = wrong;
            let said = boxes(encode(&corners).as_bytes(), Some(2)).unwrap_err();
            assert!(said.contains("value 5 of f64"), "{said}");
        }
        // Four boxes of f32 of which a line says that they are two.
        let four = encode(&[[0.0f32, 10.0, 200.0, 100.0]; 4]);
        assert!(boxes(four.as_bytes(), Some(2)).unwrap_err().contains("4 of f32"));
    }
}
