//! A source that is read record by record, with what its ids tell about their order.

use std::collections::HashSet;
use std::path::PathBuf;

use super::DiffError;
use crate::formats::{FeatureSource, RecordError, Records, SourceRecord, StoreSource};

/// A source at one of its records.
pub(super) struct Reader {
    path: PathBuf,
    records: Records,
    head: Option<Box<dyn SourceRecord>>,
    /// Why there is none.
    failed: Option<RecordError>,
    /// The ids before it; `None` of a store, which repeats none.
    seen: Option<HashSet<String>>,
    /// The id that was new last.
    last: String,
    /// The first two neighbours whose ids do not ascend.
    descent: Option<[String; 2]>,
}

impl Reader {
    /// At its first record.
    pub(super) fn new(source: Box<dyn FeatureSource>) -> Result<Reader, DiffError> {
        let path = source.info().path.clone();
        let seen = (source.info().format != StoreSource::FORMAT).then(HashSet::new);
        let records = source.records()?;
        let (head, failed, last, descent) = (None, None, String::new(), None);
        let mut reader = Reader { path, records, head, failed, seen, last, descent };
        reader.step();
        Ok(reader)
    }

    /// Goes to the next record; what cannot be read is told only when all before it is taken.
    fn step(&mut self) -> Option<Box<dyn SourceRecord>> {
        let next = self
            .records
            .next()
            .and_then(|next| next.map_err(|error| self.failed = Some(error)).ok());
        std::mem::replace(&mut self.head, next)
    }

    /// Whether it is at its end.
    ///
    /// # Errors
    /// If it is not, but goes no further.
    pub(super) fn is_over(&mut self) -> Result<bool, RecordError> {
        self.failed.take().map_or(Ok(self.head.is_none()), Err)
    }

    /// The id of the record it stands at; `None` at the end.
    pub(super) fn id(&self) -> Option<&str> {
        self.head.as_ref().map(|record| record.id())
    }

    /// Whether the record it stands at has an id that has come before.
    pub(super) fn repeats(&self) -> bool {
        self.id().zip(self.seen.as_ref()).is_some_and(|(id, seen)| seen.contains(id))
    }

    /// The record it stands at; steps on.
    pub(super) fn take(&mut self) -> Option<Box<dyn SourceRecord>> {
        let taken = self.step();
        if let Some(id) = taken.as_ref().map(|record| record.id()) {
            let is_new = self.seen.as_mut().is_none_or(|seen| seen.insert(id.to_owned()));
            // One that comes again says nothing about the order of the others.
            if is_new {
                id.clone_into(&mut self.last);
            }
        }
        if let Some(after) = self.id().filter(|&after| after < self.last.as_str())
            && !self.repeats()
            && self.descent.is_none()
        {
            self.descent = Some([self.last.clone(), after.to_owned()]);
        }
        taken
    }

    /// The error of a source that is not in the order of its ids.
    pub(super) fn disorder(&self) -> Option<DiffError> {
        let [before, after] = self.descent.clone()?;
        Some(DiffError::Order { path: self.path.clone(), before, after })
    }
}
