//! From a picture to the detector's input.

use crate::image::resize::{Filter, Window, bilinear_f32, resize_rows};
use crate::image::{Image, ImageFault, Raster, colour};

/// Subtracted from blue, green and red.
pub const PIXEL_MEANS: [f32; 3] = [102.9801, 115.9465, 122.7717];

/// How large the network's image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizing {
    /// Pixels of the shorter side, unless the longer one would be too long.
    pub short: usize,
    /// Most pixels of the longer side.
    pub longest: usize,
}

/// Fewest pixels of a side that the network's first layers leave something of.
const SHORTEST: usize = 3;

impl Default for Sizing {
    /// 800 and 1333: VOLTA's, with which the known features were made.
    fn default() -> Sizing {
        Sizing { short: 800, longest: 1333 }
    }
}

impl Sizing {
    /// 600 and 1000: Caffe's.
    pub const CAFFE: Sizing = Sizing { short: 600, longest: 1000 };

    /// Height and width of the network's image for a picture of that height and width.
    pub fn target(&self, height: usize, width: usize) -> (usize, usize) {
        let (short, longest) = (self.short as f64, self.longest as f64);
        let (h, w) = (height as f64, width as f64);
        let scale = short / h.min(w);
        let (mut new_h, mut new_w) = if h < w { (short, scale * w) } else { (scale * h, short) };
        if new_h.max(new_w) > longest {
            let shrink = longest / new_h.max(new_w);
            (new_h, new_w) = (new_h * shrink, new_w * shrink);
        }
        ((new_h + 0.5).floor() as usize, (new_w + 0.5).floor() as usize)
    }
}

/// Whose preprocessing: the two public forms of the detector differ in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Variant {
    /// The detectron2 fork that VOLTA's script drives: Pillow's bilinear resize of 8-bit pixels.
    #[default]
    Detectron2,
    /// LXMERT's demo on Hugging Face: PyTorch's bilinear interpolation of f32 pixels, not anti-aliased.
    HuggingFace,
}

/// How a picture becomes the network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Preprocess {
    /// The size of the network's image.
    pub sizing: Sizing,
    /// Whose rules.
    pub variant: Variant,
    /// Feeds red, green, blue to a network that was trained with blue, green, red. The Hugging Face code does so to local
    /// files by mistake; only to compare with features that were made that way.
    pub swap_colours: bool,
}

/// The network's input for one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkImage {
    /// Blue, green, red less their means: `[3, height, width]`.
    pub tensor: Vec<f32>,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Height of the picture itself, upright.
    pub raw_height: usize,
    /// Width of the picture itself, upright.
    pub raw_width: usize,
}

impl Preprocess {
    /// Turns the picture upright, resizes it and subtracts the means.
    ///
    /// # Errors
    /// [`ImageFault::TooNarrow`] if nothing would be left of a side in the network.
    pub fn apply(&self, image: Image) -> Result<NetworkImage, ImageFault> {
        self.of_rgb(&colour::upright_rgb(image))
    }

    /// As [`Preprocess::apply`], from upright red, green and blue.
    ///
    /// # Errors
    /// As [`Preprocess::apply`].
    pub fn of_rgb(&self, source: &Raster<3>) -> Result<NetworkImage, ImageFault> {
        let (height, width) = self.sizing.target(source.height, source.width);
        if height < SHORTEST || width < SHORTEST {
            return Err(ImageFault::TooNarrow {
                width: source.width,
                height: source.height,
                new_width: width,
                new_height: height,
            });
        }
        let mut planes = Planes::new(width, height, self.swap_colours);
        match self.variant {
            Variant::Detectron2 => {
                let window = Window::all(width, height);
                let size = (width, height);
                resize_rows(source, size, Filter::Bilinear, window, |y, row| planes.put(y, row));
            }
            Variant::HuggingFace => {
                bilinear_f32(source, (width, height), |y, row| planes.put_f32(y, row));
            }
        }
        let (raw_height, raw_width) = (source.height, source.width);
        Ok(NetworkImage { tensor: planes.tensor, height, width, raw_height, raw_width })
    }
}

/// The tensor while rows of red, green, blue are put into it.
struct Planes {
    width: usize,
    /// Which of red, green, blue goes into each plane.
    channels: [usize; 3],
    tensor: Vec<f32>,
}

impl Planes {
    fn new(width: usize, height: usize, swapped: bool) -> Planes {
        let channels = if swapped { [0, 1, 2] } else { [2, 1, 0] };
        Planes { width, channels, tensor: vec![0.0; 3 * width * height] }
    }

    fn put(&mut self, y: usize, row: &[u8]) {
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has AVX2, as just asked.
            return unsafe { self.put_avx2(y, row) };
        }
        self.put_plain(y, row);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn put_avx2(&mut self, y: usize, row: &[u8]) {
        self.put_plain(y, row);
    }

    #[inline(always)]
    fn put_plain(&mut self, y: usize, row: &[u8]) {
        let plane = self.tensor.len() / 3;
        for (n, mean) in PIXEL_MEANS.into_iter().enumerate() {
            let start = n * plane + y * self.width;
            let target = &mut self.tensor[start..start + self.width];
            // The channel is a constant of each loop, or the loop is not turned into vectors.
            match self.channels[n] {
                0 => put_channel::<0>(target, row, mean),
                1 => put_channel::<1>(target, row, mean),
                _ => put_channel::<2>(target, row, mean),
            }
        }
    }

    fn put_f32(&mut self, y: usize, row: &[f32]) {
        let plane = self.tensor.len() / 3;
        for ((target, channel), mean) in
            self.tensor.chunks_exact_mut(plane).zip(self.channels).zip(PIXEL_MEANS)
        {
            let target = &mut target[y * self.width..(y + 1) * self.width];
            for (value, pixel) in target.iter_mut().zip(row.chunks_exact(3)) {
                *value = pixel[channel] - mean;
            }
        }
    }
}

#[inline(always)]
fn put_channel<const CHANNEL: usize>(target: &mut [f32], row: &[u8], mean: f32) {
    let row = &row[..3 * target.len()];
    for x in 0..target.len() {
        target[x] = f32::from(row[3 * x + CHANNEL]) - mean;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_of_one_pixel_becomes_a_square_and_a_sliver_is_refused() {
        let preprocess = Preprocess::default();
        let dot = Raster::<3> { width: 1, height: 1, data: vec![10, 20, 30] };
        let image = preprocess.of_rgb(&dot).unwrap();
        assert_eq!((image.height, image.width), (800, 800));
        assert_eq!(image.tensor[0], 30.0 - PIXEL_MEANS[0]);
        let sliver = Raster::<3> { width: 20_000, height: 1, data: vec![0; 60_000] };
        let error = preprocess.of_rgb(&sliver).unwrap_err();
        assert!(error.to_string().contains("1333x0"), "{error}");
        let thin = Raster::<3> { width: 20_000, height: 30, data: vec![0; 1_800_000] };
        assert!(preprocess.of_rgb(&thin).unwrap_err().to_string().contains("1333x2"));
        let strip = Raster::<3> { width: 20_000, height: 40, data: vec![0; 2_400_000] };
        let image = preprocess.of_rgb(&strip).unwrap();
        assert_eq!((image.height, image.width), (3, 1333));
    }
}
