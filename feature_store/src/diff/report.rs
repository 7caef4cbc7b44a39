//! What a comparison has found.

use std::collections::HashSet;

use serde::{Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_128;

use super::compare::Comparison;
use super::{DiffError, Options};

/// What two stores or dumps differ in.
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
    /// Differences, listed or not: an image that comes twice may have several.
    pub differences: u64,
    /// The first differences.
    pub findings: Vec<Difference>,
    /// Largest absolute difference of a feature, over all images in both.
    pub largest_difference: f32,
    /// Why what follows was not compared, if one of the two could not be read to its end: the numbers are of what was read
    /// up to there.
    #[serde(serialize_with = "as_text")]
    pub incomplete: Option<DiffError>,
    /// Ids, as hashes, that are counted in one of the numbers: one that comes again counts once. `None` if none can.
    #[serde(skip)]
    pub(super) counted: Option<HashSet<u128>>,
}

/// An image that differs.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// The image id.
    pub id: String,
    /// Everything that is different about it.
    pub what: Vec<String>,
}

/// One of the two that are compared.
#[derive(Clone, Copy)]
pub(super) enum Side {
    First,
    Second,
}

impl Side {
    pub(super) fn name(self) -> &'static str {
        match self {
            Side::First => "first",
            Side::Second => "second",
        }
    }

    pub(super) fn other(self) -> Side {
        match self {
            Side::First => Side::Second,
            Side::Second => Side::First,
        }
    }
}

impl DiffReport {
    /// Whether both hold the same, as far as to their ends.
    pub fn is_equal(&self) -> bool {
        self.only_first + self.only_second + self.different == 0 && self.incomplete.is_none()
    }

    fn note(&mut self, id: String, what: Vec<String>, options: &Options) {
        self.differences += 1;
        if self.findings.len() < options.listed {
            self.findings.push(Difference { id, what });
        }
    }

    /// Whether an image that differs is to be counted.
    fn is_new(&mut self, id: &str) -> bool {
        self.counted.as_mut().is_none_or(|counted| counted.insert(xxh3_128(id.as_bytes())))
    }

    /// Takes an image into account that only one side has.
    pub(super) fn only(&mut self, side: Side, id: String, options: &Options) {
        if self.is_new(&id) {
            match side {
                Side::First => self.only_first += 1,
                Side::Second => self.only_second += 1,
            }
        }
        self.note(id, vec![format!("only in the {}", side.name())], options);
    }

    /// Takes into account that one side has an image twice.
    pub(super) fn twice(&mut self, side: Side, id: String, options: &Options) {
        self.different += u64::from(self.is_new(&id));
        self.note(id, vec![format!("it comes twice in the {}", side.name())], options);
    }

    /// Takes an image into account that both sides have.
    pub(super) fn both(&mut self, id: String, compared: Comparison, options: &Options) {
        self.common += 1;
        self.again(id, compared, options);
    }

    /// As [`both`](DiffReport::both), of an image that both sides have had before.
    pub(super) fn again(&mut self, id: String, (largest, what): Comparison, options: &Options) {
        self.largest_difference = self.largest_difference.max(largest);
        if !what.is_empty() {
            self.different += u64::from(self.is_new(&id));
            self.note(id, what, options);
        }
    }
}

fn as_text<S: Serializer>(error: &Option<DiffError>, serializer: S) -> Result<S::Ok, S::Error> {
    match error {
        Some(error) => serializer.collect_str(error),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_comes_again_counts_once() {
        let options = Options::default();
        let mut report = DiffReport { counted: Some(HashSet::new()), ..DiffReport::default() };
        let differs = || (1.0, vec!["features".to_owned()]);
        report.both("a".into(), differs(), &options);
        report.twice(Side::First, "a".into(), &options);
        report.again("a".into(), differs(), &options);
        report.only(Side::Second, "b".into(), &options);
        report.twice(Side::Second, "b".into(), &options);
        report.both("c".into(), (0.0, vec![]), &options);
        report.twice(Side::First, "c".into(), &options);
        report.twice(Side::First, "c".into(), &options);
        let DiffReport { common, only_first, only_second, different, differences, .. } = report;
        assert_eq!([common, only_first, only_second, different, differences], [2, 0, 1, 2, 7]);
    }
}
