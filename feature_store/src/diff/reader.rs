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
        let mut records = source.records()?;
        let head = records.next().transpose()?;
        Ok(Reader { path, records, head, seen, last: String::new(), descent: None })
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
    pub(super) fn take(&mut self) -> Result<Option<Box<dyn SourceRecord>>, RecordError> {
        let next = self.records.next().transpose()?;
        let taken = std::mem::replace(&mut self.head, next);
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
        Ok(taken)
    }

    /// The error of a source that is not in the order of its ids.
    pub(super) fn disorder(&self) -> Option<DiffError> {
        let [before, after] = self.descent.clone()?;
        Some(DiffError::Order { path: self.path.clone(), before, after })
    }
}
