//! Comparing the regions of one image.

use std::fmt::Display;

use crate::{Labels, Regions};

/// The largest difference of a feature, and what is different if anything is.
pub(super) type Comparison = (f32, Option<String>);

pub(super) fn compare(a: &Regions, b: &Regions, tolerance: f32) -> Comparison {
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
