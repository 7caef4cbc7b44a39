//! How alike the images of a set are, beside images of other sets.
//!
//! An image is the mean of its regions' features, and likeness the cosine of two means. A described image is compared
//! with the other images of its set, and with all images of the other sets of its kind. The latter needs one pass and
//! two vectors, because a mean of cosines with unit vectors is the product with their sum.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use super::{DatasetError, SET_SIZE, is_static, set_images};
use feature_store::{FeatureStore, StoreError};

/// Sets that are read in parallel at a time.
const PAGE: usize = 32;

/// Mean cosines of described images.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Similarity {
    /// Sets that went into it.
    pub sets: u64,
    /// Sets that are left out: not all images are there, or their features are no numbers.
    pub left_out: u64,
    /// With the other images of the set, -1 to 1; `None` without sets.
    pub within_sets: Option<f64>,
    /// With the images of the other sets; `None` if there are none.
    pub across_sets: Option<f64>,
}

/// Similarities of sets of videos and of sets of photographs, which are not comparable.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Similarities {
    /// Of frames of a video.
    pub video: Similarity,
    /// Of photographs.
    #[serde(rename = "static")]
    pub photographs: Similarity,
}

/// A set and the positions of its described images.
pub(super) struct Asked<'a> {
    pub directory: &'a str,
    pub targets: Vec<usize>,
}

/// Reads the images of all sets once. `None` comes back if `cancelled` was set.
pub(super) fn similarities(
    store: &FeatureStore,
    sets: &[Asked],
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<Similarities>, DatasetError> {
    let mut sums = [Sums::default(), Sums::default()];
    for page in sets.chunks(PAGE) {
        if cancelled.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let units: Vec<Option<Vec<Vec<f64>>>> = page
            .par_iter()
            .map(|set| unit_means(store, set.directory))
            .collect::<Result<_, StoreError>>()?;
        for (set, units) in page.iter().zip(units) {
            sums[usize::from(is_static(set.directory))].add(&set.targets, units);
        }
        progress(page.len() as u64);
    }
    let [video, photographs] = sums.map(Sums::similarity);
    Ok(Some(Similarities { video, photographs }))
}

/// The means of the regions of a set's ten images as vectors of length 1, `[10][dim]`; `None` if they are not ten, or
/// no finite numbers.
fn unit_means(store: &FeatureStore, set: &str) -> Result<Option<Vec<Vec<f64>>>, StoreError> {
    let ids = set_images(store, set)?;
    if ids.len() != SET_SIZE {
        return Ok(None);
    }
    let mut units = Vec::with_capacity(SET_SIZE);
    for id in &ids {
        let mut mean = store.get_once(id)?.mean();
        let length = dot(&mean, &mean).sqrt();
        if !length.is_finite() {
            return Ok(None);
        }
        // An image of zeros is like nothing.
        mean.iter_mut().for_each(|value| *value /= length.max(f64::MIN_POSITIVE));
        units.push(mean);
    }
    Ok(Some(units))
}

/// Sums over the sets of a kind.
#[derive(Default)]
struct Sums {
    sets: u64,
    left_out: u64,
    targets: u64,
    /// Of all images, `[dim]`.
    images: Vec<f64>,
    /// Of the described images, `[dim]`.
    described: Vec<f64>,
    /// Of the described images' products with the sums of their sets.
    own: f64,
    /// Of the described images' mean cosines with the others of their sets.
    within: f64,
}

impl Sums {
    fn add(&mut self, targets: &[usize], units: Option<Vec<Vec<f64>>>) {
        let Some(units) = units else {
            self.left_out += 1;
            return;
        };
        self.sets += 1;
        let mut own = Vec::new();
        units.iter().for_each(|unit| add(&mut own, unit));
        add(&mut self.images, &own);
        for unit in targets.iter().filter_map(|target| units.get(*target)) {
            let all = dot(unit, &own);
            self.targets += 1;
            self.own += all;
            self.within += (all - dot(unit, unit)) / (SET_SIZE - 1) as f64;
            add(&mut self.described, unit);
        }
    }

    fn similarity(self) -> Similarity {
        let targets = (self.targets > 0).then_some(self.targets as f64);
        let others = (self.sets.saturating_sub(1) * SET_SIZE as u64) as f64;
        let across = dot(&self.described, &self.images) - self.own;
        Similarity {
            sets: self.sets,
            left_out: self.left_out,
            within_sets: targets.map(|targets| self.within / targets),
            across_sets: targets.filter(|_| others > 0.0).map(|targets| across / targets / others),
        }
    }
}

fn add(sum: &mut Vec<f64>, vector: &[f64]) {
    if sum.is_empty() {
        sum.resize(vector.len(), 0.0);
    }
    sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_id;
    use feature_store::{Regions, StoreWriter, WriterOptions};

    #[test]
    fn means_of_cosines_are_those_of_all_pairs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let mut writer = StoreWriter::create(&path, WriterOptions::default()).unwrap();
        // A set of directions around one axis, and one around the other.
        let vector = |set: usize, n: usize| {
            let (near, far) = (2.0 + n as f32, 0.25 * n as f32);
            if set == 0 { [near, far] } else { [far, near] }
        };
        for set in 0..2 {
            for n in 0..SET_SIZE {
                let [x, y] = vector(set, n);
                let regions = Regions {
                    width: 9,
                    height: 9,
                    boxes: vec![[0.0, 0.0, 5.0, 5.0]; 2],
                    features: vec![x, 0.0, x, 2.0 * y],
                    dim: 2,
                    ..Regions::default()
                };
                writer.append(&image_id(&format!("v{set}"), n as u64), &regions).unwrap();
            }
        }
        writer.finish().unwrap();
        let store = FeatureStore::open(&path).unwrap();
        let sets = [
            Asked { directory: "v0", targets: vec![2, 7] },
            Asked { directory: "v1", targets: vec![0] },
            Asked { directory: "v2", targets: vec![0] },
        ];
        let never = AtomicBool::new(false);
        let found = similarities(&store, &sets, &never, &mut |_| ()).unwrap().unwrap();
        let cosine = |a: [f32; 2], b: [f32; 2]| {
            let product = |a: [f32; 2], b: [f32; 2]| f64::from(a[0] * b[0] + a[1] * b[1]);
            product(a, b) / (product(a, a) * product(b, b)).sqrt()
        };
        // The same, pair by pair.
        let mean = |in_own_set: bool| {
            let described = [(0, 2), (0, 7), (1, 0)];
            let of_one = described.map(|(set, target)| {
                let others: Vec<f64> = (0..SET_SIZE)
                    .filter(|n| !in_own_set || *n != target)
                    .map(|n| {
                        let other = if in_own_set { set } else { 1 - set };
                        cosine(vector(set, target), vector(other, n))
                    })
                    .collect();
                others.iter().sum::<f64>() / others.len() as f64
            });
            of_one.iter().sum::<f64>() / of_one.len() as f64
        };
        let (within, across) = (mean(true), mean(false));
        assert!((found.video.within_sets.unwrap() - within).abs() < 1e-6);
        assert!((found.video.across_sets.unwrap() - across).abs() < 1e-6);
        assert!(across < within - 0.1);
        assert_eq!((found.video.sets, found.video.left_out), (2, 1));
        assert_eq!(found.photographs, Similarity::default());
    }
}
