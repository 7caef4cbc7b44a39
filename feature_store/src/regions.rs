//! One image's regions in memory.

/// Class ids and confidences that a detector gave to each region.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Labels {
    /// Class index per region, `[regions]`.
    pub ids: Vec<i64>,
    /// Confidence in 0..1 per region, `[regions]`; empty when the dump holds none.
    pub confidences: Vec<f32>,
}

/// The regions of one image: what every format is read into and every format is written from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Regions {
    /// Width of the original image in pixels.
    pub width: u32,
    /// Height of the original image in pixels.
    pub height: u32,
    /// Boxes `[regions]` of x1, y1, x2, y2 in pixels of the original image.
    pub boxes: Vec<[f32; 4]>,
    /// Features, row-major `[regions, dim]`.
    pub features: Vec<f32>,
    /// Values per region.
    pub dim: usize,
    /// Object classes, if the dump holds them.
    pub objects: Option<Labels>,
    /// Attribute classes, if the dump holds them.
    pub attributes: Option<Labels>,
}

impl Regions {
    /// Number of regions.
    pub fn len(&self) -> usize {
        self.boxes.len()
    }

    /// Whether the image has no regions at all.
    pub fn is_empty(&self) -> bool {
        self.boxes.is_empty()
    }
}
