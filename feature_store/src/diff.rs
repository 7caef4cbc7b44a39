//! Comparing two stores or dumps: ids, sizes, boxes, labels, and features within a tolerance.
//!
//! Memory is bounded whatever is compared: two stores are walked in the order of their ids, a dump is read once with
//! each of its images looked up in the store, and two dumps are read side by side, which needs them in one order. Of a dump
//! no more than the ids is kept.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rayon::prelude::*;
use serde::Serialize;

use crate::chunks::{Chunks, Found, Pace};
use crate::formats::{FeatureSource, FormatError, Input, RecordError, SourceRecord};
use crate::record::RecordView;
use crate::{FeatureStore, StoreError};

mod compare;
mod reader;

use compare::{Comparison, compare};
use reader::Reader;

/// Bytes of pairs of images compared in parallel at a time, at most, while they are not decoded.
const CHUNK_BYTES: usize = 32 << 20;

/// What is different about two records of one image.
pub(crate) fn differences(one: &RecordView, other: &RecordView) -> String {
    let (_, what) = compare(&one.to_regions(), &other.to_regions(), 0.0);
    if what.is_empty() { "the same, stored otherwise".into() } else { what.join("; ") }
}

/// How two stores or dumps are compared.
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

/// Why two things cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// A dump that cannot be read.
    #[error(transparent)]
    Source(#[from] FormatError),
    /// One record that cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A store that cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Two dumps whose images cannot be paired while they are read.
    #[error(
        "the dumps list different images, or in different orders, and {path} is not in the order of its ids (`{after}` \
         comes after `{before}`), so that what is missing cannot be told; make a store of it with `xenc store convert \
         {path} STORE` and compare that"
    )]
    Order {
        /// The dump that is not in the order of its ids.
        path: PathBuf,
        /// An id.
        before: String,
        /// The one after it, which is no greater.
        after: String,
    },
}

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
enum Side {
    First,
    Second,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::First => "first",
            Side::Second => "second",
        }
    }

    fn other(self) -> Side {
        match self {
            Side::First => Side::Second,
            Side::Second => Side::First,
        }
    }
}

impl DiffReport {
    /// Whether both hold the same.
    pub fn is_equal(&self) -> bool {
        self.only_first + self.only_second + self.different == 0
    }

    fn note(&mut self, id: String, what: Vec<String>, options: &Options) {
        if self.findings.len() < options.listed {
            self.findings.push(Difference { id, what });
        }
    }

    /// Takes an image into account that only one side has.
    fn only(&mut self, side: Side, id: String, options: &Options) {
        match side {
            Side::First => self.only_first += 1,
            Side::Second => self.only_second += 1,
        }
        self.note(id, vec![format!("only in the {}", side.name())], options);
    }

    /// Takes into account that one side has an image twice.
    fn twice(&mut self, side: Side, id: String, options: &Options) {
        self.different += 1;
        self.note(id, vec![format!("it comes twice in the {}", side.name())], options);
    }

    /// Takes an image into account that both sides have.
    fn both(&mut self, id: String, (largest, what): Comparison, options: &Options) {
        self.common += 1;
        self.largest_difference = self.largest_difference.max(largest);
        if !what.is_empty() {
            self.different += 1;
            self.note(id, what, options);
        }
    }
}

