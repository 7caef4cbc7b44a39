//! From any source to a store: decoded in parallel, written in order, resumable.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use crate::formats::{FeatureSource, FormatError, RecordError};
use crate::{Provenance, Schema, StoreError, StoreWriter, WriterOptions};

/// Records decoded at a time.
const CHUNK: usize = 32;

/// What to do with a record that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// Stop; what was written stays and can be resumed.
    #[default]
    Fail,
    /// Leave it out and report it.
    Skip,
}

/// How far a conversion is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Images in the new store, those of an interrupted run included.
    pub images: u64,
    /// Records that could not be read.
    pub skipped: u64,
    /// Images in the source, if it says so.
    pub total: Option<u64>,
}

/// What a conversion has done.
#[derive(Debug, Serialize)]
pub struct ConvertReport {
    /// The new store's schema.
    pub schema: Schema,
    /// Images taken over from an interrupted run.
    pub resumed: u64,
    /// Records that could not be read, and why.
    pub skipped: Vec<SkippedRecord>,
}

/// A record that was left out.
#[derive(Debug, Serialize)]
pub struct SkippedRecord {
    /// Its key in the source.
    pub key: String,
    /// Why it could not be read.
    pub reason: String,
}

/// Why a conversion ended early.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The source.
    #[error(transparent)]
    Source(#[from] FormatError),
    /// A record of the source.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The store being written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing in the source could be read.
    #[error("{0} holds no readable image")]
    Empty(String),
    /// The caller asked to stop; the next run goes on from here.
    #[error("interrupted after {images} images; the same command goes on from there")]
    Interrupted {
        /// Images that are safe.
        images: u64,
    },
}

/// Converts a source into a new store at `target`.
///
/// Images that an interrupted run has committed are not decoded again. `cancelled` is looked at between records.
///
/// # Errors
/// [`ConvertError`]; whatever it is, the target is untouched and what was committed can be resumed.
pub fn convert(
    source: Box<dyn FeatureSource>,
    target: &Path,
    mut options: WriterOptions,
    on_error: OnError,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<ConvertReport, ConvertError> {
    let info = source.info().clone();
    options.provenance = Provenance {
        source_format: info.format.to_owned(),
        source: info.path.display().to_string(),
        fingerprint: info.fingerprint.clone(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut writer = StoreWriter::create(target, options)?;
    let resumed = writer.committed();
    let mut skipped: Vec<SkippedRecord> = Vec::new();
    let mut appended = 0;
    let mut records = source.records()?;
    loop {
        // Decoding is most of the work; a chunk at a time bounds the memory and keeps the order.
        let mut chunk = Vec::with_capacity(CHUNK);
        while chunk.len() < CHUNK
            && let Some(record) = records.next()
        {
            match record {
                Ok(record) if resumed > 0 && writer.contains(record.id())? => {}
                record => chunk.push(record),
            }
        }
        if chunk.is_empty() {
            break;
        }
        let decoded: Vec<_> = chunk.into_par_iter().map(|record| record?.decode()).collect();
        for outcome in decoded {
            if cancelled.load(Ordering::Relaxed) {
                writer.commit()?;
                return Err(ConvertError::Interrupted { images: writer.committed() });
            }
            match outcome {
                Ok((id, regions)) => {
                    writer.append(&id, &regions)?;
                    appended += 1;
                }
                Err(error) if on_error == OnError::Skip => {
                    skipped
                        .push(SkippedRecord { key: error.key.clone(), reason: error.to_string() });
                }
                Err(error) => {
                    writer.commit()?;
                    return Err(error.into());
                }
            }
            let skipped = skipped.len() as u64;
            progress(Progress { images: resumed + appended, skipped, total: info.count });
        }
    }
    if resumed + appended == 0 {
        return Err(ConvertError::Empty(info.path.display().to_string()));
    }
    Ok(ConvertReport { schema: writer.finish()?, resumed, skipped })
}
