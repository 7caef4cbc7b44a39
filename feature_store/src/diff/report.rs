//! What a comparison has found.

use serde::{Serialize, Serializer};

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
    /// The first differences.
    pub findings: Vec<Difference>,
    /// Largest absolute difference of a feature, over all images in both.
    pub largest_difference: f32,
    /// Why what follows was not compared, if one of the two could not be read to its end: the numbers are of what was read
    /// up to there.
    #[serde(serialize_with = "as_text")]
    pub incomplete: Option<DiffError>,
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
        if self.findings.len() < options.listed {
            self.findings.push(Difference { id, what });
        }
    }

    /// Takes an image into account that only one side has.
    pub(super) fn only(&mut self, side: Side, id: String, options: &Options) {
        match side {
            Side::First => self.only_first += 1,
            Side::Second => self.only_second += 1,
        }
        self.note(id, vec![format!("only in the {}", side.name())], options);
    }

    /// Takes into account that one side has an image twice.
    pub(super) fn twice(&mut self, side: Side, id: String, options: &Options) {
        self.different += 1;
        self.note(id, vec![format!("it comes twice in the {}", side.name())], options);
    }

    /// Takes an image into account that both sides have.
    pub(super) fn both(&mut self, id: String, (largest, what): Comparison, options: &Options) {
        self.common += 1;
        self.largest_difference = self.largest_difference.max(largest);
        if !what.is_empty() {
            self.different += 1;
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
