//! Salvaging what is readable from a damaged store.
//!
//! Every page of the file is looked at, and whatever is a leaf's entry with a record behind it whose checksum fits is
//! taken. So a damaged root, a missing end or a lost page costs only what was on it. But LMDB overwrites pages of earlier
//! transactions only when it needs them: records that the index still leads to go before all others, and what only such
//! other pages have is told apart, because it may be what an image was before it was replaced.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::formats::{self, StoreSource};
use crate::lmdb::LmdbError;
use crate::pages::{self, Page, PageFile, Place};
use crate::record::{Encoded, RecordView};
use crate::store::SCHEMA;
use crate::{
    Compression, Precision, Provenance, RoundingError, Schema, StoreError, StoreWriter,
    WriterOptions, target,
};

mod claims;
mod index;

use claims::Claims;
use index::Index;

/// Why a record that the index does not lead to may not be the last one of its image.
const OLDER: &str = "its record is damaged; this is probably an earlier one";
const UNREACHED: &str = "the damaged index does not lead to it: it may be an earlier one";
const SEVERAL: &str =
    "several that differ were found, and nothing tells for certain which is the last one";
/// Bytes of the shortest record.
const SMALLEST: usize = 64;
/// Why a record is lost although its bytes may be there.
const CONTESTED: &str = "two images' entries lead to it, and nothing tells whose it is";

/// What a repair has found.
#[derive(Debug, Serialize)]
pub struct RepairReport {
    /// The new store's schema.
    pub schema: Schema,
    /// Images that the damaged store said it has, if that could still be read.
    pub expected: Option<u64>,
    /// Whether the new store holds what the damaged one held when it was written last, which its digest tells.
    pub is_whole: bool,
    /// Whether the newest index is known. If not, and if the new store is not whole, any image that was ever replaced may be
    /// what it was before.
    pub is_certain: bool,
    /// Ids that are still named somewhere but whose record is lost, with the reason.
    pub lost: Vec<(String, &'static str)>,
    /// Ids whose record was found where the index does not lead, so that it may be the one that an image had before it was
    /// replaced, with the reason. None if the store is whole.
    pub older: Vec<(String, &'static str)>,
}

/// Writes what can be read of a damaged store into a new one at `target`; `None` comes back if `cancelled` was set.
///
/// `progress` is told how many pages were looked at, each of them twice, and how many that will be.
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
    if !damaged.is_dir() {
        return Err(LmdbError::NotADirectory(damaged.to_owned()).into());
    }
    let path = pages::data_file(damaged)?;
    target::check(target, StoreSource::FORMAT, overwrite, &[damaged])?;
    let data = File::open(&path).map_err(StoreError::io(&path))?;
    let again = data.try_clone().map_err(StoreError::io(&path))?;
    let file = PageFile::new(&path, again, pages::guess_page_size(&data))?;
    let pages = file.pages();
    let found =
        Index::find(damaged, &data, &file, cancelled, &mut |page| progress(page, 2 * pages));
    let Some(index) = found? else { return Ok(None) };
    let leaves = (index.current.len() + index.others.len()).max(1) as u64;
    let mut salvage = Salvage::new(damaged, &path, target, overwrite, &file, index)?;
    for (done, (page, is_current)) in (1..).zip(salvage.leaves()) {
        if cancelled.load(Ordering::Relaxed) {
            return Ok(None);
        }
        salvage.page(page, is_current)?;
        progress(pages + done * pages / leaves, 2 * pages);
    }
    salvage.finish().map(Some)
}

/// A record that was found.
#[derive(Clone, Copy)]
struct Found {
    checksum: u64,
    /// The first of its pages, unless it is in a leaf.
    page: Option<u64>,
    precision: Precision,
    compression: Compression,
}

struct Salvage<'a> {
    damaged: &'a Path,
    target: &'a Path,
    overwrite: bool,
    file: &'a PageFile,
    fingerprint: String,
    index: Index,
    claims: Claims,
    writer: Option<StoreWriter>,
    /// Images that are written.
    taken: HashSet<String>,
    lost: BTreeMap<String, &'static str>,
    /// Images of which an entry leads to a value that may be another's.
    contested: HashSet<String>,
    older: BTreeMap<String, &'static str>,
    /// The records that were taken, but those of which a certain index says that they are the last ones.
    known: HashMap<String, Found>,
    /// Bytes that are still read: sound records take no more than the file has, and of each there are a few at most.
    budget: u64,
}

