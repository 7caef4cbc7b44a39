//! Optional lossless compression of a record's body.
//!
//! The bytes of values are grouped first (all lowest bytes, then all second ones, …): neighbouring features share
//! exponents, not mantissas, so that only the grouped bytes repeat.

use serde::{Deserialize, Serialize};

/// How records are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all: features are read in place.
    #[default]
    None,
    /// LZ4 blocks.
    Lz4,
    /// Zstandard, level 3.
    Zstd,
}

/// Largest body that is unpacked; the largest known dump has images of 5 MB.
const MAX_BODY: usize = 64 << 20;
/// A record is stored compressed only if that saves at least one part in so many.
const WORTHWHILE: usize = 16;

impl Compression {
    /// All of them, in the order of their codes in a record.
    pub const ALL: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

    /// Its name as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<Compression> {
        Compression::ALL.into_iter().find(|compression| compression.code() == code)
    }
}

/// The compressed body, or `None` if that does not pay.
pub(crate) fn compress(
    body: &[u8],
    compression: Compression,
    value_size: usize,
) -> Option<Vec<u8>> {
    let packed = match compression {
        Compression::None => return None,
        Compression::Lz4 => lz4_flex::block::compress(&group(body, value_size)),
        Compression::Zstd => zstd::bulk::compress(&group(body, value_size), 3).ok()?,
    };
    (packed.len() + body.len() / WORTHWHILE < body.len()).then_some(packed)
}

/// The body of `length` bytes that was compressed.
///
/// # Errors
/// What does not unpack to exactly that length.
pub(crate) fn decompress(
    packed: &[u8],
    compression: Compression,
    value_size: usize,
    length: usize,
) -> Result<Vec<u8>, &'static str> {
    // LZ4 cannot shrink by more than 255, so a declared length beyond that is false; Zstandard can.
    let possible = match compression {
        Compression::Zstd => MAX_BODY,
        _ => MAX_BODY.min(packed.len().saturating_mul(255)),
    };
    if length > possible {
        return Err("it would unpack to more than is possible");
    }
    let grouped = match compression {
        Compression::None => return Err("it is not compressed"),
        Compression::Lz4 => {
            lz4_flex::block::decompress(packed, length).map_err(|_| "it does not unpack (lz4)")?
        }
        Compression::Zstd => {
            zstd::bulk::decompress(packed, length).map_err(|_| "it does not unpack (zstd)")?
        }
    };
    if grouped.len() != length {
        return Err("it unpacks to another length than its header says");
    }
    Ok(ungroup(&grouped, value_size))
}

/// Bytes at multiples of `size` first, then those one after them, and so on; the rest stays at the end.
fn group(bytes: &[u8], size: usize) -> Vec<u8> {
    let whole = bytes.len() / size * size;
    let mut out = Vec::with_capacity(bytes.len());
    for offset in 0..size {
        out.extend(bytes[..whole].iter().skip(offset).step_by(size));
    }
    out.extend_from_slice(&bytes[whole..]);
    out
}

fn ungroup(bytes: &[u8], size: usize) -> Vec<u8> {
    let count = bytes.len() / size;
    let mut out = vec![0; bytes.len()];
    for offset in 0..size {
        let from = &bytes[offset * count..(offset + 1) * count];
        out[offset..].iter_mut().step_by(size).zip(from).for_each(|(to, from)| *to = *from);
    }
    out[count * size..].copy_from_slice(&bytes[count * size..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_comes_back() {
        let body: Vec<u8> =
            (0..999u32).flat_map(|i| (i as f32 / 7.0).to_le_bytes()).chain([1, 2, 3]).collect();
        for compression in [Compression::Lz4, Compression::Zstd] {
            for size in [1, 2, 4] {
                let Some(packed) = compress(&body, compression, size) else { continue };
                assert_eq!(decompress(&packed, compression, size, body.len()).unwrap(), body);
                assert!(decompress(&packed, compression, size, body.len() + 1).is_err());
                assert!(decompress(&packed[..9], compression, size, body.len()).is_err());
            }
            assert!(compress(&body, compression, 4).is_some());
        }
        assert!(decompress(&[0; 8], Compression::Lz4, 4, 1 << 40).is_err());
    }
}
