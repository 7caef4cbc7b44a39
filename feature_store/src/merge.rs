//! Several stores into one, one store into several: records are copied as they are, without decoding.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::convert::ConvertError;
use crate::record::Encoded;
use crate::store::StoreCursor;
use crate::{
    Conflict, FeatureStore, Provenance, RoundingError, Schema, StoreError, StoreWriter,
    WriterOptions, target,
};

/// What a merge has done.
#[derive(Debug, Serialize)]
pub struct MergeReport {
    /// The new store's schema.
    pub schema: Schema,
    /// Images that were in several stores with equal contents.
    pub repeated: u64,
    /// Images that were in several stores with different contents, of which the rule chose one.
    pub conflicts: u64,
}

/// How a store is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardBy {
    /// By a hash of the id: shards of equal size, whatever the ids; growing the data moves no image.
    Hash,
    /// By the order of ids: each shard has a range of them, so that the images of a set stay together.
    Range,
}

/// Merges stores of equal dim, precision and compression into a new one at `target`; resumable like a conversion.
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
    let stores: Vec<FeatureStore> =
        inputs.iter().map(|path| FeatureStore::open(path)).collect::<Result<_, _>>()?;
    let Some(first) = stores.first() else {
        return Err(ConvertError::Empty {
            path: "a list of no stores".into(),
            first: String::new(),
        });
    };
    stores.iter().try_for_each(|store| agree(first, store))?;
    let options = options(&stores, "merge", &format!("{conflict:?}"), overwrite);
    let sources: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    target::check(target, overwrite, &sources)?;
    let mut writer = StoreWriter::create(target, options)?;
    let mut cursors: Vec<StoreCursor> =
        stores.iter().map(StoreCursor::new).collect::<Result<_, _>>()?;
    let (mut done, mut repeated, mut conflicts) = (0, 0, 0);
    // All stores list their ids in the same order: the least of their heads is the next image.
    while let Some(id) = cursors.iter().filter_map(StoreCursor::head).min().map(str::to_owned) {
        stop_if(cancelled, &mut writer)?;
        let mut chosen: Option<Vec<u8>> = None;
        for cursor in cursors.iter_mut().filter(|cursor| cursor.head() == Some(&id)) {
            let bytes = cursor.take()?;
            match &chosen {
                None => chosen = Some(bytes),
                Some(other) if *other == bytes => repeated += 1,
                Some(_) => match conflict {
                    Conflict::Fail => {
                        writer.abandon()?;
                        return Err(StoreError::Duplicate(id).into());
                    }
                    Conflict::First => conflicts += 1,
                    Conflict::Last => (chosen, conflicts) = (Some(bytes), conflicts + 1),
                },
            }
        }
        if let Some(bytes) = chosen {
            append(&mut writer, &id, bytes, first)?;
        }
        done += 1;
        progress(done);
    }
    stores.iter().for_each(|store| writer.add_rounding(&store.schema().rounding));
    Ok(MergeReport { schema: writer.finish()?, repeated, conflicts })
}

