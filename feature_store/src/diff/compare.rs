//! Comparing the regions of one image.

use std::fmt::Display;

use crate::{Labels, Regions};

/// The largest difference of a feature, and everything that is different.
pub(super) type Comparison = (f32, Vec<String>);

pub(super) fn compare(a: &Regions, b: &Regions, tolerance: f32) -> Comparison {
    let mut what: Vec<String> = size(a, b).into_iter().collect();
    if (a.len(), a.dim) != (b.len(), b.dim) {
        what.push(format!("{} x {} and {} x {} features", a.len(), a.dim, b.len(), b.dim));
    }
    if a.len() != b.len() {
        // Which region of one is which of the other is not known.
        return (0.0, what);
    }
    let n = a.len();
    if a.is_relative() == b.is_relative() {
        what.extend(rows("boxes", n, a.boxes.as_flattened(), b.boxes.as_flattened()));
    }
    what.extend(rows("extents", n, extents(a), extents(b)));
    what.extend(labels("object", &a.objects, &b.objects));
    what.extend(labels("attribute", &a.attributes, &b.attributes));
    what.extend(rows("class probabilities", n, probabilities(a), probabilities(b)));
    let mut largest = 0.0;
    if a.dim == b.dim {
        let alike;
        (largest, alike) = distance(&a.features, &b.features);
        if largest > tolerance {
            what.push(format!("features differ by up to {largest}"));
        }
        if !alike {
            what.push("features that are no numbers in one of them".into());
        }
    }
    (largest, what)
}

fn size(a: &Regions, b: &Regions) -> Option<String> {
    let pixels = |of: &Regions| format!("{}x{}", of.width, of.height);
    let relative = |side: &str, pixels: String, other: &str| {
        format!(
            "boxes relative to an image of unknown size in the {side}, in pixels of {pixels} in the {other}"
        )
    };
    match (a.is_relative(), b.is_relative()) {
        (true, false) => Some(relative("first", pixels(b), "second")),
        (false, true) => Some(relative("second", pixels(a), "first")),
        _ if (a.width, a.height) == (b.width, b.height) => None,
        _ => Some(format!("{} and {} pixels", pixels(a), pixels(b))),
    }
}

fn extents(of: &Regions) -> &[f32] {
    of.extents.as_ref().map_or(&[], |extents| extents.as_flattened())
}

fn probabilities(of: &Regions) -> &[f32] {
    of.class_probabilities.as_deref().unwrap_or_default()
}

/// What is different in the labels of regions.
fn labels(name: &str, a: &Option<Labels>, b: &Option<Labels>) -> impl Iterator<Item = String> {
    let none = Labels::default();
    let (a, b) = (a.as_ref().unwrap_or(&none), b.as_ref().unwrap_or(&none));
    let ids = values(&format!("{name} ids"), &a.ids, &b.ids);
    let confidences = values(&format!("{name} confidences"), &a.confidences, &b.confidences);
    ids.into_iter().chain(confidences)
}

/// What is the same in both; what is no number is, if its bits are.
trait Same {
    fn is_same(&self, other: &Self) -> bool;
}

impl Same for f32 {
    fn is_same(&self, other: &f32) -> bool {
        self.to_bits() == other.to_bits() || self == other
    }
}

impl Same for i64 {
    fn is_same(&self, other: &i64) -> bool {
        self == other
    }
}

/// In how many regions lists with one value for each differ, and the first of them with both values.
fn values<T: Same + Display>(name: &str, a: &[T], b: &[T]) -> Option<String> {
    let what = rows(name, a.len(), a, b)?;
    match a.iter().zip(b).enumerate().find(|(_, (a, b))| !a.is_same(b)) {
        Some((region, (a, b))) => Some(format!("{what} (region {region}: {a} and {b})")),
        None => Some(what),
    }
}

