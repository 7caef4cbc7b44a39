//! More images into a finished store, and a store without unused pages: both make a new file and swap it in.
//!
//! Readers map the file they have opened and are never disturbed: they see the store as it was until they open it
//! again. That is why readers need no lock file and leave no stale entries in one. Where the file system can share
//! blocks between files (btrfs, XFS), the copy costs nothing.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use heed::EnvFlags;

use crate::formats::StoreSource;
use crate::lmdb::{self, LmdbError};
use crate::store::{META, SCHEMA};
use crate::{
    Conflict, FeatureStore, Provenance, Schema, StoreError, StoreWriter, WriterOptions, codec,
    target::{self, Claim},
};

/// How images are added to a store.
#[derive(Debug, Clone, Copy, Default)]
pub struct AppendOptions {
    /// What to do with an image that the store holds with other contents.
    pub conflict: Conflict,
    /// Drop what an interrupted append of another source has left, instead of refusing to begin.
    pub restart: bool,
}

/// Opens a finished store for more images: a copy of it becomes the partial of its successor.
///
/// # Errors
/// What [`FeatureStore::open`] and [`StoreWriter::create`] say; [`StoreError::OtherPartial`] if an interrupted run with
/// another source left a partial; [`StoreError::Schema`] for a store whose schema is not that of its records.
pub fn reopen(
    path: &Path,
    provenance: Provenance,
    options: AppendOptions,
) -> Result<StoreWriter, StoreError> {
    FeatureStore::open(path)?;
    // Another append may just have ended: what counts is what the store says from now on.
    let claim = Arc::new(Claim::take(path)?);
    let path = claim.target();
    let store = FeatureStore::open(path)?;
    store.check_for_successor()?;
    store.check_schema()?;
    let schema = store.schema().clone();
    // Whatever else lies in its folder would be lost when the successor takes its place.
    target::check(path, StoreSource::FORMAT, true, &[])?;
    let partial = claim.partial()?;
    let provenance = Provenance {
        source_format: and(&schema.provenance.source_format, &provenance.source_format),
        source: and(&schema.provenance.source, &provenance.source),
        // The store before and what is added to it, by which rule: only the same addition is resumed.
        fingerprint: format!(
            "{:016x}+{}+{:?}",
            schema.digest, provenance.fingerprint, options.conflict
        ),
        tool_version: provenance.tool_version,
    };
    let began = Schema { complete: false, provenance: provenance.clone(), ..schema.clone() };
    let writer_options = WriterOptions {
        precision: schema.precision,
        compression: schema.compression,
        provenance,
        overwrite: true,
        conflict: options.conflict,
        ..WriterOptions::default()
    };
    if !partial.exists() {
        copy_as_partial(&claim, &partial, began.clone())?;
    }
    match StoreWriter::claimed(&claim, writer_options.clone()) {
        Err(StoreError::OtherPartial { .. } | StoreError::DamagedPartial { .. })
            if options.restart =>
        {
            target::remove(&partial).map_err(StoreError::io(&partial))?;
            copy_as_partial(&claim, &partial, began)?;
            StoreWriter::claimed(&claim, writer_options)
        }
        created => created,
    }
}

/// What a store is of and what is added to it; the same once more is not said again.
fn and(before: &str, added: &str) -> String {
    if before == added || before.ends_with(&format!(", {added}")) {
        return before.to_owned();
    }
    let both = [before, added].into_iter().filter(|name| !name.is_empty());
    both.collect::<Vec<_>>().join(", ")
}

/// Copies a store's file, marks the copy incomplete and renames it to where a writer looks for a partial.
fn copy_as_partial(claim: &Claim, partial: &Path, schema: Schema) -> Result<(), StoreError> {
    in_a_folder(claim, "copy", |copy| {
        let (from, to) = (claim.target().join("data.mdb"), copy.join("data.mdb"));
        fs::copy(&from, &to).map_err(StoreError::io(&to))?;
        mark_incomplete(copy, &schema)?;
        fs::rename(copy, partial).map_err(StoreError::io(partial))
    })
}

/// Writes a schema into a store that nobody else has opened.
fn mark_incomplete(copy: &Path, schema: &Schema) -> Result<(), StoreError> {
    let file = copy.join("data.mdb");
    let size = fs::metadata(&file).map_err(StoreError::io(&file))?.len() as usize;
    let failed = || LmdbError::heed(copy);
    let env = lmdb::open_for_writing(copy, size + (1 << 24), EnvFlags::empty())?;
    let mut transaction = env.write_txn().map_err(failed())?;
    let meta = env.open_database::<heed::types::Str, heed::types::Bytes>(&transaction, Some(META));
    if let Some(meta) = meta.map_err(failed())? {
        meta.put(&mut transaction, SCHEMA, &codec::encode(schema)).map_err(failed())?;
    }
    transaction.commit().map_err(failed())?;
    env.prepare_for_closing().wait();
    let _ = fs::remove_file(copy.join("lock.mdb"));
    Ok(())
}

/// Makes the successor of a store in a folder beside it, with its permissions; after an error nothing is left of it.
fn in_a_folder<T>(
    claim: &Claim,
    suffix: &str,
    make: impl FnOnce(&Path) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let folder = claim.beside(suffix)?;
    fs::create_dir(&folder).map_err(StoreError::io(&folder))?;
    let made = target::inherit_permissions(&folder, claim.target()).and_then(|()| make(&folder));
    if made.is_err() {
        // A disk that is full is no fuller afterwards; that it cannot be removed would hide the cause.
        let _ = target::remove(&folder);
    }
    made
}

/// Rewrites a store without unused pages, pages in the order of ids; returns its size before and after, in bytes.
///
/// # Errors
/// What [`FeatureStore::open`] says; [`StoreError::Locked`], [`StoreError::Io`].
pub fn compact(path: &Path) -> Result<(u64, u64), StoreError> {
    FeatureStore::open(path)?;
    let claim = Claim::take(path)?;
    let path = claim.target();
    target::check(path, StoreSource::FORMAT, true, &[])?;
    let size = |path: &Path| -> Result<u64, StoreError> {
        Ok(fs::metadata(path).map_err(StoreError::io(path))?.len())
    };
    let old = path.join("data.mdb");
    let before = size(&old)?;
    in_a_folder(&claim, "compact", |copy| {
        let file = copy.join("data.mdb");
        let store = FeatureStore::open(path)?;
        store.copy_compacted(&file)?;
        target::inherit_permissions(&file, &old)?;
        let after = size(&file)?;
        fs::File::open(&file).and_then(|file| file.sync_all()).map_err(StoreError::io(&file))?;
        target::publish(copy, &claim, StoreSource::FORMAT, true)?;
        Ok((before, after))
    })
}
