//! EXIF orientation: read always, applied for the detector only (its original loader does, CLIP's does not).

use std::io::Cursor;

use crate::image::Raster;

/// EXIF's tag 0x0112: where the picture's first row and column belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Orientation {
    /// 1: as it should be.
    #[default]
    Upright,
    /// 2.
    MirroredHorizontally,
    /// 3.
    HalfTurn,
    /// 4.
    MirroredVertically,
    /// 5.
    Transposed,
    /// 6: to be turned by 90 degrees clockwise.
    QuarterTurn,
    /// 7.
    Transversed,
    /// 8: to be turned by 90 degrees counter-clockwise.
    ThreeQuarterTurn,
}

impl Orientation {
    /// From an EXIF block (TIFF header first); upright where it says nothing, or nothing sensible.
    pub(crate) fn from_exif(block: &[u8]) -> Orientation {
        let block = block.strip_prefix(b"Exif\0\0").unwrap_or(block).to_vec();
        // A damaged field elsewhere in the block is no reason to leave a picture lying on its side.
        let exif = exif::Reader::new()
            .continue_on_error(true)
            .read_raw(block)
            .or_else(|error| error.distill_partial_result(|_| ()));
        let value = exif.ok().and_then(|exif| {
            exif.get_field(exif::Tag::Orientation, exif::In::PRIMARY)?.value.get_uint(0)
        });
        match value {
            Some(2) => Orientation::MirroredHorizontally,
            Some(3) => Orientation::HalfTurn,
            Some(4) => Orientation::MirroredVertically,
            Some(5) => Orientation::Transposed,
            Some(6) => Orientation::QuarterTurn,
            Some(7) => Orientation::Transversed,
            Some(8) => Orientation::ThreeQuarterTurn,
            _ => Orientation::Upright,
        }
    }

    /// From the EXIF block that a whole JPEG file holds.
    pub(crate) fn from_jpeg(file: &[u8]) -> Orientation {
        match exif::get_exif_attr_from_jpeg(&mut Cursor::new(file)) {
            Ok(block) => Orientation::from_exif(&block),
            Err(_) => Orientation::Upright,
        }
    }

    /// Whether width and height change places.
    pub fn swaps_sides(self) -> bool {
        use Orientation::{QuarterTurn, ThreeQuarterTurn, Transposed, Transversed};
        matches!(self, Transposed | QuarterTurn | Transversed | ThreeQuarterTurn)
    }

    /// The picture as it should be seen.
    pub fn apply<const C: usize>(self, raster: Raster<C>) -> Raster<C> {
        if self == Orientation::Upright {
            return raster;
        }
        let (width, height) = match self.swaps_sides() {
            true => (raster.height, raster.width),
            false => (raster.width, raster.height),
        };
        let mut data = Vec::with_capacity(raster.data.len());
        for y in 0..height {
            for x in 0..width {
                let (from_x, from_y) = self.source(x, y, width, height);
                let at = (from_y * raster.width + from_x) * C;
                data.extend_from_slice(&raster.data[at..at + C]);
            }
        }
        Raster { width, height, data }
    }

    /// The pixel of the file that belongs at (x, y) of the upright picture of that width and height.
    fn source(self, x: usize, y: usize, width: usize, height: usize) -> (usize, usize) {
        let (right, bottom) = (width - 1 - x, height - 1 - y);
        match self {
            Orientation::Upright => (x, y),
            Orientation::MirroredHorizontally => (right, y),
            Orientation::HalfTurn => (right, bottom),
            Orientation::MirroredVertically => (x, bottom),
            Orientation::Transposed => (y, x),
            Orientation::QuarterTurn => (y, right),
            Orientation::Transversed => (bottom, right),
            Orientation::ThreeQuarterTurn => (bottom, x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_eight_orientations_put_the_first_pixel_where_exif_says() {
        // 1 2 3
        // 4 5 6
        let lying = Raster::<1> { width: 3, height: 2, data: vec![1, 2, 3, 4, 5, 6] };
        let seen = |orientation: Orientation| {
            let raster = orientation.apply(lying.clone());
            (raster.width, raster.data)
        };
        assert_eq!(seen(Orientation::Upright), (3, vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(seen(Orientation::MirroredHorizontally), (3, vec![3, 2, 1, 6, 5, 4]));
        assert_eq!(seen(Orientation::HalfTurn), (3, vec![6, 5, 4, 3, 2, 1]));
        assert_eq!(seen(Orientation::MirroredVertically), (3, vec![4, 5, 6, 1, 2, 3]));
        assert_eq!(seen(Orientation::Transposed), (2, vec![1, 4, 2, 5, 3, 6]));
        assert_eq!(seen(Orientation::QuarterTurn), (2, vec![4, 1, 5, 2, 6, 3]));
        assert_eq!(seen(Orientation::Transversed), (2, vec![6, 3, 5, 2, 4, 1]));
        assert_eq!(seen(Orientation::ThreeQuarterTurn), (2, vec![3, 6, 2, 5, 1, 4]));
    }

    #[test]
    fn a_damaged_block_means_upright() {
        assert_eq!(Orientation::from_exif(b"Exif\0\0II*\0"), Orientation::Upright);
        assert_eq!(Orientation::from_exif(b""), Orientation::Upright);
    }
}
