//! Comparing two stores: ids, sizes, boxes, labels, and features within a tolerance.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use crate::store::StoreCursor;
use crate::{FeatureStore, Labels, Regions, StoreError};

/// Images compared in parallel at a time.
const CHUNK: usize = 64;

/// How two stores are compared.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Largest difference of a feature that counts as none.
    pub tolerance: f32,
    /// Differences that are listed one by one; more are only counted.
    pub listed: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { tolerance: 0.0, listed: 100 }
    }
}

/// What two stores differ in.
#[derive(Debug, Default, Serialize)]
pub struct DiffReport {
    /// Images in both.
    pub common: u64,
    /// Images in the first only.
    pub only_first: u64,
    /// Images in the second only.
    pub only_second: u64,
    /// Images in both that differ.
    pub different: u64,
    /// The first differences, by id.
    pub findings: Vec<(String, String)>,
    /// Largest absolute difference of a feature, over all images in both.
    pub largest_difference: f32,
}

impl DiffReport {
    /// Whether the stores hold the same.
    pub fn is_equal(&self) -> bool {
        self.only_first + self.only_second + self.different == 0
    }

    fn note(&mut self, id: String, what: String, options: &Options) {
        if self.findings.len() < options.listed {
            self.findings.push((id, what));
        }
    }
}

/// Compares two stores. `None` comes back if `cancelled` was set.
///
/// # Errors
/// A record that cannot be read.
pub fn diff(
    first: &FeatureStore,
    second: &FeatureStore,
    options: &Options,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<DiffReport>, StoreError> {
    let mut report = DiffReport::default();
    let (mut a, mut b) = (StoreCursor::new(first)?, StoreCursor::new(second)?);
    let mut done = 0;
    loop {
        let mut common = Vec::new();
        while common.len() < CHUNK && (a.head().is_some() || b.head().is_some()) {
            let order = match (a.head(), b.head()) {
                (Some(a), Some(b)) => a.cmp(b),
                (Some(_), None) => std::cmp::Ordering::Less,
                _ => std::cmp::Ordering::Greater,
            };
            let (here, there) =
                (a.head().unwrap_or("").to_owned(), b.head().unwrap_or("").to_owned());
            done += 1;
            if order.is_le() {
                a.skip()?;
            }
            if order.is_ge() {
                b.skip()?;
            }
            match order {
                std::cmp::Ordering::Less => {
                    report.only_first += 1;
                    report.note(here, "only in the first".into(), options);
                }
                std::cmp::Ordering::Greater => {
                    report.only_second += 1;
                    report.note(there, "only in the second".into(), options);
                }
                std::cmp::Ordering::Equal => common.push(here),
            }
        }
        if cancelled.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if common.is_empty() && a.head().is_none() && b.head().is_none() {
            return Ok(Some(report));
        }
        let compared: Vec<_> = common
            .par_iter()
            .map(|id| Ok(compare(&first.get_once(id)?, &second.get_once(id)?, options.tolerance)))
            .collect::<Result<_, StoreError>>()?;
        for (id, (largest, what)) in common.into_iter().zip(compared) {
            report.common += 1;
            report.largest_difference = report.largest_difference.max(largest);
            if let Some(what) = what {
                report.different += 1;
                report.note(id, what, options);
            }
        }
        progress(done);
    }
}

/// The largest difference of a feature, and what is different if anything is.
fn compare(a: &Regions, b: &Regions, tolerance: f32) -> (f32, Option<String>) {
    if a.len() != b.len() || a.dim != b.dim {
        return (
            0.0,
            Some(format!("{} x {} and {} x {} features", a.len(), a.dim, b.len(), b.dim)),
        );
    }
    let mut largest = 0.0f32;
    let mut same_kind = true;
    for (x, y) in a.features.iter().zip(&b.features) {
        // Equal bits are equal, not-a-numbers included.
        if x.to_bits() != y.to_bits() {
            let difference = (x - y).abs();
            same_kind &= !difference.is_nan();
            largest = largest.max(difference);
        }
    }
    let what = if a.is_relative() != b.is_relative() {
        let [width, height] =
            if a.is_relative() { [b.width, b.height] } else { [a.width, a.height] };
        let (relative, other) =
            if a.is_relative() { ("first", "second") } else { ("second", "first") };
        format!(
            "boxes relative to an image of unknown size in the {relative}, in pixels of {width}x{height} in the {other}"
        )
    } else if (a.width, a.height) != (b.width, b.height) {
        format!("{}x{} and {}x{} pixels", a.width, a.height, b.width, b.height)
    } else if a.boxes != b.boxes || a.extents != b.extents {
        "different boxes".into()
    } else if let Some(what) = compare_labels("object", &a.objects, &b.objects)
        .or_else(|| compare_labels("attribute", &a.attributes, &b.attributes))
    {
        what
    } else if a.class_probabilities != b.class_probabilities {
        "different class probabilities".into()
    } else if largest > tolerance || !same_kind {
        format!("features differ by up to {largest}")
    } else {
        return (largest, None);
    };
    (largest, Some(what))
}

/// What is different in the labels of regions, if anything.
fn compare_labels(name: &str, a: &Option<Labels>, b: &Option<Labels>) -> Option<String> {
    let none = Labels::default();
    let (a, b) = (a.as_ref().unwrap_or(&none), b.as_ref().unwrap_or(&none));
    compare_values(&format!("{name} ids"), &a.ids, &b.ids)
        .or_else(|| compare_values(&format!("{name} confidences"), &a.confidences, &b.confidences))
}

/// The first region in which a list differs, with both values.
fn compare_values<T: PartialEq + Display>(name: &str, a: &[T], b: &[T]) -> Option<String> {
    match (a, b) {
        ([], []) => None,
        ([], _) => Some(format!("{name} in the second only")),
        (_, []) => Some(format!("{name} in the first only")),
        _ => {
            let differ = a.iter().zip(b).filter(|(a, b)| a != b).count();
            let (region, (a, b)) = a.iter().zip(b).enumerate().find(|(_, (a, b))| a != b)?;
            Some(format!("{name} of {differ} regions: in region {region} {a} and {b}"))
        }
    }
}
