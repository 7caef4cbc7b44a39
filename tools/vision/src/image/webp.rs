//! WebP, lossy and lossless; of an animation the first frame.

use std::io::{Cursor, ErrorKind};

use image_webp::{DecodingError, WebPDecoder};

use super::{Image, ImageFault, Limits, Orientation, Pixels};

/// Decodes one file.
pub(super) fn decode(file: &[u8], limits: &Limits) -> Result<Image, ImageFault> {
    let mut decoder = WebPDecoder::new(Cursor::new(file)).map_err(fault)?;
    let (width, height) = decoder.dimensions();
    limits.check(width.into(), height.into())?;
    decoder.set_memory_limit(limits.memory());
    let orientation = match decoder.exif_metadata() {
        Ok(Some(block)) => Orientation::from_exif(&block),
        _ => Orientation::Upright,
    };
    let size = decoder.output_buffer_size().ok_or(ImageFault::TooManyPixels {
        width: width.into(),
        height: height.into(),
        limit: limits.pixels,
    })?;
    let mut data = vec![0; size];
    decoder.read_image(&mut data).map_err(fault)?;
    let pixels = if decoder.has_alpha() { Pixels::Rgba(data) } else { Pixels::Rgb(data) };
    Ok(Image { width: width as usize, height: height as usize, pixels, orientation })
}

fn fault(error: DecodingError) -> ImageFault {
    match error {
        DecodingError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => ImageFault::Truncated,
        other => ImageFault::Damaged(other.to_string()),
    }
}