/// Divides a store into `count` stores `TARGET-00000-of-0000N`; existing shards of that name are an error unless they
/// are to be overwritten.
///
/// # Errors
/// As [`merge`]; [`StoreError::Shards`] if there are fewer images than shards.
pub fn shard(
    store: &FeatureStore,
    target: &Path,
    by: ShardBy,
    count: u32,
    overwrite: bool,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<PathBuf>, ConvertError> {
    let images = store.len();
    if images < u64::from(count) {
        let path = store.path().to_owned();
        return Err(StoreError::Shards { path, images, shards: count }.into());
    }
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let paths: Vec<PathBuf> = (0..count)
        .map(|index| target.with_file_name(format!("{name}-{index:05}-of-{count:05}")))
        .collect();
    for (index, path) in (0..).zip(&paths) {
        // Only what an interrupted run has left complete may be there, and that lacks the last.
        let is_last = index + 1 == u64::from(count);
        let is_done = || {
            FeatureStore::open(path).is_ok_and(|shard| is_shard_of(&shard, store, by, index, count))
        };
        if is_last || !is_done() {
            target::check(path, overwrite, &[store.path()])?;
        }
    }
    let mut done = 0;
    for (index, path) in (0..).zip(&paths) {
        // A run that was interrupted has left some shards complete: they are not written again.
        if FeatureStore::open(path).is_ok_and(|shard| is_shard_of(&shard, store, by, index, count))
        {
            continue;
        }
        let options =
            options(std::slice::from_ref(store), "shard", &shard_tag(by, index, count), overwrite);
        let mut writer = StoreWriter::create(path, options)?;
        let mut cursor = StoreCursor::new(store)?;
        let mut position = 0;
        while let Some(id) = cursor.head().map(str::to_owned) {
            stop_if(cancelled, &mut writer)?;
            let of = match by {
                ShardBy::Hash => xxh3_64(id.as_bytes()) % u64::from(count),
                ShardBy::Range => position * u64::from(count) / store.len().max(1),
            };
            position += 1;
            if of == index {
                append(&mut writer, &id, cursor.take()?, store)?;
                done += 1;
                progress(done);
            } else {
                cursor.skip()?;
            }
        }
        // The share of an error in the whole is not known by shard: each tells the whole's.
        writer.add_rounding(&store.schema().rounding);
        writer.finish()?;
    }
    Ok(paths)
}

fn shard_tag(by: ShardBy, index: u64, count: u32) -> String {
    format!("{by:?}-{index}-of-{count}")
}

fn is_shard_of(
    shard: &FeatureStore,
    store: &FeatureStore,
    by: ShardBy,
    index: u64,
    count: u32,
) -> bool {
    let expected =
        options(std::slice::from_ref(store), "shard", &shard_tag(by, index, count), false);
    shard.schema().provenance.fingerprint == expected.provenance.fingerprint
}

fn append(
    writer: &mut StoreWriter,
    id: &str,
    bytes: Vec<u8>,
    of: &FeatureStore,
) -> Result<(), StoreError> {
    let (dim, error) = (of.schema().dim as usize, RoundingError::default());
    writer.append_encoded(id, Encoded { bytes, error, dim })
}

fn stop_if(cancelled: &AtomicBool, writer: &mut StoreWriter) -> Result<(), ConvertError> {
    if cancelled.load(Ordering::Relaxed) {
        writer.commit()?;
        return Err(ConvertError::Interrupted { images: writer.committed() });
    }
    Ok(())
}

/// Whether two stores' records can stand beside each other.
pub(crate) fn agree(first: &FeatureStore, other: &FeatureStore) -> Result<(), StoreError> {
    let (a, b) = (first.schema(), other.schema());
    let what = if a.count > 0 && b.count > 0 && a.dim != b.dim {
        format!("{} values per region, the other {}", b.dim, a.dim)
    } else if a.precision != b.precision {
        format!("{}, the other {}", b.precision.name(), a.precision.name())
    } else if a.compression != b.compression {
        format!("compression {}, the other {}", b.compression.name(), a.compression.name())
    } else {
        return Ok(());
    };
    Err(StoreError::Mismatch {
        path: other.path().to_owned(),
        other: first.path().to_owned(),
        what,
    })
}

/// Options for a store made of others' records.
fn options(stores: &[FeatureStore], how: &str, rule: &str, overwrite: bool) -> WriterOptions {
    let schema = stores[0].schema();
    let digests = stores.iter().fold(xxh3_64(rule.as_bytes()), |hash, store| {
        xxh3_64_with_seed(&store.schema().digest.to_le_bytes(), hash)
    });
    let paths: Vec<String> =
        stores.iter().map(|store| store.path().display().to_string()).collect();
    WriterOptions {
        precision: schema.precision,
        compression: schema.compression,
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
