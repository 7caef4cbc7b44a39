//! From any source to a store: read and decoded ahead, in parallel, written in order, resumable.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

use serde::Serialize;

use crate::append::AppendOptions;
use crate::formats::{FeatureSource, FormatError, RecordError, Records, SourceInfo, StoreSource};
use crate::validate::Finding;
use crate::writer::Committed;
use crate::{
    Conflict, FeatureStore, Provenance, Schema, StoreError, StoreWriter, WriterOptions, target,
};

mod decode;
mod tally;

use decode::{Decoded, with_raw};
pub(crate) use tally::Tally;
pub use tally::{Findings, OnError, Progress, SkippedRecord};

/// Chunks that wait to be written: about a transaction, so that decoding goes on while the disk works. One of large records
/// counts as several.
const CHUNKS_AHEAD: usize = 3;

/// What a conversion has done.
#[derive(Debug, Serialize)]
pub struct ConvertReport {
    /// The new store's schema.
    pub schema: Schema,
    /// Images taken over from an interrupted run.
    pub resumed: u64,
    /// Records of images that were there already, with equal contents.
    pub repeated: u64,
    /// Images that came twice with different contents, of which the rule chose one.
    pub conflicts: u64,
    /// The ids of those images.
    pub settled: BTreeSet<String>,
    /// Records that could not be read, and why.
    pub skipped: Vec<SkippedRecord>,
    /// Images taken as they are, those of an interrupted run included, that [`validate`](crate::validate) finds something
    /// wrong with.
    pub findings: Findings,
}

/// What an append has done.
#[derive(Debug, Serialize)]
pub struct AppendReport {
    /// The extended store's schema.
    pub schema: Schema,
    /// Images that are new in the store.
    pub added: u64,
    /// Images that were there already, with equal contents.
    pub present: u64,
    /// Images that were there with other contents, of which the rule chose one.
    pub conflicts: u64,
    /// The ids of those images.
    pub settled: BTreeSet<String>,
    /// Records that could not be read, and why.
    pub skipped: Vec<SkippedRecord>,
    /// Images taken as they are that [`validate`](crate::validate) finds something wrong with.
    pub findings: Findings,
}

/// Why a conversion ended early.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The source, or a foreign target.
    #[error(transparent)]
    Source(#[from] FormatError),
    /// A record of the source.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The store being written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing in the source could be read.
    #[error("{path} holds no readable image{first}")]
    Empty {
        /// The source.
        path: String,
        /// How many records were left out and why the first was, if there were any.
        first: String,
    },
    /// It failed, and left something that the next run can go on from.
    #[error(
        "{source}; what is done, {images} of the images, is kept in {partial}: the same command goes on from there{}, \
         removing that folder starts anew",
        without_it(.source)
    )]
    Unfinished {
        /// Images that are safe.
        images: u64,
        /// Where they are.
        partial: std::path::PathBuf,
        /// What has failed.
        source: Box<ConvertError>,
    },
    /// The caller asked to stop an export, which starts anew the next time.
    #[error("interrupted; nothing was written")]
    Abandoned,
    /// The caller asked to stop; the next run goes on from here.
    #[error("interrupted after {images} images; the same command goes on from there")]
    Interrupted {
        /// Images that are safe.
        images: u64,
    },
}

/// What has the next run go on although the same record is in its way again.
fn without_it(error: &ConvertError) -> &'static str {
    match error {
        ConvertError::Record(_) => ", with `--on-error skip` or `quarantine` without that record",
        _ => "",
    }
}

