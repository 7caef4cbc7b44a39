//! From a file's own pixels to red, green and blue, as two libraries do it.
//!
//! The detector's images are read by OpenCV and CLIP's by Pillow; they differ in ink, in opacity and in what a palette
//! means when the picture is resized.

use super::{Image, Pixels, Raster};

/// Red, green, blue, upright: the pixels that OpenCV's `imread` in its colour mode gives (in its order they are blue,
/// green, red). Opacity is dropped, orientation applied.
pub fn upright_rgb(image: Image) -> Raster<3> {
    let data = match image.pixels {
        Pixels::Grey(data) => data.iter().flat_map(|&grey| [grey; 3]).collect(),
        Pixels::GreyAlpha(data) => data.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        Pixels::Rgb(data) => data,
        Pixels::Rgba(data) => data.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        Pixels::Cmyk(data) => data.chunks_exact(4).flat_map(opencv_rgb).collect(),
        Pixels::Indexed { indices, palette } => colours(&indices, &palette),
    };
    image.orientation.apply(Raster { width: image.width, height: image.height, data })
}

/// The colours of indices; of an index beyond the palette, black.
pub(crate) fn colours(indices: &[u8], palette: &[[u8; 3]]) -> Vec<u8> {
    let colour = |&index: &u8| palette.get(usize::from(index)).copied().unwrap_or_default();
    indices.iter().flat_map(colour).collect()
}

/// Red, green, blue of ink, with OpenCV's rounding.
fn opencv_rgb(ink: &[u8]) -> [u8; 3] {
    let paper = |channel: usize| 255 - i32::from(ink[channel]);
    let black = paper(3);
    [0, 1, 2].map(|c| (black - (((255 - paper(c)) * black) >> 8)) as u8)
}

/// Red, green, blue of ink, with Pillow's rounding.
pub(crate) fn pillow_rgb(ink: &[u8]) -> [u8; 3] {
    let light = 255 - ink[3];
    [0, 1, 2].map(|c| light - multiply(ink[c], light))
}

/// a·b/255, rounded, as Pillow computes it.
fn multiply(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}

/// Colours times opacity, in place: Pillow resizes transparent pictures so.
pub(crate) fn premultiply(rgba: &mut [u8]) {
    for pixel in rgba.chunks_exact_mut(4) {
        let alpha = pixel[3];
        for value in &mut pixel[..3] {
            *value = multiply(*value, alpha);
        }
    }
}

/// Colours divided by opacity, which is dropped.
pub(crate) fn unpremultiply(rgba: &[u8]) -> [u8; 3] {
    let alpha = u32::from(rgba[3]);
    [0, 1, 2].map(|c| match alpha {
        0 | 255 => rgba[c],
        _ => (255 * u32::from(rgba[c]) / alpha).min(255) as u8,
    })
}