/// In how many regions lists with several values for each of `n` differ.
fn rows<T: Same>(name: &str, n: usize, a: &[T], b: &[T]) -> Option<String> {
    let width = |list: &[T]| list.len() / n.max(1);
    match (a, b) {
        ([], []) => None,
        ([], _) => Some(format!("{name} in the second only")),
        (_, []) => Some(format!("{name} in the first only")),
        _ if a.len() != b.len() => {
            Some(format!("{name}: {} and {} values per region", width(a), width(b)))
        }
        _ => {
            let size = width(a).max(1);
            let is_same = |(a, b): &(&[T], &[T])| a.iter().zip(*b).all(|(a, b)| a.is_same(b));
            let differ = a.chunks(size).zip(b.chunks(size)).filter(|rows| !is_same(rows)).count();
            let plural = if differ == 1 { "" } else { "s" };
            (differ > 0).then(|| format!("{name} of {differ} region{plural}"))
        }
    }
}

/// The largest difference of two lists of numbers, and whether what is no number in one is none in the other.
fn distance(a: &[f32], b: &[f32]) -> (f32, bool) {
    let (mut largest, mut alike) = (0.0f32, true);
    for (x, y) in a.iter().zip(b) {
        // Equal bits are equal, not-a-numbers included.
        if x.to_bits() != y.to_bits() {
            let difference = (x - y).abs();
            alike &= !difference.is_nan();
            largest = largest.max(difference);
        }
    }
    (largest, alike)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Regions {
        let objects = Some(Labels { ids: vec![1, 2], confidences: vec![0.5, 0.25] });
        Regions {
            width: 100,
            height: 80,
            boxes: vec![[0.0, 0.0, 50.0, 40.0], [1.0, 1.0, 9.0, 9.0]],
            features: vec![1.0, 2.0, 3.0, 4.0],
            dim: 2,
            objects,
            class_probabilities: Some(vec![0.5, 0.5, 1.0, 0.0]),
            ..Regions::default()
        }
    }

    #[test]
    fn everything_that_is_different_is_named() {
        let mut other = image();
        assert_eq!(compare(&image(), &other, 0.0), (0.0, vec![]));
        other.width = 101;
        other.boxes[1][0] = 2.0;
        other.objects = Some(Labels { ids: vec![1, 7], confidences: Vec::new() });
        other.attributes = Some(Labels { ids: vec![4, 4], confidences: Vec::new() });
        other.class_probabilities = Some(vec![0.0; 4]);
        other.features[3] = 4.5;
        let (largest, what) = compare(&image(), &other, 0.1);
        assert_eq!(largest, 0.5);
        assert_eq!(
            what,
            [
                "100x80 and 101x80 pixels",
                "boxes of 1 region",
                "object ids of 1 region (region 1: 2 and 7)",
                "object confidences in the first only",
                "attribute ids in the second only",
                "class probabilities of 2 regions",
                "features differ by up to 0.5",
            ]
        );
        other.features[0] = f32::NAN;
        let what = compare(&image(), &other, 1.0).1;
        assert_eq!(what.last().unwrap(), "features that are no numbers in one of them");
    }

    #[test]
    fn what_is_no_number_in_both_is_the_same() {
        let mut image = image();
        image.boxes[0][0] = f32::NAN;
        image.features[0] = f32::NAN;
        image.objects.as_mut().unwrap().confidences[1] = f32::NAN;
        image.class_probabilities.as_mut().unwrap()[0] = f32::NAN;
        assert_eq!(compare(&image, &image.clone(), 0.0), (0.0, vec![]));
        let mut other = image.clone();
        other.boxes[0][0] = 0.0;
        assert_eq!(compare(&image, &other, 0.0).1, ["boxes of 1 region"]);
    }

    #[test]
    fn regions_are_compared_only_with_their_counterparts() {
        let mut fewer = image();
        fewer.boxes.truncate(1);
        fewer.features.truncate(2);
        fewer.height = 81;
        let what = compare(&image(), &fewer, 0.0).1;
        assert_eq!(what, ["100x80 and 100x81 pixels", "2 x 2 and 1 x 2 features"]);
        let narrow = Regions { dim: 1, features: vec![1.0, 2.0], ..image() };
        assert_eq!(compare(&image(), &narrow, 0.0).1, ["2 x 2 and 2 x 1 features"]);
        let relative = Regions { width: 1, height: 1, boxes: vec![[0.0; 4]; 2], ..image() };
        let what = compare(&relative, &image(), 0.0).1;
        assert!(what.len() == 1 && what[0].starts_with("boxes relative to"), "{what:?}");
    }
}
