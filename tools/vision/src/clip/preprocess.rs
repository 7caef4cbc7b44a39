//! From a picture to CLIP's input: shorter side to n, centre crop, red, green, blue, normalised.

use crate::image::resize::{Filter, Window, nearest, resize};
use crate::image::{Image, ImageFault, Pixels, Raster, colour};

/// Subtracted from red, green and blue in 0..1.
#[allow(clippy::excessive_precision)] // The original's digits.
pub const MEAN: [f32; 3] = [0.48145466, 0.4578275, 0.40821073];
/// Red, green and blue are then divided by these.
#[allow(clippy::excessive_precision)] // The original's digits.
pub const STD: [f32; 3] = [0.26862954, 0.26130258, 0.27577711];

/// Longest side after resizing; a picture beyond it is 75,000 times as long as it is wide.
const MAX_SIDE: usize = 1 << 24;

/// How a picture becomes CLIP's input.
///
/// As in the original, EXIF orientation is not applied, a palette is resized with the nearest pixel, transparent colours
/// are resized premultiplied, and opacity is then dropped. One thing differs: of a grey picture of 16 bits the upper 8
/// are used, where Pillow makes it all but white.
#[derive(Debug, Clone)]
pub struct Preprocess {
    size: usize,
    /// The normalised value of every pixel value, per channel.
    normalised: [[f32; 256]; 3],
}

impl Preprocess {
    /// For a model that takes `size` by `size` pixels (224).
    pub fn new(size: usize) -> Preprocess {
        let value =
            |channel: usize, pixel: usize| (pixel as f32 / 255.0 - MEAN[channel]) / STD[channel];
        let normalised =
            [0, 1, 2].map(|channel| std::array::from_fn(|pixel| value(channel, pixel)));
        Preprocess { size, normalised }
    }

    /// Pixels of a side.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The size that a picture is resized to, and the part of it that is kept.
    pub fn geometry(&self, width: usize, height: usize) -> ((usize, usize), Window) {
        let n = self.size;
        // f64 as in the original; whole numbers of this size are exact in it.
        let longer = |long: usize, short: usize| (n as f64 * long as f64 / short as f64) as usize;
        let (new_width, new_height) = match width <= height {
            true => (n, longer(height, width)),
            false => (longer(width, height), n),
        };
        let start = |side: usize| ((side - n) as f64 / 2.0).round_ties_even() as usize;
        let window = Window { left: start(new_width), top: start(new_height), width: n, height: n };
        ((new_width, new_height), window)
    }

    /// The crop in red, green, blue: `[size, size, 3]`.
    ///
    /// # Errors
    /// [`ImageFault::TooNarrow`] if the longer side would have millions of pixels.
    pub fn crop(&self, image: Image) -> Result<Raster<3>, ImageFault> {
        let Image { width, height, pixels, .. } = image;
        let (size, window) = self.geometry(width, height);
        if size.0.max(size.1) > MAX_SIDE {
            let (new_width, new_height) = size;
            return Err(ImageFault::TooNarrow { width, height, new_width, new_height });
        }
        let data = match pixels {
            Pixels::Rgb(data) => {
                let source = Raster::<3> { width, height, data };
                return Ok(resize(&source, size, Filter::Bicubic, window));
            }
            Pixels::Grey(data) => {
                let source = Raster::<1> { width, height, data };
                let grey = resize(&source, size, Filter::Bicubic, window);
                grey.data.iter().flat_map(|&value| [value; 3]).collect()
            }
            Pixels::Cmyk(data) => {
                let source = Raster::<4> { width, height, data };
                let ink = resize(&source, size, Filter::Bicubic, window);
                ink.data.chunks_exact(4).flat_map(colour::pillow_rgb).collect()
            }
            Pixels::GreyAlpha(data) => {
                let rgba = data.chunks_exact(2).flat_map(|p| [p[0], p[0], p[0], p[1]]).collect();
                self.transparent(Raster { width, height, data: rgba }, size, window)
            }
            Pixels::Rgba(data) => self.transparent(Raster { width, height, data }, size, window),
            Pixels::Indexed { indices, palette } => {
                let source = Raster::<1> { width, height, data: indices };
                colour::colours(&nearest(&source, size, window).data, &palette)
            }
        };
        Ok(Raster { width: window.width, height: window.height, data })
    }

    fn transparent(&self, mut source: Raster<4>, size: (usize, usize), window: Window) -> Vec<u8> {
        if size == (source.width, source.height) {
            // Nothing is resized, so nothing is premultiplied and rounded.
            let kept = resize(&source, size, Filter::Bicubic, window);
            return kept.data.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
        }
        colour::premultiply(&mut source.data);
        let resized = resize(&source, size, Filter::Bicubic, window);
        resized.data.chunks_exact(4).flat_map(colour::unpremultiply).collect()
    }

    /// The network's input, `[3, size, size]`.
    ///
    /// # Errors
    /// As [`Preprocess::crop`].
    pub fn apply(&self, image: Image) -> Result<Vec<f32>, ImageFault> {
        Ok(self.normalise(&self.crop(image)?))
    }

    /// The network's input from the crop, `[3, size, size]`.
    pub fn normalise(&self, crop: &Raster<3>) -> Vec<f32> {
        let pixels = crop.data.chunks_exact(3);
        let plane = |channel: usize| {
            let values = &self.normalised[channel];
            pixels.clone().map(move |pixel| values[usize::from(pixel[channel])])
        };
        [0, 1, 2].into_iter().flat_map(plane).collect()
    }
}
