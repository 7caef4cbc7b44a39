//! One image's regions in memory.

use crate::precision::RoundingError;

/// Class ids and confidences that a detector gave to each region.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Labels {
    /// Class index per region, `[regions]`; empty when the dump holds confidences only (UNITER).
    pub ids: Vec<i64>,
    /// Confidence in 0..1 per region, `[regions]`; empty when the dump holds none.
    pub confidences: Vec<f32>,
}

impl Labels {
    /// Whether every region has an id and a confidence.
    pub(crate) fn are_whole(&self, regions: usize) -> bool {
        self.ids.len() == regions && self.confidences.len() == regions
    }
}

/// The regions of one image: what every format is read into and every format is written from.
///
/// Some dumps (UNITER's) hold boxes relative to an image whose size they do not tell. Such an image counts as one of
/// 1×1 pixel, so that dividing by its size changes nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Regions {
    /// Width of the original image in pixels; 1 if unknown.
    pub width: u32,
    /// Height of the original image in pixels; 1 if unknown.
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
    /// Width and height of each box relative to the image, where a dump states them apart from the corners (UNITER):
    /// in 16 bits they are not the corners' differences.
    pub extents: Option<Vec<[f32; 2]>>,
    /// The detector's distribution over object classes, row-major `[regions, classes]` (`cls_prob`, `soft_labels`).
    pub class_probabilities: Option<Vec<f32>>,
    /// How far `features` are from those of the dump, where that holds numbers that f32 rounds (f64); none otherwise.
    pub rounding: RoundingError,
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

    /// How boxes are to be understood, in words.
    pub fn convention(is_relative: bool) -> &'static str {
        if is_relative {
            "relative to images whose size is not known (0 to 1)"
        } else {
            "in pixels"
        }
    }

    /// Whether the size of the image is unknown, so that boxes are relative to it.
    pub fn is_relative(&self) -> bool {
        (self.width, self.height) == (1, 1)
    }

    /// The mean of the regions' features, `[dim]`: what stands for the image as a whole. Zeros if there are no regions.
    pub fn mean(&self) -> Vec<f64> {
        let mut mean = vec![0.0; self.dim];
        for row in self.features.chunks_exact(self.dim.max(1)) {
            mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        let count = self.len().max(1) as f64;
        mean.iter_mut().for_each(|sum| *sum /= count);
        mean
    }

    /// Bytes that its values take, about.
    pub(crate) fn bytes(&self) -> usize {
        let probabilities = self.class_probabilities.as_ref().map_or(0, Vec::len);
        size_of::<f32>() * (self.features.len() + probabilities + 4 * self.boxes.len())
    }

    /// What is wrong with the lengths of the parts, if anything.
    pub(crate) fn check(&self) -> Result<(), String> {
        let n = self.len();
        if Some(self.features.len()) != n.checked_mul(self.dim) {
            return Err(format!(
                "{} feature values for {n} regions of {}",
                self.features.len(),
                self.dim
            ));
        }
        let fits = |length: usize| length == 0 || length == n;
        for (labels, name) in [(&self.objects, "objects"), (&self.attributes, "attributes")] {
            let Some(labels) = labels else { continue };
            let (ids, confidences) = (labels.ids.len(), labels.confidences.len());
            if !fits(ids) || !fits(confidences) {
                return Err(format!(
                    "{ids} ids and {confidences} confidences of {name} for {n} regions"
                ));
            }
        }
        if let Some(extents) = &self.extents
            && extents.len() != n
        {
            return Err(format!("{} extents for {n} regions", extents.len()));
        }
        match &self.class_probabilities {
            Some(values) if n == 0 && !values.is_empty() || n > 0 && values.len() % n != 0 => {
                Err(format!("{} class probabilities for {n} regions", values.len()))
            }
            _ => Ok(()),
        }
    }
}
