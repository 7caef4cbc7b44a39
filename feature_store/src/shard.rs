//! One store into several: records are copied as they are, without decoding.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::convert::{ConvertError, settle};
use crate::formats::StoreSource;
use crate::merge::{options, stop_if};
use crate::store::StoreCursor;
use crate::{FeatureStore, StoreError, StoreWriter, WriterOptions, target};

/// How a store is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardBy {
    /// By a hash of the id: shards of equal size, whatever the ids; growing the data moves no image.
    Hash,
    /// By the order of ids: each shard has a range of them, so that the images of a set stay together.
    Range,
}

/// One part of a store that was divided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shard {
    /// Where it is.
    pub path: PathBuf,
    /// Images in it.
    pub images: u64,
}

/// Divides a store into `count` stores `TARGET-00000-of-0000N`, or, where the target ends in a slash, into stores in that
/// folder that are named after the store: `TARGET/STORE-00000-of-0000N`. Existing shards of that name are an error unless
/// they are to be overwritten.
///
/// # Errors
/// As [`merge`](crate::merge::merge); [`StoreError::Shards`] if there are fewer images than shards.
pub fn shard(
    store: &FeatureStore,
    target: &Path,
    by: ShardBy,
    count: u32,
    overwrite: bool,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Shard>, ConvertError> {
    let images = store.len();
    if images < u64::from(count) {
        let path = store.path().to_owned();
        return Err(StoreError::Shards { path, images, shards: count }.into());
    }
    let prefix = prefix(target, store);
    let whole = [store.clone().into()];
    let parts: Vec<(PathBuf, WriterOptions)> = (0..count)
        .map(|index| {
            let mut path = prefix.clone();
            path.push(format!("-{index:05}-of-{count:05}"));
            let rule = format!("{by:?}-{index}-of-{count}");
            (PathBuf::from(path), options(&whole, "shard", &rule, overwrite))
        })
        .collect();
    for (index, (path, options)) in parts.iter().enumerate() {
        // Only what an interrupted run has left complete may be there, and that lacks the last.
        let is_last = index + 1 == parts.len();
        if is_last || overwrite || finished(path, options).is_none() {
            target::check(path, StoreSource::FORMAT, overwrite, &[store.path()])?;
        }
    }
    let (mut shards, mut done) = (Vec::new(), 0);
    for (index, (path, options)) in (0..).zip(parts) {
        // A run that was interrupted has left some shards complete: they are not written again.
        if !overwrite && let Some(shard) = finished(&path, &options) {
            shards.push(shard);
            continue;
        }
        let mut writer = StoreWriter::create(&path, options)?;
        let share_of = |id: &str, position: u64| match by {
            ShardBy::Hash => xxh3_64(id.as_bytes()) % u64::from(count),
            ShardBy::Range => position * u64::from(count) / images,
        };
        let mut take = |writer: &mut StoreWriter| -> Result<(), ConvertError> {
            let mut cursor = StoreCursor::new(store)?;
            let mut position = 0;
            while let Some(id) = cursor.head().map(str::to_owned) {
                stop_if(cancelled, writer)?;
                if share_of(&id, position) == index {
                    writer.append_encoded(&id, cursor.take()?)?;
                    done += 1;
                    progress(done);
                } else {
                    cursor.skip()?;
                }
                position += 1;
            }
            Ok(())
        };
        let taken = take(&mut writer);
        let (writer, ()) = settle(writer, 0, taken)?;
        shards.push(Shard { images: writer.finish()?.count, path });
    }
    Ok(shards)
}

/// What the paths of all shards begin with.
fn prefix(target: &Path, store: &FeatureStore) -> OsString {
    let ends_in_slash = target.to_string_lossy().ends_with(std::path::is_separator);
    if target.file_name().is_some() && !ends_in_slash {
        return target.as_os_str().to_owned();
    }
    let store = store.path().canonicalize().unwrap_or_else(|_| store.path().to_owned());
    target.join(store.file_name().unwrap_or("shard".as_ref())).into_os_string()
}

/// The very shard that these options are for, if it is there.
fn finished(path: &Path, options: &WriterOptions) -> Option<Shard> {
    let shard = FeatureStore::open(path).ok()?;
    let is_it = shard.schema().provenance.fingerprint == options.provenance.fingerprint;
    is_it.then(|| Shard { path: path.to_owned(), images: shard.len() })
}
