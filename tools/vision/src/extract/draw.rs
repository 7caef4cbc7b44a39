//! Pictures with regions drawn on them, to look at.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use feature_store::{Labels, Regions};
use font8x8::legacy::BASIC_LEGACY;
use jpeg_encoder::{ColorType, Encoder};

use crate::image::{Image, Raster, colour};

/// Names of the classes; a class without one is shown by its number.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Names {
    /// By object class.
    pub objects: Vec<String>,
    /// By attribute class.
    pub attributes: Vec<String>,
}

/// What every drawing says of itself, in an application's segment of the JPEG: nothing else is ever replaced.
const SIGN: &[u8] = b"drawn by xenc";
const SEGMENT: u8 = 14;
/// Pixels of a character's side.
const CHARACTER: usize = 8;
/// An attribute less sure than this is not shown.
const SURE: f32 = 0.3;
/// Colours of the boxes, one after the other.
const COLOURS: [[u8; 3]; 6] =
    [[230, 60, 60], [60, 160, 230], [60, 190, 90], [240, 170, 40], [180, 90, 220], [40, 190, 190]];

/// Draws boxes and labels on the upright picture and writes it as JPEG; the surest region is drawn last, on top.
///
/// # Errors
/// What the system says, or that the picture is too large for a JPEG.
pub fn draw(image: Image, regions: &Regions, names: &Names, path: &Path) -> Result<(), String> {
    let mut canvas = Canvas(colour::upright_rgb(image));
    for n in (0..regions.len()).rev() {
        let colour = COLOURS[n % COLOURS.len()];
        let [x1, y1, x2, y2] = regions.boxes[n].map(|corner| corner.max(0.0) as usize);
        canvas.frame([x1, y1, x2, y2], colour);
        canvas.label(x1, y1, &label(regions, names, n), colour);
    }
    let Raster { width, height, data } = canvas.0;
    let side = |side: usize| u16::try_from(side).map_err(|_| format!("{side} pixels a side"));
    let partial = path.with_extension("partial");
    let mut encoder = Encoder::new_file(&partial, 90).map_err(|error| error.to_string())?;
    encoder.add_app_segment(SEGMENT, SIGN.to_vec()).map_err(|error| error.to_string())?;
    encoder
        .encode(&data, side(width)?, side(height)?, ColorType::Rgb)
        .map_err(|error| error.to_string())?;
    std::fs::rename(&partial, path).map_err(|error| error.to_string())
}

/// Whether a file is what [`draw`] has written.
pub(super) fn is_drawing(path: &Path) -> bool {
    /// The sign stands behind the first segment, of 18 bytes.
    const WITHIN: u64 = 64;
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(WITHIN).read_to_end(&mut start));
    read.is_ok() && start.windows(SIGN.len()).any(|bytes| bytes == SIGN)
}

/// "red car 0.87", as far as it is known.
fn label(regions: &Regions, names: &Names, n: usize) -> String {
    let name = |labels: &Labels, names: &[String]| -> Option<String> {
        let id = *labels.ids.get(n)?;
        let named = usize::try_from(id).ok().and_then(|id| names.get(id).cloned());
        Some(named.unwrap_or_else(|| format!("#{id}")))
    };
    let mut words = Vec::new();
    if let Some(attributes) = &regions.attributes
        && attributes.confidences.get(n).is_some_and(|&sure| sure >= SURE)
    {
        words.extend(name(attributes, &names.attributes));
    }
    if let Some(objects) = &regions.objects {
        words.extend(name(objects, &names.objects));
        words.extend(objects.confidences.get(n).map(|sure| format!("{sure:.2}")));
    }
    words.join(" ")
}

struct Canvas(Raster<3>);

impl Canvas {
    fn put(&mut self, x: usize, y: usize, colour: [u8; 3]) {
        if x < self.0.width && y < self.0.height {
            let at = (y * self.0.width + x) * 3;
            self.0.data[at..at + 3].copy_from_slice(&colour);
        }
    }

    /// A frame two pixels thick, inside the box.
    fn frame(&mut self, [x1, y1, x2, y2]: [usize; 4], colour: [u8; 3]) {
        let (right, bottom) = (x2.min(self.0.width), y2.min(self.0.height));
        for thick in 0..2 {
            for x in x1..right {
                self.put(x, y1 + thick, colour);
                self.put(x, bottom.saturating_sub(1 + thick), colour);
            }
            for y in y1..bottom {
                self.put(x1 + thick, y, colour);
                self.put(right.saturating_sub(1 + thick), y, colour);
            }
        }
    }

    /// White letters on the box's colour, in its upper left corner.
    fn label(&mut self, left: usize, top: usize, text: &str, colour: [u8; 3]) {
        let letters: Vec<usize> =
            text.chars().map(|c| if c.is_ascii() { c as usize } else { '?' as usize }).collect();
        for y in 0..CHARACTER + 2 {
            for x in 0..letters.len() * CHARACTER + 2 {
                self.put(left + x, top + y, colour);
            }
        }
        for (n, letter) in letters.into_iter().enumerate() {
            for (y, row) in BASIC_LEGACY[letter].into_iter().enumerate() {
                for x in (0..CHARACTER).filter(|x| row >> x & 1 == 1) {
                    self.put(left + 1 + n * CHARACTER + x, top + 1 + y, [255; 3]);
                }
            }
        }
    }
}