/// Compares two stores or dumps. `None` comes back if `cancelled` was set.
///
/// # Errors
/// What cannot be read; [`DiffError::Order`] for two dumps in different orders.
pub fn diff(
    first: Input,
    second: Input,
    options: &Options,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<DiffReport>, DiffError> {
    match (first, second) {
        (Input::Store(store), Input::Dump(dump)) => {
            look_up(dump, Side::Second, &store, options, cancelled, progress)
        }
        (Input::Dump(dump), Input::Store(store)) => {
            look_up(dump, Side::First, &store, options, cancelled, progress)
        }
        (first, second) => side_by_side(
            [first.into_source()?, second.into_source()?],
            options,
            cancelled,
            progress,
        ),
    }
}

/// Compares a dump in any order with a store. Ids are all that is kept of the dump.
fn look_up(
    dump: Box<dyn FeatureSource>,
    side: Side,
    store: &FeatureStore,
    options: &Options,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<DiffReport>, DiffError> {
    let mut report = DiffReport::default();
    let mut seen = HashSet::new();
    let look = |record: Found| {
        let record = record?;
        if !store.contains(record.id())? {
            return Ok((record.id().to_owned(), None, 0));
        }
        let (id, here) = record.decode()?;
        let there = store.get_once(&id)?;
        let compared = match side {
            Side::First => compare(&here, &there, options.tolerance),
            Side::Second => compare(&there, &here, options.tolerance),
        };
        Ok((id, Some(compared), here.bytes()))
    };
    let mut chunks = Chunks::new(dump.records()?);
    loop {
        // What a record took tells what the next ones may take.
        let looked = chunks.next(look, |looked: &Result<_, DiffError>| {
            looked.as_ref().map_or(0, |(_, _, bytes)| *bytes)
        });
        if cancelled.load(Relaxed) {
            return Ok(None);
        }
        if looked.is_empty() {
            break;
        }
        for looked in looked {
            let (id, compared, _) = looked?;
            if !seen.insert(id.clone()) {
                report.twice(side, id, options);
            } else if let Some(compared) = compared {
                report.both(id, compared, options);
            } else {
                report.only(side, id, options);
            }
        }
        progress(seen.len() as u64);
    }
    for id in store.ids() {
        let id = id?;
        if !seen.contains(&id) {
            report.only(side.other(), id, options);
        }
    }
    Ok(Some(report))
}

/// Compares two sources while both are read. Where their ids differ, the lesser one is missing in the other, provided
/// that both are in the order of their ids; as long as they are the same, or where one has ended, any order will do. An id
/// that one of them repeats is its own fault, whatever the other has.
fn side_by_side(
    sources: [Box<dyn FeatureSource>; 2],
    options: &Options,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<DiffReport>, DiffError> {
    let mut report = DiffReport::default();
    let [first, second] = sources;
    let (mut first, mut second) = (Reader::new(first)?, Reader::new(second)?);
    let (mut done, mut one_order) = (0, true);
    let mut pace = Pace::default();
    while first.id().is_some() || second.id().is_some() {
        if cancelled.load(Relaxed) {
            return Ok(None);
        }
        let (mut pairs, mut bytes) = (Vec::new(), 0);
        for _ in 0..pace.records() {
            if first.id() != second.id()
                && let Some((side, id)) = repeated(&mut first, &mut second)?
            {
                report.twice(side, id, options);
                continue;
            }
            let both = first.id().is_some() && second.id().is_some();
            let order = match (first.id(), second.id()) {
                (Some(a), Some(b)) if bytes < CHUNK_BYTES => a.cmp(b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                _ => break,
            };
            let a = if order.is_le() { first.take()? } else { None };
            let b = if order.is_ge() { second.take()? } else { None };
            done += 1;
            one_order &= order.is_eq() || !both;
            if !one_order && let Some(error) = first.disorder().or(second.disorder()) {
                return Err(error);
            }
            match (a, b) {
                (Some(a), Some(b)) => {
                    bytes = a.size().saturating_add(b.size()).saturating_add(bytes);
                    pairs.push((a, b));
                }
                (Some(a), None) => report.only(Side::First, a.id().to_owned(), options),
                (None, Some(b)) => report.only(Side::Second, b.id().to_owned(), options),
                (None, None) => {}
            }
        }
        let decode = |(a, b): (Box<dyn SourceRecord>, Box<dyn SourceRecord>)| {
            let ((id, a), (_, b)) = (a.decode()?, b.decode()?);
            Ok((id, compare(&a, &b, options.tolerance), a.bytes() + b.bytes()))
        };
        let compared: Vec<_> =
            pairs.into_par_iter().map(decode).collect::<Result<_, RecordError>>()?;
        if let Some(largest) = compared.iter().map(|(_, _, bytes)| *bytes).max() {
            pace.learn(largest);
        }
        compared.into_iter().for_each(|(id, compared, _)| report.both(id, compared, options));
        progress(done);
    }
    Ok(Some(report))
}

/// Steps over a record whose id has come before on its side.
fn repeated(
    first: &mut Reader,
    second: &mut Reader,
) -> Result<Option<(Side, String)>, RecordError> {
    for (side, reader) in [(Side::First, first), (Side::Second, second)] {
        if reader.repeats() {
            return Ok(reader.take()?.map(|record| (side, record.id().to_owned())));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Regions;
    use crate::formats::tsv::{TsvCompression, TsvOrder, TsvSink};
    use crate::formats::{self, FeatureSink as _};

    /// A dump with these images, one letter each, in this order.
    fn dump(folder: &Path, ids: &str) -> Input {
        let path = folder.join(format!("{ids}.tsv"));
        let _ = std::fs::remove_file(&path);
        let mut sink = TsvSink::create(&path, TsvOrder::BottomUp, TsvCompression::Plain).unwrap();
        let regions = Regions {
            width: 9,
            height: 9,
            boxes: vec![[0.0, 0.0, 5.0, f32::NAN]],
            features: vec![1.0],
            dim: 1,
            ..Regions::default()
        };
        ids.chars().for_each(|id| sink.append(&id.to_string(), &regions).unwrap());
        Box::new(sink).finish().unwrap();
        Input::Dump(formats::open(&path).unwrap())
    }

    /// The numbers of a report and what is said of each image, or the error.
    fn compared(first: &str, second: &str) -> Result<([u64; 4], String), String> {
        let folder = tempfile::tempdir().unwrap();
        let sides = [dump(folder.path(), first), dump(folder.path(), second)];
        let [first, second] = sides;
        let run = AtomicBool::new(false);
        let report = diff(first, second, &Options::default(), &run, &mut |_| {});
        let report = report.map_err(|error| error.to_string())?.unwrap();
        let said = report.findings.iter().map(|it| format!("{}: {}", it.id, it.what.join(", ")));
        let said = said.collect::<Vec<_>>().join("; ");
        let DiffReport { common, only_first, only_second, different, .. } = report;
        Ok(([common, only_first, only_second, different], said))
    }

    #[test]
    fn what_follows_the_end_of_the_other_is_only_there() {
        let only = |side| format!("b: only in the {side}");
        assert_eq!(compared("za", "zab").unwrap(), ([2, 0, 1, 0], only("second")));
        assert_eq!(compared("zab", "za").unwrap(), ([2, 1, 0, 0], only("first")));
        // Where an image is missing before the end, the others may come later.
        let error = compared("zab", "zb").unwrap_err();
        assert!(error.contains("`a` comes after `z`") && error.contains("zab.tsv"), "{error}");
        assert!(compared("ac", "bda").is_err());
    }

    #[test]
    fn a_repeated_id_is_told_as_such() {
        assert_eq!(compared("zaz", "zaz").unwrap(), ([3, 0, 0, 0], String::new()));
        let twice = |id: char, side| format!("{id}: it comes twice in the {side}");
        assert_eq!(compared("zaz", "za").unwrap(), ([2, 0, 0, 1], twice('z', "first")));
        assert_eq!(compared("zab", "zzab").unwrap(), ([3, 0, 0, 1], twice('z', "second")));
        // It hides no disorder of the others.
        assert!(compared("acab", "bc").unwrap_err().contains("`b` comes after `c`"));
    }
}