/// Converts a source into a new store at `target`.
///
/// Images that an interrupted run has committed are not decoded again. `cancelled` is looked at between records.
///
/// # Errors
/// [`ConvertError`]; whatever it is, the target is untouched and what was committed can be resumed. Of a conflict,
/// and where no image of the source was committed, nothing is left: there is nothing to go on from.
pub fn convert(
    source: Box<dyn FeatureSource>,
    target: &Path,
    mut options: WriterOptions,
    on_error: &OnError,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<ConvertReport, ConvertError> {
    target::check(target, StoreSource::FORMAT, options.overwrite, &[&source.info().path])?;
    on_error.check(target, &source.info().path)?;
    options.provenance = provenance(source.info());
    let conflict = options.conflict;
    if conflict != Conflict::Fail {
        options.provenance.fingerprint += &format!("-{conflict:?}");
    }
    let writer = StoreWriter::create(target, options)?;
    // The last of several must be compared with what is there.
    let skips = writer.committed() > 0 && conflict != Conflict::Last;
    let committed = skips.then(|| writer.committed_images());
    let resumed = writer.committed();
    let counted = if skips { resumed } else { 0 };
    let mut tally = Tally::new(on_error, counted, source.info().count);
    let writer = fill(writer, 0, committed, source, &mut tally, cancelled, progress)?;
    let (conflicts, settled) = (writer.conflicts(), writer.settled().clone());
    let schema = writer.finish()?;
    let Tally { images, skipped, findings, .. } = tally;
    let repeated = images.saturating_sub(schema.count + conflicts);
    Ok(ConvertReport { schema, resumed, repeated, conflicts, settled, skipped, findings })
}

/// Adds a source's images to a finished store; resumable like [`convert`], and swapped in when complete.
///
/// # Errors
/// As [`convert`]; [`StoreError::Duplicate`] for an image that the store holds with other contents, unless the options
/// say which to keep.
pub fn append(
    source: Box<dyn FeatureSource>,
    store: &Path,
    options: AppendOptions,
    on_error: &OnError,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<AppendReport, ConvertError> {
    target::check(store, StoreSource::FORMAT, true, &[&source.info().path])?;
    on_error.check(store, &source.info().path)?;
    let there = FeatureStore::open(store)?.schema().clone();
    let before = there.count;
    let writer = crate::append::reopen(store, provenance(source.info()), options)?;
    // Every image is compared with what is there: one that differs must not be taken for one that was resumed.
    let mut tally = Tally::new(on_error, 0, source.info().count);
    let writer = fill(writer, before, None, source, &mut tally, cancelled, progress)?;
    let (conflicts, settled) = (writer.conflicts(), writer.settled().clone());
    let schema = if writer.digest() == there.digest {
        // A store that nothing has come to stays as it is, its provenance, too.
        writer.abandon()?;
        there
    } else {
        writer.finish()?
    };
    let added = schema.count - before;
    let Tally { images, skipped, findings, .. } = tally;
    let present = images.saturating_sub(added + conflicts);
    Ok(AppendReport { schema, added, present, conflicts, settled, skipped, findings })
}

fn provenance(info: &SourceInfo) -> Provenance {
    Provenance {
        source_format: info.format.to_owned(),
        source: info.path.display().to_string(),
        fingerprint: info.fingerprint.clone(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Writes and commits a source's images into a store that held `before` images without them.
fn fill(
    mut writer: StoreWriter,
    before: u64,
    committed: Option<Committed>,
    source: Box<dyn FeatureSource>,
    tally: &mut Tally,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<StoreWriter, ConvertError> {
    let info = source.info().clone();
    let written = source.records().map_err(ConvertError::from).and_then(|records| {
        write_all(&mut writer, committed, records, &info, tally, cancelled, progress)
    });
    let written = written.and_then(|()| match tally.images {
        0 => Err(tally.empty(&info)),
        _ => Ok(writer.commit()?),
    });
    settle(writer, before, written).map(|(writer, ())| writer)
}

/// What comes of writing into a store that held `before` images. After a failure the partial stays if the next run can
/// go on from it: one without an image of this source would only stand in the way of another.
pub(crate) fn settle<T>(
    writer: StoreWriter,
    before: u64,
    written: Result<T, ConvertError>,
) -> Result<(StoreWriter, T), ConvertError> {
    let error = match written {
        Ok(done) => return Ok((writer, done)),
        Err(error) => error,
    };
    let repeats = matches!(
        error,
        ConvertError::Empty { .. } | ConvertError::Store(StoreError::Duplicate { .. })
    );
    let stopped = matches!(error, ConvertError::Interrupted { .. });
    let images = writer.committed();
    if repeats || (!stopped && images == before) {
        writer.abandon()?;
        return Err(error);
    }
    let partial = writer.partial().to_owned();
    Err(if stopped {
        error
    } else {
        ConvertError::Unfinished { images, partial, source: error.into() }
    })
}

/// Writes a source's images.
pub(crate) fn write_all(
    writer: &mut StoreWriter,
    committed: Option<Committed>,
    records: Records,
    info: &SourceInfo,
    tally: &mut Tally,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ConvertError> {
    let (encoding, keep) = (writer.encoding(), tally.keeps_bytes());
    thread::scope(|scope| {
        let (send, receive) = sync_channel(CHUNKS_AHEAD);
        let path = &info.path;
        scope.spawn(move || decode::decode_all(records, path, committed, encoding, keep, &send));
        // Dropped on return, the receiver ends the decoder.
        for outcome in receive.into_iter().flatten() {
            if cancelled.load(Ordering::Relaxed) {
                writer.commit()?;
                return Err(ConvertError::Interrupted { images: writer.committed() });
            }
            let outcome = outcome.and_then(|Decoded { id, record, finding, raw }| {
                let is_new = record.is_some();
                let appended = record.map_or(Ok(()), |record| writer.append_encoded(&id, record));
                appended.map_err(|error| with_raw(of_a_record(error.into(), &info.path), raw))?;
                Ok((is_new, finding.map(|what| Finding { id, what })))
            });
            match outcome {
                Ok((true, finding)) => tally.take(finding),
                Ok((false, finding)) => tally.note(finding),
                Err(ConvertError::Record(error)) => {
                    if let Err(error) = tally.skip(error) {
                        writer.commit()?;
                        return Err(error);
                    }
                }
                Err(error) => {
                    writer.commit()?;
                    return Err(error);
                }
            }
            progress(tally.progress());
        }
        Ok(())
    })
}

/// What no store can hold is the record's fault, like what cannot be read.
fn of_a_record(error: ConvertError, source: &Path) -> ConvertError {
    match error {
        ConvertError::Store(
            ref error @ (StoreError::Regions { ref id, .. } | StoreError::IdLength { ref id, .. }),
        ) => RecordError::new(source, id.clone(), error.reason()).into(),
        other => other,
    }
}
