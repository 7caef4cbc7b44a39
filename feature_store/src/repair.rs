//! Salvaging what is readable from a damaged store.
//!
//! Trees are not followed: every page of the file is looked at, and whatever is a leaf's entry with a record behind it
//! whose checksum fits is taken. So a damaged root, a missing end or a lost page costs only what was on it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::formats::{self, StoreSource};
use crate::lmdb::LmdbError;
use crate::pages::{self, PageFile};
use crate::record::{Encoded, RecordView};
use crate::store::{SCHEMA, decode_schema};
use crate::{Provenance, RoundingError, Schema, StoreError, StoreWriter, WriterOptions, target};

/// What a repair has found.
#[derive(Debug, Serialize)]
pub struct RepairReport {
    /// The new store's schema.
    pub schema: Schema,
    /// Images that the damaged store said it has, if that could still be read.
    pub expected: Option<u64>,
    /// Ids that are still named somewhere but whose record is lost, with the reason.
    pub lost: Vec<(String, &'static str)>,
}

/// Writes what can be read of a damaged store into a new one at `target`; `None` comes back if `cancelled` was set.
///
/// # Errors
/// [`StoreError::NothingLeft`] if there is no trace of a store or none of its records can be salvaged, [`StoreError::Exists`], [`StoreError::Io`].
pub fn repair(
    damaged: &Path,
    target: &Path,
    overwrite: bool,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<RepairReport>, StoreError> {
    let data = damaged.join("data.mdb");
    if !data.is_file() {
        return Err(LmdbError::NotADirectory(damaged.to_owned()).into());
    }
    target::check(target, StoreSource::FORMAT, overwrite, &[damaged])?;
    let file = PageFile::open(&data, page_size(&data)?)?;
    let fingerprint = formats::fingerprint(&data)?;
    let mut writer: Option<StoreWriter> = None;
    let mut lost: BTreeMap<String, &'static str> = BTreeMap::new();
    let mut old_schema: Option<Schema> = None;
    for number in 2..file.pages {
        if cancelled.load(Ordering::Relaxed) {
            return Ok(None);
        }
        progress(number, file.pages);
        let Ok(page) = file.page(number) else { continue };
        if !pages::is_leaf(&page, number) {
            continue;
        }
        for node in pages::leaf_nodes(&page).unwrap_or_default() {
            let Ok(id) = String::from_utf8(node.key) else { continue };
            let Ok(bytes) = file.value(&node.value) else {
                lost.insert(id, "its pages are missing");
                continue;
            };
            if id == SCHEMA
                && let Ok(schema) = decode_schema(damaged, &bytes)
            {
                // Pages of earlier transactions are still there; the last one counts most images.
                if old_schema.as_ref().is_none_or(|old| old.count <= schema.count) {
                    old_schema = Some(schema);
                }
                continue;
            }
            let record = match RecordView::parse(&bytes) {
                Ok(record) if record.is_intact() => record,
                Ok(_) => {
                    lost.insert(id, "its checksum does not fit");
                    continue;
                }
                // Leaves of the tree of free pages, and of databases' names, hold no records.
                Err(_) if node.is_database || bytes.len() < 64 => continue,
                Err(what) => {
                    lost.insert(id, what);
                    continue;
                }
            };
            let writer = match &mut writer {
                Some(writer) => writer,
                none => {
                    let options = options(damaged, &fingerprint, &record, overwrite);
                    none.insert(StoreWriter::create(target, options)?)
                }
            };
            drop(record);
            if let Ok(record) = Encoded::copied(bytes, &RoundingError::UNKNOWN) {
                writer.append_salvaged(&id, record)?;
            }
        }
    }
    let Some(mut writer) = writer else {
        return Err(nothing_left(damaged, old_schema.is_some(), &lost));
    };
    writer.commit()?;
    let mut still_lost = Vec::new();
    for (id, what) in lost {
        // An older copy of the page may have had it whole.
        if !writer.contains(&id)? {
            still_lost.push((id, what));
        }
    }
    let expected = old_schema.as_ref().map(|schema| schema.count);
    if let Some(old) = old_schema {
        writer.inherit(&old);
    }
    Ok(Some(RepairReport { schema: writer.finish()?, expected, lost: still_lost }))
}

/// Why there is nothing to write: no store at all, or one whose records are all lost.
fn nothing_left(
    damaged: &Path,
    has_schema: bool,
    lost: &BTreeMap<String, &'static str>,
) -> StoreError {
    let path = damaged.to_owned();
    // Whatever lies on the leaves of a foreign environment has a key and is no record, too.
    match lost.iter().next() {
        _ if !has_schema => {
            let what =
                "it is no feature store, and no other is repaired: get a complete copy of it";
            StoreError::NothingLeft { path, what: what.into() }
        }
        Some((id, what)) => {
            let what = format!("{} records are lost, `{id}` first: {what}", lost.len());
            StoreError::NothingLeft { path, what }
        }
        None => StoreError::NothingLeft { path, what: "no record is left".into() },
    }
}

/// Options that keep records as they are.
fn options(
    damaged: &Path,
    fingerprint: &str,
    record: &RecordView,
    overwrite: bool,
) -> WriterOptions {
    WriterOptions {
        precision: record.precision,
        compression: record.compression,
        provenance: Provenance {
            source_format: "repair".into(),
            source: damaged.display().to_string(),
            fingerprint: format!("repair-{fingerprint}"),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        overwrite,
        restart: overwrite,
        ..WriterOptions::default()
    }
}

/// The page size that one of the meta pages tells, or the usual one: they may be damaged, too.
fn page_size(data: &Path) -> Result<usize, StoreError> {
    use std::io::Read;
    let mut head = Vec::new();
    let file = std::fs::File::open(data).map_err(StoreError::io(data))?;
    file.take(64).read_to_end(&mut head).map_err(StoreError::io(data))?;
    let told =
        head.get(40..44).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
    Ok(if told.is_power_of_two() && (512..=65536).contains(&told) { told } else { 4096 })
}
