//! What can be wrong with a data set.

use std::collections::BTreeMap;

use serde::Serialize;

/// Kinds of findings, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A file that cannot be read or parsed at all.
    Unreadable,
    /// Values of the wrong type, keys that should not be there.
    Layout,
    /// Targets that are no numbers, or outside the set.
    Target,
    /// A set, a target or an id that a file has twice.
    RepeatedKey,
    /// Descriptions without a word.
    EmptyDescription,
    /// One description for two images of a set.
    RepeatedDescription,
    /// Sets that are in two splits.
    SharedSet,
    /// Names that become one image id.
    CollidingIds,
    /// Sets without exactly ten images.
    ImageCount,
    /// Images that should be there.
    MissingImage,
    /// Images that belong to no set.
    SuperfluousImage,
    /// Images of a set with the same bytes.
    EqualImages,
    /// Phenomena or annotators of descriptions that are not there, or have another text.
    Annotation,
    /// Codes of phenomena that ImageCoDe does not use.
    UnknownPhenomenon,
}

impl Kind {
    /// In words, as a heading.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Unreadable => "unreadable files",
            Kind::Layout => "wrong types",
            Kind::Target => "wrong targets",
            Kind::RepeatedKey => "keys that come twice",
            Kind::EmptyDescription => "empty descriptions",
            Kind::RepeatedDescription => "repeated descriptions",
            Kind::SharedSet => "sets in two splits",
            Kind::CollidingIds => "colliding ids",
            Kind::ImageCount => "wrong numbers of images",
            Kind::MissingImage => "missing images",
            Kind::SuperfluousImage => "superfluous images",
            Kind::EqualImages => "equal images",
            Kind::Annotation => "annotations of other descriptions",
            Kind::UnknownPhenomenon => "unknown phenomena",
        }
    }
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where: the file, and the set, entry or line in it.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

/// All that is wrong of one kind.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// How much there is.
    pub count: u64,
    /// The first of it.
    pub findings: Vec<Finding>,
}

/// What is wrong, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// Findings of a kind that are kept; more are only counted.
    listed: usize,
    groups: BTreeMap<Kind, Group>,
}

impl Findings {
    /// None yet; so many of a kind are going to be kept.
    pub fn new(listed: usize) -> Findings {
        Findings { listed, groups: BTreeMap::new() }
    }

    /// Takes a finding into account.
    pub fn add(&mut self, kind: Kind, place: impl Into<String>, what: impl Into<String>) {
        let group = self.groups.entry(kind).or_default();
        group.count += 1;
        if group.findings.len() < self.listed {
            group.findings.push(Finding { place: place.into(), what: what.into() });
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// By kind.
    pub fn groups(&self) -> impl Iterator<Item = (Kind, &Group)> {
        self.groups.iter().map(|(kind, group)| (*kind, group))
    }

    /// How many there are of a kind.
    pub fn count(&self, kind: Kind) -> u64 {
        self.groups.get(&kind).map_or(0, |group| group.count)
    }
}

impl Serialize for Findings {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.groups.serialize(serializer)
    }
}
