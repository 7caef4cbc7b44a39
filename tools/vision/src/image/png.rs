//! PNG, in its own kind of pixels.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, DecodingError, Transformations};

use super::{Image, ImageFault, Limits, Orientation, Pixels};

/// Decodes one file; of 16 bits the upper 8 are kept, fewer than 8 bits of grey are spread over 0..255.
pub(super) fn decode(file: &[u8], limits: &Limits) -> Result<Image, ImageFault> {
    let mut decoder =
        Decoder::new_with_limits(Cursor::new(file), png::Limits { bytes: limits.memory() });
    decoder.set_transformations(Transformations::IDENTITY);
    // A damaged colour profile or comment does not damage the picture.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let header = decoder.read_header_info().map_err(fault)?;
    let (width, height) = (header.width, header.height);
    limits.check(u64::from(width), u64::from(height))?;
    let mut reader = decoder.read_info().map_err(fault)?;
    let size = reader.output_buffer_size().ok_or(ImageFault::TooManyPixels {
        width: width.into(),
        height: height.into(),
        limit: limits.pixels,
    })?;
    let mut data = vec![0; size];
    reader.next_frame(&mut data).map_err(fault)?;
    let (colour, depth) = reader.output_color_type();
    let palette = reader.info().palette.as_deref().map(<[u8]>::to_vec);
    // Orientation may come after the pixels, and what comes after the pixels may be damaged.
    let _ = reader.finish();
    let orientation =
        reader.info().exif_metadata.as_deref().map(Orientation::from_exif).unwrap_or_default();
    let (width, height) = (width as usize, height as usize);
    let data = to_bytes(data, width, colour, depth);
    let pixels = match colour {
        ColorType::Grayscale if depth == BitDepth::One => {
            Pixels::Indexed { indices: data, palette: vec![[0; 3], [255; 3]] }
        }
        ColorType::Grayscale => Pixels::Grey(data),
        ColorType::GrayscaleAlpha => Pixels::GreyAlpha(data),
        ColorType::Rgb => Pixels::Rgb(data),
        ColorType::Rgba => Pixels::Rgba(data),
        ColorType::Indexed => {
            let palette = palette.unwrap_or_default();
            let palette = palette.chunks_exact(3).map(|c| [c[0], c[1], c[2]]).collect();
            Pixels::Indexed { indices: data, palette }
        }
    };
    Ok(Image { width, height, pixels, orientation })
}

/// One byte per sample, whatever the depth.
fn to_bytes(data: Vec<u8>, width: usize, colour: ColorType, depth: BitDepth) -> Vec<u8> {
    let bits = match depth {
        BitDepth::Eight => return data,
        BitDepth::Sixteen => return data.chunks_exact(2).map(|sample| sample[0]).collect(),
        BitDepth::One => 1,
        BitDepth::Two => 2,
        BitDepth::Four => 4,
    };
    let mask = (1u8 << bits) - 1;
    // Indices stay what they are, and so does a picture of one bit, which is kept as indices.
    let scale = if colour == ColorType::Grayscale && bits > 1 { 255 / mask } else { 1 };
    let row_bytes = (width * bits).div_ceil(8);
    let samples = data.chunks_exact(row_bytes).flat_map(|row| {
        (0..width).map(move |x| {
            let at = x * bits;
            (row[at / 8] >> (8 - bits - at % 8)) & mask
        })
    });
    samples.map(|sample| sample * scale).collect()
}

fn fault(error: DecodingError) -> ImageFault {
    match error {
        DecodingError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageFault::Truncated
        }
        other => ImageFault::Damaged(plain(&other.to_string())),
    }
}

/// A message in which kinds of chunks are spelt by their four letters: the library spells them as a programmer would see
/// them.
fn plain(message: &str) -> String {
    let Some((before, rest)) = message.split_once("ChunkType { type: ") else {
        return message.to_owned();
    };
    let Some((kind, after)) = rest.split_once('}') else { return message.to_owned() };
    format!("{before}{}{after}", kind.split(',').next().unwrap_or_default())
}
