//! Batches of regions, contiguous and padded: what a cross-encoder is fed with.

use crate::StoreError;
use crate::record::RecordView;

/// Where the mean of an image's regions is put (VOLTA's `add_global_imgfeat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GlobalFeature {
    /// Nowhere.
    #[default]
    None,
    /// Before the regions.
    First,
    /// After the regions.
    Last,
}

/// How a batch is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSpec {
    /// Most regions per image; images with more keep their first ones.
    pub max_regions: usize,
    /// 4: x1 y1 x2 y2; 5: and area; 7: and width, height, area. All relative to the image.
    pub num_locs: usize,
    /// Where the global feature goes.
    pub global_feature: GlobalFeature,
}

impl BatchSpec {
    /// Rows per image: regions and, if wanted, the global feature.
    pub fn rows(&self) -> usize {
        self.max_regions + usize::from(self.global_feature != GlobalFeature::None)
    }
}

/// Regions of several images; padded rows are zero and have mask 0.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RegionBatch {
    /// Number of images.
    pub images: usize,
    /// Rows per image, padding included.
    pub rows: usize,
    /// Values per region.
    pub dim: usize,
    /// Location numbers per region.
    pub num_locs: usize,
    /// Features `[images, rows, dim]`.
    pub features: Vec<f32>,
    /// Locations `[images, rows, num_locs]`, relative to the image.
    pub locations: Vec<f32>,
    /// 1 for regions and the global feature, 0 for padding, `[images, rows]`.
    pub mask: Vec<i64>,
}

/// The rows of one image in a batch.
pub(crate) struct ImageRows<'a> {
    features: &'a mut [f32],
    locations: &'a mut [f32],
    mask: &'a mut [i64],
}

impl RegionBatch {
    pub(crate) fn resize(
        &mut self,
        images: usize,
        spec: &BatchSpec,
        dim: usize,
    ) -> Result<(), StoreError> {
        if ![4, 5, 7].contains(&spec.num_locs) {
            return Err(StoreError::Batch(format!(
                "{} location numbers; 4, 5 or 7 are possible",
                spec.num_locs
            )));
        }
        if spec.max_regions == 0 {
            return Err(StoreError::Batch("max_regions is 0".into()));
        }
        (self.images, self.rows, self.dim, self.num_locs) =
            (images, spec.rows(), dim, spec.num_locs);
        let too_large = || {
            StoreError::Batch(format!(
                "{images} images of {} rows do not fit into memory",
                spec.rows()
            ))
        };
        let rows = images.checked_mul(spec.rows()).ok_or_else(too_large)?;
        let values = rows.checked_mul(dim).ok_or_else(too_large)?;
        let more = values.saturating_sub(self.features.len());
        self.features.try_reserve(more).map_err(|_| too_large())?;
        self.features.resize(values, 0.0);
        self.locations.resize(rows * spec.num_locs, 0.0);
        self.mask.resize(rows, 0);
        Ok(())
    }

    pub(crate) fn images_mut(&mut self) -> Vec<ImageRows<'_>> {
        // An empty store has dim 0, and `chunks_mut` takes no 0.
        let features = self.features.chunks_mut((self.rows * self.dim).max(1));
        let locations = self.locations.chunks_mut(self.rows * self.num_locs);
        let mask = self.mask.chunks_mut(self.rows);
        features
            .zip(locations)
            .zip(mask)
            .map(|((features, locations), mask)| ImageRows { features, locations, mask })
            .collect()
    }
}

/// Writes one image's rows: features, locations, mask and padding.
pub(crate) fn fill_image(
    record: &RecordView,
    spec: &BatchSpec,
    image: ImageRows,
) -> Result<(), &'static str> {
    let (dim, locs) = (record.dim, spec.num_locs);
    let regions = record.regions.min(spec.max_regions);
    let first = usize::from(spec.global_feature == GlobalFeature::First);

    record.features_into(&mut image.features[first * dim..(first + regions) * dim]);
    for region in 0..regions {
        let row = &mut image.locations[(first + region) * locs..][..locs];
        location(record.bounding_box(region), record.width, record.height, row);
        if let Some([width, height]) = record.extent(region).filter(|_| locs == 7) {
            // UNITER's own seven: the widths and heights that its dump states, and their product.
            row[4..].copy_from_slice(&[width, height, width * height]);
        }
    }
    let mut used = regions;
    if spec.global_feature != GlobalFeature::None {
        let row = if first == 1 { 0 } else { regions };
        mean_into(image.features, first, regions, dim, row);
        global_location(&mut image.locations[row * locs..][..locs]);
        used += 1;
    }
    image.features[used * dim..].fill(0.0);
    image.locations[used * locs..].fill(0.0);
    image.mask[..used].fill(1);
    image.mask[used..].fill(0);
    Ok(())
}

/// The mean over the regions' rows, summed in their order in f32 as the reference does.
fn mean_into(features: &mut [f32], first: usize, regions: usize, dim: usize, row: usize) {
    let mut mean = vec![0.0f32; dim];
    for region in features[first * dim..(first + regions) * dim].chunks_exact(dim.max(1)) {
        mean.iter_mut().zip(region).for_each(|(sum, x)| *sum += x);
    }
    let count = regions.max(1) as f32;
    mean.iter_mut().for_each(|sum| *sum /= count);
    features[row * dim..(row + 1) * dim].copy_from_slice(&mean);
}

/// A box in pixels as 4, 5 or 7 numbers relative to the image: x1, y1, x2, y2; with 5 the area; with 7 width, height and
/// area. The area is computed from pixels, in f32, as VOLTA does.
pub fn location([x1, y1, x2, y2]: [f32; 4], width: u32, height: u32, out: &mut [f32]) {
    let (w, h) = (width as f32, height as f32);
    out[..4].copy_from_slice(&[x1 / w, y1 / h, x2 / w, y2 / h]);
    let area = (y2 - y1) * (x2 - x1) / (w * h);
    match out.len() {
        5 => out[4] = area,
        // From the normalised corners: rounding differs from dividing the width in pixels.
        7 => out[4..].copy_from_slice(&[x2 / w - x1 / w, y2 / h - y1 / h, area]),
        _ => {}
    }
}

/// The whole image: 0, 0, 1, 1, then ones.
fn global_location(out: &mut [f32]) {
    out.fill(1.0);
    out[..2].fill(0.0);
}
