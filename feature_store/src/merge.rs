//! Several stores into one: records are copied as they are, without decoding; those of dumps are decoded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::convert::{ConvertError, Findings, OnError, Progress, Tally, settle, write_all};
use crate::formats::{Input, StoreSource};
use crate::record::{Encoded, RecordView};
use crate::store::StoreCursor;
use crate::{
    Compression, Conflict, FeatureStore, Precision, Provenance, Regions, Schema, StoreError,
    StoreWriter, WriterOptions, diff, record, target,
};

/// What a merge has done.
#[derive(Debug, Serialize)]
pub struct MergeReport {
    /// The new store's schema.
    pub schema: Schema,
    /// Images that came again with equal contents.
    pub repeated: u64,
    /// Images that came again with different contents, of which the rule chose one.
    pub conflicts: u64,
    /// The ids of those images.
    pub settled: BTreeSet<String>,
    /// Images of dumps taken as they are that [`validate`](crate::validate) finds something wrong with.
    pub findings: Findings,
}

/// Merges stores of equal dim, precision and compression into a new one at `target`; resumable like a conversion. A dump
/// among them is encoded as the stores are, or in f32 if there are none.
///
/// # Errors
/// [`StoreError::Mismatch`] for stores that do not go together, [`StoreError::Duplicate`] for a conflict under
/// [`Conflict::Fail`] (nothing is left of what was written), and whatever reading and writing can bring.
pub fn merge(
    inputs: &[PathBuf],
    target: &Path,
    conflict: Conflict,
    overwrite: bool,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<MergeReport, ConvertError> {
    let sources: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    let inputs: Vec<Input> =
        inputs.iter().map(|path| Input::open(path)).collect::<Result<_, _>>()?;
    if inputs.is_empty() {
        return Err(ConvertError::Empty {
            path: "a list of no stores".into(),
            first: String::new(),
        });
    }
    let stores: Vec<FeatureStore> = inputs.iter().filter_map(Input::as_store).cloned().collect();
    stores.iter().try_for_each(|store| agree(&stores[0], store))?;
    target::check(target, StoreSource::FORMAT, overwrite, &sources)?;
    let options = options(&inputs, "merge", &format!("{conflict:?}"), overwrite);
    let mut writer = StoreWriter::create(target, WriterOptions { conflict, ..options })?;
    let mut tally = Tally::new(&OnError::Fail, 0, None);
    let merged = if stores.len() == inputs.len() {
        in_order_of_ids(&mut writer, &stores, conflict, cancelled, progress)
    } else {
        one_after_the_other(&mut writer, inputs, &mut tally, cancelled, progress)
    };
    if let Err(
        error @ (ConvertError::Record(_) | ConvertError::Store(StoreError::Regions { .. })),
    ) = merged
    {
        // No choice of records could be made: the next run would meet the same one.
        writer.abandon()?;
        return Err(error);
    }
    let (writer, Repeats { repeated, conflicts, settled }) = settle(writer, 0, merged)?;
    let Tally { findings, .. } = tally;
    Ok(MergeReport { schema: writer.finish()?, repeated, conflicts, settled, findings })
}

/// Images that came again.
struct Repeats {
    repeated: u64,
    conflicts: u64,
    settled: BTreeSet<String>,
}

/// Merges stores so that the new one's file is in the order of ids, too.
fn in_order_of_ids(
    writer: &mut StoreWriter,
    stores: &[FeatureStore],
    conflict: Conflict,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Repeats, ConvertError> {
    let mut cursors: Vec<StoreCursor> =
        stores.iter().map(StoreCursor::new).collect::<Result<_, _>>()?;
    let (mut done, mut repeated, mut conflicts) = (0, 0, 0);
    let mut settled = BTreeSet::new();
    // All stores list their ids in the same order: the least of their heads is the next image.
    while let Some(id) = cursors.iter().filter_map(StoreCursor::head).min().map(str::to_owned) {
        stop_if(cancelled, writer)?;
        let mut chosen: Option<(Encoded, &Path)> = None;
        for (cursor, store) in cursors.iter_mut().zip(stores) {
            if cursor.head() != Some(&id) {
                continue;
            }
            let record = (cursor.take()?, store.path());
            match &chosen {
                None => chosen = Some(record),
                Some((other, _)) if other.bytes == record.0.bytes => repeated += 1,
                Some(other) => {
                    match conflict {
                        Conflict::Fail => return Err(duplicate(id, other, &record).into()),
                        Conflict::First => {}
                        Conflict::Last => chosen = Some(record),
                    }
                    conflicts += 1;
                    settled.insert(id.clone());
                }
            }
        }
        if let Some((record, _)) = chosen {
            writer.append_encoded(&id, record)?;
        }
        done += 1;
        progress(done);
    }
    Ok(Repeats { repeated, conflicts, settled })
}

/// Two different records of one image, and the stores they are in.
fn duplicate(id: String, one: &(Encoded, &Path), other: &(Encoded, &Path)) -> StoreError {
    let places = format!("in {} and in {}", one.1.display(), other.1.display());
    let records = (RecordView::parse(&one.0.bytes), RecordView::parse(&other.0.bytes));
    let differs = match records {
        (Ok(one), Ok(other)) => format!("{places}: {}", diff::differences(&one, &other)),
        _ => places,
    };
    StoreError::Duplicate { id, differs }
}

/// Merges inputs of which some are dumps, whose ids come in any order.
fn one_after_the_other(
    writer: &mut StoreWriter,
    inputs: Vec<Input>,
    tally: &mut Tally,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Repeats, ConvertError> {
    for input in inputs {
        let source = match input {
            Input::Dump(source) => source,
            Input::Store(store) => {
                let mut cursor = StoreCursor::new(&store)?;
                while let Some(id) = cursor.head().map(str::to_owned) {
                    stop_if(cancelled, writer)?;
                    writer.append_encoded(&id, cursor.take()?)?;
                    tally.take(None);
                    progress(tally.images);
                }
                continue;
            }
        };
        let info = source.info().clone();
        let mut tell = |at: Progress| progress(at.images);
        // Every image is compared with what is there, also one that an interrupted run has committed: it may be
        // another input's.
        let written =
            write_all(writer, None, source.records()?, &info, tally, cancelled, &mut tell)
                .and_then(|()| Ok(writer.commit()?));
        written.map_err(|error| found_in(error, &info.path))?;
    }
    writer.commit()?;
    let (conflicts, settled) = (writer.conflicts(), writer.settled().clone());
    let repeated = tally.images.saturating_sub(writer.committed() + conflicts);
    Ok(Repeats { repeated, conflicts, settled })
}

/// Says in which input an image has come again.
fn found_in(error: ConvertError, input: &Path) -> ConvertError {
    match error {
        ConvertError::Store(StoreError::Duplicate { id, differs }) => {
            let differs = format!("the second time in {}: {differs}", input.display());
            StoreError::Duplicate { id, differs }.into()
        }
        other => other,
    }
}

/// Commits and stops if the caller asked for it.
pub(crate) fn stop_if(
    cancelled: &AtomicBool,
    writer: &mut StoreWriter,
) -> Result<(), ConvertError> {
    if cancelled.load(Ordering::Relaxed) {
        writer.commit()?;
        return Err(ConvertError::Interrupted { images: writer.committed() });
    }
    Ok(())
}

/// Whether two stores' records can stand beside each other.
fn agree(first: &FeatureStore, other: &FeatureStore) -> Result<(), StoreError> {
    let (a, b) = (first.schema(), other.schema());
    let what = if a.count > 0 && b.count > 0 && a.dim != b.dim {
        format!("{} values per region, the other {}", b.dim, a.dim)
    } else if a.precision != b.precision {
        format!("{}, the other {}", b.precision.name(), a.precision.name())
    } else if a.compression != b.compression {
        format!("compression {}, the other {}", b.compression.name(), a.compression.name())
    } else {
        return agree_on_boxes(first, other);
    };
    Err(StoreError::Mismatch {
        path: other.path().to_owned(),
        other: first.path().to_owned(),
        what,
    })
}

/// Whether both have their boxes in pixels, or both relative; the first image of each tells.
fn agree_on_boxes(first: &FeatureStore, other: &FeatureStore) -> Result<(), StoreError> {
    let is_relative = |store: &FeatureStore| -> Result<Option<bool>, StoreError> {
        let id = store.ids_from("", 1)?.pop();
        let record = id.map(|id| store.record_bytes(&id)).transpose()?;
        Ok(record.map(|record| record::is_relative(&record)))
    };
    match (is_relative(other)?, is_relative(first)?) {
        (Some(relative), Some(of_first)) if relative != of_first => Err(StoreError::Boxes {
            path: other.path().to_owned(),
            convention: Regions::convention(relative),
            other: first.path().to_owned(),
            others: Regions::convention(of_first),
        }),
        _ => Ok(()),
    }
}

/// Options for a store made of others' records.
pub(crate) fn options(inputs: &[Input], how: &str, rule: &str, overwrite: bool) -> WriterOptions {
    let schema = inputs.iter().find_map(Input::as_store).map(FeatureStore::schema);
    let contents = |input: &Input| match input {
        Input::Store(store) => store.schema().digest,
        Input::Dump(source) => xxh3_64(source.info().fingerprint.as_bytes()),
    };
    let digests = inputs.iter().fold(xxh3_64(rule.as_bytes()), |hash, input| {
        xxh3_64_with_seed(&contents(input).to_le_bytes(), hash)
    });
    let paths: Vec<String> =
        inputs.iter().map(|input| input.path().display().to_string()).collect();
    WriterOptions {
        precision: schema.map_or_else(Precision::default, |schema| schema.precision),
        compression: schema.map_or_else(Compression::default, |schema| schema.compression),
        provenance: Provenance {
            source_format: how.to_owned(),
            source: paths.join(", "),
            fingerprint: format!("{how}-{digests:016x}"),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        overwrite,
        restart: overwrite,
        ..WriterOptions::default()
    }
}
