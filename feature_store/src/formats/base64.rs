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
}
