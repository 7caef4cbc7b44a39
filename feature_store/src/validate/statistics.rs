//! Statistics of a whole store, compared with what sound dumps of bottom-up-attention features have.

use serde::Serialize;

use crate::Regions;

/// Statistics of boxes and features over all images.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Statistics {
    /// Images.
    pub images: u64,
    /// Feature values.
    pub values: u64,
    /// Mean of all feature values.
    pub mean: f64,
    /// Share of feature values that are exactly zero.
    pub zeros: f64,
    /// Share of feature values below zero.
    pub negative: f64,
    /// Largest feature value.
    pub largest: f32,
    /// Regions.
    pub regions: u64,
    /// Mean area of a box relative to its image.
    pub box_area: f64,
    /// Share of regions whose features are all zero.
    pub empty_regions: f64,
    /// Share of regions whose features equal those of the region before.
    pub repeated_regions: f64,
    #[serde(skip)]
    sums: Sums,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    value: f64,
    zero: u64,
    negative: u64,
    area: f64,
    empty: u64,
    repeated: u64,
}

impl Statistics {
    /// Takes an image into account.
    pub(super) fn add(&mut self, regions: &Regions) {
        self.images += 1;
        let sums = &mut self.sums;
        let mut previous: Option<&[f32]> = None;
        for row in regions.features.chunks(regions.dim.max(1)) {
            let zero = row.iter().filter(|x| **x == 0.0).count();
            sums.value += row.iter().copied().map(f64::from).sum::<f64>();
            sums.zero += zero as u64;
            sums.negative += row.iter().filter(|x| **x < 0.0).count() as u64;
            sums.empty += u64::from(zero == row.len());
            sums.repeated += u64::from(previous == Some(row));
            self.largest = row.iter().fold(self.largest, |largest, x| largest.max(*x));
            previous = Some(row);
        }
        let image = f64::from(regions.width) * f64::from(regions.height);
        for [x1, y1, x2, y2] in &regions.boxes {
            sums.area += f64::from(x2 - x1) * f64::from(y2 - y1) / image;
        }
        self.values += regions.features.len() as u64;
        self.regions += regions.len() as u64;
        let (values, count) = (self.values.max(1) as f64, self.regions.max(1) as f64);
        self.mean = self.sums.value / values;
        self.zeros = self.sums.zero as f64 / values;
        self.negative = self.sums.negative as f64 / values;
        self.box_area = self.sums.area / count;
        self.empty_regions = self.sums.empty as f64 / count;
        self.repeated_regions = self.sums.repeated as f64 / count;
    }

    /// What no sound dump has: regions without features, the same ones again, boxes that are hardly smaller than their images
    /// unless they stand for them, and a few negative values where all others are means of rectified ones. Many are of features
    /// that were never rectified (CLIP's).
    pub(super) fn findings(&self) -> Vec<String> {
        const FEW: f64 = 0.01;
        let share = |share: f64| format!("{:.2} %", 100.0 * share);
        let mut findings = Vec::new();
        if self.negative > 0.0 && self.negative < FEW {
            let what = "of the features are negative, of rectified ones (Faster R-CNN's) none is";
            findings.push(format!("{:.2e} {what}", self.negative));
        }
        if self.empty_regions > 0.0 {
            findings.push(format!("{} of the regions are all zero", share(self.empty_regions)));
        }
        if self.repeated_regions > 0.01 {
            findings.push(format!(
                "{} of the regions repeat the one before",
                share(self.repeated_regions)
            ));
        }
        if self.box_area > 0.9 && self.regions > self.images {
            findings
                .push(format!("boxes cover {} of their images on average", share(self.box_area)));
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(boxes: Vec<[f32; 4]>, features: Vec<f32>) -> Vec<String> {
        let dim = features.len() / boxes.len();
        let regions = Regions { width: 10, height: 10, boxes, features, dim, ..Regions::default() };
        let mut statistics = Statistics::default();
        (0..3).for_each(|_| statistics.add(&regions));
        statistics.findings()
    }

    #[test]
    fn embeddings_of_whole_images_are_no_finding_and_a_few_negative_features_are() {
        let whole = [0.0, 0.0, 10.0, 10.0];
        let embedding: Vec<f32> = (0..512).map(|i| i as f32 - 255.5).collect();
        assert!(found(vec![whole], embedding).is_empty());
        let mut rectified: Vec<f32> = (0..512).map(|i| i as f32).collect();
        assert!(found(vec![[0.0, 0.0, 5.0, 5.0]; 2], rectified.clone()).is_empty());
        assert!(found(vec![whole; 2], rectified.clone())[0].contains("boxes cover"));
        rectified[7] = -1.0;
        assert!(found(vec![[0.0, 0.0, 5.0, 5.0]; 2], rectified)[0].contains("are negative"));
    }
}