impl<'a> Salvage<'a> {
    fn new(
        damaged: &'a Path,
        data: &Path,
        target: &'a Path,
        overwrite: bool,
        file: &'a PageFile,
        index: Index,
    ) -> Result<Salvage<'a>, StoreError> {
        Ok(Salvage {
            damaged,
            target,
            overwrite,
            file,
            fingerprint: formats::fingerprint(data)?,
            claims: Claims::of(file, &index),
            index,
            writer: None,
            taken: HashSet::new(),
            lost: BTreeMap::new(),
            contested: HashSet::new(),
            older: BTreeMap::new(),
            known: HashMap::new(),
            budget: file.length().saturating_mul(4),
        })
    }

    /// The leaves to look at, and whether the index leads to them.
    fn leaves(&self) -> Vec<(u64, bool)> {
        let current = self.index.current.iter().map(|&page| (page, true));
        current.chain(self.index.others.iter().map(|&page| (page, false))).collect()
    }

    /// Takes what is readable on a leaf.
    fn page(&mut self, number: u64, is_current: bool) -> Result<(), StoreError> {
        let Ok(bytes) = self.file.page(number) else { return Ok(()) };
        for node in Page::new(&bytes).leaf_nodes().filter(|node| !node.is_database) {
            let Ok(id) = str::from_utf8(node.key) else { continue };
            let is_last = is_current && self.index.is_certain;
            if is_last || self.claims.may_be(id, &node.value) {
                self.entry(id, &node.value, is_current)?;
            } else if self.claims.is_contested(&node.value) {
                self.lose(id, CONTESTED);
                self.contested.insert(id.to_owned());
            }
        }
        Ok(())
    }

    /// Takes the record of an entry if it is sound, and no better one is there.
    fn entry(&mut self, id: &str, place: &Place, is_current: bool) -> Result<(), StoreError> {
        let known = self.known.get(id).copied();
        let is_the_same =
            known.is_some_and(|known| known.page == place.page() && known.page.is_some());
        if is_the_same || (known.is_none() && self.taken.contains(id)) {
            return Ok(());
        }
        match (self.read(place), known) {
            (Ok((_, found)), Some(known)) => {
                if found.checksum != known.checksum {
                    self.older.insert(id.to_owned(), SEVERAL);
                }
                Ok(())
            }
            (Ok((record, found)), None) => self.take(id, record, found, is_current),
            (Err(_), _) if !is_current && is_of_another_tree(id, place) => Ok(()),
            (Err(what), _) => {
                self.lose(id, what);
                Ok(())
            }
        }
    }

    /// A record that is whole and can stand beside the others.
    fn read(&mut self, place: &Place) -> Result<(Encoded, Found), &'static str> {
        let bytes = self.file.value(place).map_err(|_| "its pages are missing")?;
        self.budget = self.budget.saturating_sub(bytes.len() as u64);
        if self.budget == 0 {
            return Err("too many entries lead to the same pages");
        }
        let record = RecordView::parse(&bytes)?;
        let schema = self.index.schema.as_ref().filter(|schema| schema.count > 0);
        let encoding = self.writer.as_ref().map(StoreWriter::encoding);
        if !record.is_intact() {
            return Err("its checksum does not fit");
        }
        if schema.is_some_and(|schema| schema.dim as usize != record.dim) {
            return Err("its dim is not the store's");
        }
        if encoding.is_some_and(|(precision, _)| precision != record.precision) {
            return Err("its precision is not that of the others");
        }
        let found = Found {
            checksum: record.checksum(),
            page: place.page(),
            precision: record.precision,
            compression: record.compression,
        };
        drop(record);
        Ok((Encoded::copied(bytes, &RoundingError::UNKNOWN)?, found))
    }

    fn take(
        &mut self,
        id: &str,
        record: Encoded,
        found: Found,
        is_current: bool,
    ) -> Result<(), StoreError> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                // Only what gains by it is compressed: the first record tells less than the schema.
                let said = self.index.schema.as_ref().map(|schema| schema.compression);
                let found = Found { compression: said.unwrap_or(found.compression), ..found };
                let options = options(self.damaged, &self.fingerprint, found, self.overwrite);
                none.insert(StoreWriter::create(self.target, options)?)
            }
        };
        writer.admit(found.compression);
        writer.append_salvaged(id, record)?;
        self.taken.insert(id.to_owned());
        if !(is_current && self.index.is_certain) {
            self.known.insert(id.to_owned(), found);
        }
        if !is_current {
            let why = if self.lost.contains_key(id) { OLDER } else { UNREACHED };
            self.older.insert(id.to_owned(), why);
        }
        Ok(())
    }

    fn lose(&mut self, id: &str, what: &'static str) {
        self.lost.entry(id.to_owned()).or_insert(what);
    }

    fn finish(self) -> Result<RepairReport, StoreError> {
        let Salvage {
            damaged, index, writer, taken, contested, known, mut lost, mut older, ..
        } = self;
        let Some(mut writer) = writer else {
            return Err(nothing_left(damaged, index.schema.is_some(), &lost));
        };
        writer.commit()?;
        lost.retain(|id, _| !taken.contains(id));
        for id in contested.into_iter().filter(|id| known.contains_key(id)) {
            older.insert(id, SEVERAL);
        }
        if let Some(old) = &index.schema {
            writer.inherit(old);
        }
        let schema = writer.finish()?;
        let same = |old: &Schema| (old.digest, old.count) == (schema.digest, schema.count);
        // An index that was only found may be an earlier one: then others of its images' records tell.
        let is_whole =
            index.schema.as_ref().is_some_and(same) && (index.is_certain || older.is_empty());
        if is_whole {
            older.clear();
        }
        Ok(RepairReport {
            expected: index.schema.map(|schema| schema.count),
            is_whole,
            is_certain: index.is_certain,
            lost: lost.into_iter().collect(),
            older: older.into_iter().collect(),
            schema,
        })
    }
}

/// Whether an entry that is no record is one of the tree of free pages, whose keys are small numbers, or the schema.
fn is_of_another_tree(id: &str, place: &Place) -> bool {
    let is_number = id.len() == 8 && id.ends_with("\0\0");
    is_number || id == SCHEMA || place.size() < SMALLEST
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
fn options(damaged: &Path, fingerprint: &str, found: Found, overwrite: bool) -> WriterOptions {
    WriterOptions {
        precision: found.precision,
        compression: found.compression,
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
