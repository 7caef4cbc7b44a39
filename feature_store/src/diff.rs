//! Comparing two stores or dumps: ids, sizes, boxes, labels, and features within a tolerance.
//!
//! Memory is bounded whatever is compared: two stores are walked in the order of their ids, a dump is read once with
//! each of its images looked up in the store, and two dumps are read side by side, which needs them in one order. Of a dump
//! no more than the ids is kept.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::chunks::{Chunks, Found};
use crate::formats::{FeatureSource, FormatError, Input, RecordError};
use crate::record::RecordView;
use crate::{FeatureStore, StoreError};

mod compare;
mod pairs;
mod reader;
mod report;

use compare::compare;
use pairs::SideBySide;
use report::Side;
pub use report::{DiffReport, Difference};

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

/// Compares two stores or dumps. `None` comes back if `cancelled` was set. Of what cannot be read to its end the report says
/// so, and what was found up to there.
///
/// # Errors
/// What cannot be read at all; [`DiffError::Order`] for two dumps in different orders.
pub fn diff(
    first: Input,
    second: Input,
    options: &Options,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<DiffReport>, DiffError> {
    // Two stores repeat no id.
    let may_repeat = !matches!((&first, &second), (Input::Store(_), Input::Store(_)));
    let counted = may_repeat.then(HashSet::new);
    let mut report = DiffReport { counted, ..DiffReport::default() };
    let compared = match (first, second) {
        (Input::Store(store), Input::Dump(dump)) => {
            look_up(dump, Side::Second, &store, options, &mut report, cancelled, progress)
        }
        (Input::Dump(dump), Input::Store(store)) => {
            look_up(dump, Side::First, &store, options, &mut report, cancelled, progress)
        }
        (first, second) => {
            let sources = [first.into_source()?, second.into_source()?];
            SideBySide::new(sources, options, &mut report)?.run(cancelled, progress)
        }
    };
    match compared {
        Ok(whole) => Ok(whole.then_some(report)),
        Err(error @ (DiffError::Record(_) | DiffError::Store(_))) => {
            report.incomplete = Some(error);
            Ok(Some(report))
        }
        Err(error) => Err(error),
    }
}

/// Compares a dump in any order with a store, unless `cancelled` was set; whether all was compared. Ids are all that is kept
/// of the dump.
fn look_up(
    dump: Box<dyn FeatureSource>,
    side: Side,
    store: &FeatureStore,
    options: &Options,
    report: &mut DiffReport,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<bool, DiffError> {
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
            return Ok(false);
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
    Ok(true)
}
