//! From a file to pixels.

use std::io::Read;
use std::path::Path;

use super::{Image, ImageError, ImageFault, jpeg, png, webp};

/// What a picture may claim before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Width times height. The default, 179 million, is where Pillow suspects a decompression bomb.
    pub pixels: u64,
    /// Bytes of the file; 256 MiB by default.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { pixels: 178_956_970, bytes: 256 << 20 }
    }
}

impl Limits {
    /// Refuses a size before anything is allocated for it.
    pub(super) fn check(&self, width: u64, height: u64) -> Result<(), ImageFault> {
        if width == 0 || height == 0 {
            return Err(ImageFault::Empty { width, height });
        }
        if width.saturating_mul(height) > self.pixels {
            return Err(ImageFault::TooManyPixels { width, height, limit: self.pixels });
        }
        Ok(())
    }

    /// Bytes that a decoder may allocate: four channels of 16 bits, and its own tables.
    pub(super) fn memory(&self) -> usize {
        usize::try_from(self.pixels.saturating_mul(8))
            .unwrap_or(usize::MAX)
            .saturating_add(64 << 20)
    }
}

/// Reads and decodes a JPEG, PNG or WebP file; of an animation its first frame.
///
/// # Errors
/// [`ImageError`] with the file's name.
pub fn read(path: &Path, limits: &Limits) -> Result<Image, ImageError> {
    let bytes = read_bytes(path, limits).map_err(|fault| fault.of_file(path))?;
    decode_bytes(&bytes, limits).map_err(|fault| fault.of_file(path))
}

/// Decodes a file that is in memory; `name` is what errors call it.
///
/// # Errors
/// [`ImageError`] with the name.
pub fn decode(bytes: &[u8], name: &str, limits: &Limits) -> Result<Image, ImageError> {
    decode_bytes(bytes, limits).map_err(|fault| fault.of(name))
}

/// The bytes of a file, never more than the limit.
fn read_bytes(path: &Path, limits: &Limits) -> Result<Vec<u8>, ImageFault> {
    let file = feature_store::text::open(path).map_err(ImageFault::Io)?;
    let size = file.metadata().map_err(ImageFault::Io)?.len();
    let mut bytes = Vec::with_capacity(size.min(limits.bytes) as usize);
    file.take(limits.bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(ImageFault::Io)?;
    Ok(bytes)
}

fn decode_bytes(bytes: &[u8], limits: &Limits) -> Result<Image, ImageFault> {
    let size = bytes.len() as u64;
    if size > limits.bytes {
        return Err(ImageFault::TooManyBytes { bytes: size, limit: limits.bytes });
    }
    match bytes {
        [] => Err(ImageFault::Truncated),
        [0xff, 0xd8, ..] => jpeg::decode(bytes, limits),
        [0x89, b'P', b'N', b'G', ..] => png::decode(bytes, limits),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => {
            webp::decode(bytes, limits)
        }
        _ => {
            let first = bytes.iter().take(8).map(|byte| format!("{byte:02x}"));
            Err(ImageFault::UnknownFormat(first.collect::<Vec<_>>().join(" ")))
        }
    }
}
