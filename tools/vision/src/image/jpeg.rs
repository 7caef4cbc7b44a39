//! JPEG, decoded by libjpeg-turbo's code (accurate integer IDCT, fancy upsampling), as Pillow and OpenCV do.

use std::any::Any;
use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use mozjpeg::{ColorSpace, Decompress};

use super::{Image, ImageFault, Limits, Orientation, Pixels};

/// Decodes one file. Colours become RGB, grey stays grey, and four channels are taken for inverted ink, which is what
/// Photoshop writes and what Pillow assumes.
pub(super) fn decode(file: &[u8], limits: &Limits) -> Result<Image, ImageFault> {
    let ran_out = Cell::new(false);
    // The library reports what is fatal by unwinding, without calling the panic handler.
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        let reader = Whole { rest: file, ran_out: &ran_out };
        decompress(Decompress::new_reader(reader).map_err(fault)?, limits)
    }));
    let (width, height, pixels) = match decoded {
        // Its own answer to a file that ends too early is a picture whose rest is grey.
        _ if ran_out.get() => return Err(ImageFault::Truncated),
        Ok(result) => result?,
        Err(message) => return Err(ImageFault::Damaged(words_of(message.as_ref()))),
    };
    Ok(Image { width, height, pixels, orientation: Orientation::from_jpeg(file) })
}

fn decompress<R: BufRead>(
    decoder: Decompress<R>,
    limits: &Limits,
) -> Result<(usize, usize, Pixels), ImageFault> {
    let (width, height) = decoder.size();
    limits.check(width as u64, height as u64)?;
    let wanted = match decoder.color_space() {
        ColorSpace::JCS_GRAYSCALE => ColorSpace::JCS_GRAYSCALE,
        ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK => ColorSpace::JCS_CMYK,
        _ => ColorSpace::JCS_RGB,
    };
    let mut started = decoder.to_colorspace(wanted).map_err(fault)?;
    let mut data = started.read_scanlines::<u8>().map_err(fault)?;
    let pixels = match wanted {
        ColorSpace::JCS_GRAYSCALE => Pixels::Grey(data),
        ColorSpace::JCS_CMYK => {
            data.iter_mut().for_each(|value| *value = 255 - *value);
            Pixels::Cmyk(data)
        }
        _ => Pixels::Rgb(data),
    };
    Ok((width, height, pixels))
}

fn fault(error: io::Error) -> ImageFault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ImageFault::Truncated,
        _ => ImageFault::Damaged(error.to_string()),
    }
}

/// What the library said while it unwound.
fn words_of(message: &(dyn Any + Send)) -> String {
    match message.downcast_ref::<String>() {
        Some(text) => text.trim_start_matches("libjpeg fatal error: ").to_owned(),
        None => "the decoder gave up".to_owned(),
    }
}

/// A file in memory that notes when more is asked for than there is.
struct Whole<'a> {
    rest: &'a [u8],
    ran_out: &'a Cell<bool>,
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.rest.read(buffer)
    }
}

impl BufRead for Whole<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest.is_empty() {
            self.ran_out.set(true);
        }
        Ok(self.rest)
    }

    fn consume(&mut self, amount: usize) {
        self.rest = &self.rest[amount.min(self.rest.len())..];
    }
}
