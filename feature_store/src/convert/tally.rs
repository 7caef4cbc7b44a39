//! What a conversion has taken and what it has left out.

use std::path::Path;

use serde::Serialize;

use super::ConvertError;
use crate::formats::{RecordError, SourceInfo};
use crate::quarantine::Quarantine;
use crate::validate::Finding;
use crate::{StoreError, target};

/// What to do with a record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OnError {
    /// Stop; what was written stays and can be resumed.
    #[default]
    Fail,
    /// Leave it out and report it.
    Skip,
    /// Leave it out, report it, and keep the reason and, where the format has records of bytes, those in this folder.
    Quarantine(std::path::PathBuf),
}

impl OnError {
    /// Refuses a quarantine in the target or a source, before any work.
    pub(crate) fn check(&self, target: &Path, source: &Path) -> Result<(), StoreError> {
        match self {
            OnError::Quarantine(folder) => target::check_quarantine(folder, &[target, source]),
            OnError::Fail | OnError::Skip => Ok(()),
        }
    }
}

/// How far a conversion is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Images of the source that are taken, those of an interrupted conversion included.
    pub images: u64,
    /// Records that could not be read.
    pub skipped: u64,
    /// Images in the source, if it says so.
    pub total: Option<u64>,
}

/// Images that were taken as they are although something is wrong with them.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    /// How many.
    pub images: u64,
    /// The first of them.
    pub first: Option<Finding>,
}

/// A record that was left out.
#[derive(Debug, Serialize)]
pub struct SkippedRecord {
    /// Its key in the source.
    pub key: String,
    /// Why it could not be read.
    pub reason: String,
}

/// What has been taken and what has been left out.
pub(crate) struct Tally<'a> {
    on_error: &'a OnError,
    quarantine: Option<Quarantine>,
    pub(crate) images: u64,
    pub(crate) skipped: Vec<SkippedRecord>,
    pub(crate) findings: Findings,
    total: Option<u64>,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(on_error: &'a OnError, images: u64, total: Option<u64>) -> Tally<'a> {
        let (skipped, findings) = (Vec::new(), Findings::default());
        Tally { on_error, quarantine: None, images, skipped, findings, total }
    }

    /// Whether the bytes of records that are left out are kept.
    pub(crate) fn keeps_bytes(&self) -> bool {
        matches!(self.on_error, OnError::Quarantine(_))
    }

    /// Counts an image that was taken.
    pub(crate) fn take(&mut self, finding: Option<Finding>) {
        self.images += 1;
        self.note(finding);
    }

    /// Takes into account what is wrong with an image.
    pub(crate) fn note(&mut self, finding: Option<Finding>) {
        if let Some(finding) = finding {
            self.findings.images += 1;
            self.findings.first.get_or_insert(finding);
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress { images: self.images, skipped: self.skipped.len() as u64, total: self.total }
    }

    /// The error of a source of which no record could be taken.
    pub(crate) fn empty(&self, info: &SourceInfo) -> ConvertError {
        let first = self.skipped.first().map_or(String::new(), |record| {
            format!("; of {} records the first: {}", self.skipped.len(), record.reason)
        });
        ConvertError::Empty { path: info.path.display().to_string(), first }
    }

    /// Does with a bad record what was asked for.
    pub(crate) fn skip(&mut self, error: RecordError) -> Result<(), ConvertError> {
        match self.on_error {
            OnError::Fail => return Err(error.into()),
            OnError::Skip => {}
            OnError::Quarantine(folder) => {
                self.quarantine.get_or_insert_with(|| Quarantine::new(folder)).keep(&error)?;
            }
        }
        self.skipped.push(SkippedRecord { key: error.key.clone(), reason: error.to_string() });
        Ok(())
    }
}
