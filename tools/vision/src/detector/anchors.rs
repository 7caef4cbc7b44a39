//! The boxes that proposals start from: twelve around the top left corner of every cell of the feature map.

use super::boxes::Box4;

/// Which anchors a detector has.
#[derive(Debug, Clone, PartialEq)]
pub struct Anchors {
    /// Square roots of the areas in pixels.
    pub sizes: Vec<f32>,
    /// Heights divided by widths.
    pub ratios: Vec<f32>,
    /// Pixels of the network's image per cell of the feature map.
    pub stride: usize,
}

impl Default for Anchors {
    fn default() -> Anchors {
        Anchors { sizes: vec![64.0, 128.0, 256.0, 512.0], ratios: vec![0.5, 1.0, 2.0], stride: 16 }
    }
}

impl Anchors {
    /// Anchors of one cell: for every size every ratio.
    pub fn per_cell(&self) -> usize {
        self.sizes.len() * self.ratios.len()
    }

    /// The anchors around the origin.
    pub fn cell(&self) -> Vec<Box4> {
        let of = |size: f32, ratio: f32| {
            let width = (size * size / ratio).sqrt();
            let height = ratio * width;
            [-0.5 * width, -0.5 * height, 0.5 * width, 0.5 * height]
        };
        let sizes = self.sizes.iter();
        sizes.flat_map(|&size| self.ratios.iter().map(move |&ratio| of(size, ratio))).collect()
    }

    /// All anchors of a feature map of that height and width, in the order row, column, anchor.
    pub fn grid(&self, height: usize, width: usize) -> Vec<Box4> {
        let cell = self.cell();
        let mut grid = Vec::with_capacity(height * width * cell.len());
        for row in 0..height {
            for column in 0..width {
                let (x, y) = ((column * self.stride) as f32, (row * self.stride) as f32);
                grid.extend(cell.iter().map(|a| [a[0] + x, a[1] + y, a[2] + x, a[3] + y]));
            }
        }
        grid
    }
}
