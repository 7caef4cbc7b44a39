//! Reading a finished store.

use std::collections::HashMap;
use std::fmt;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use heed::types::{Bytes, Str};
use heed::{CompactionOption, Database};
use rayon::prelude::*;

use crate::batch::fill_image;
use crate::codec::{self, DecodeError};
use crate::lmdb::{self, Env, LmdbError};
use crate::record::{RecordView, stored_regions};
use crate::{BatchSpec, RegionBatch, Regions, Schema, StoreError};

mod cursor;

pub(crate) use cursor::StoreCursor;

pub(crate) const META: &str = "meta";
pub(crate) const REGIONS: &str = "regions";
pub(crate) const SCHEMA: &str = "schema";

/// A finished store, open for reading. Clones share one mapping; any number of threads may read at once.
#[derive(Clone)]
pub struct FeatureStore {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    env: Env,
    regions: Database<Str, Bytes>,
    schema: Schema,
}

/// LMDB must not map one file twice in a process, so every open store is known here.
static OPEN: Mutex<Option<HashMap<PathBuf, Weak<Shared>>>> = Mutex::new(None);

impl FeatureStore {
    /// Opens a store. Its index is walked before LMDB maps it, records are not looked at.
    ///
    /// # Errors
    /// [`StoreError::Lmdb`] for what is no sound LMDB directory, [`StoreError::NotAStore`] for one that is not ours,
    /// [`StoreError::Unfinished`], [`StoreError::Version`], [`StoreError::Count`].
    pub fn open(path: &Path) -> Result<FeatureStore, StoreError> {
        let real = path.canonicalize().map_err(|_| LmdbError::Missing(path.to_owned()))?;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.get_or_insert_default();
        if let Some(shared) = open.get(&real).and_then(Weak::upgrade) {
            return Ok(FeatureStore { shared });
        }
        let shared = Arc::new(Shared::open(path)?);
        open.retain(|_, store| store.strong_count() > 0);
        open.insert(real, Arc::downgrade(&shared));
        Ok(FeatureStore { shared })
    }

    /// What the store says about itself.
    pub fn schema(&self) -> &Schema {
        &self.shared.schema
    }

    /// The directory it was opened from.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Number of images.
    pub fn len(&self) -> u64 {
        self.shared.schema.count
    }

    /// Whether it holds no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it holds an image.
    ///
    /// # Errors
    /// If LMDB cannot read the page.
    pub fn contains(&self, id: &str) -> Result<bool, StoreError> {
        if id.is_empty() || id.len() > crate::MAX_ID_BYTES {
            return Ok(false);
        }
        let shared = &self.shared;
        let transaction = shared.read()?;
        Ok(shared.regions.get(&transaction, id).map_err(shared.heed())?.is_some())
    }

    /// One image's regions, its checksum verified.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Damaged`].
    pub fn get(&self, id: &str) -> Result<Regions, StoreError> {
        self.with_record(id, true, |record| Ok(record.to_regions()))
    }

    /// Ids in byte order, from `start` on, at most `limit`: a page of a listing.
    ///
    /// # Errors
    /// If LMDB cannot read the pages.
    pub fn ids_from(&self, start: &str, limit: usize) -> Result<Vec<String>, StoreError> {
        let shared = &self.shared;
        let transaction = shared.read()?;
        // LMDB cannot seek an empty key.
        let start = if start.is_empty() { Bound::Unbounded } else { Bound::Included(start) };
        let range = (start, Bound::Unbounded);
        let entries = shared.regions.range(&transaction, &range).map_err(shared.heed())?;
        entries.take(limit).map(|entry| Ok(entry.map_err(shared.heed())?.0.to_owned())).collect()
    }

    /// All ids in byte order; read a page at a time, so no transaction is held between two of them.
    pub fn ids(&self) -> impl Iterator<Item = Result<String, StoreError>> + use<> {
        const PAGE: usize = 1024;
        let store = self.clone();
        let mut page = Vec::new().into_iter();
        let mut next = Some(String::new());
        std::iter::from_fn(move || {
            loop {
                if let Some(id) = page.next() {
                    return Some(Ok(id));
                }
                let ids = match store.ids_from(&next.take()?, PAGE) {
                    Ok(ids) => ids,
                    Err(error) => return Some(Err(error)),
                };
                // The smallest id after the last one of a full page.
                next = ids.last().filter(|_| ids.len() == PAGE).map(|last| format!("{last}\0"));
                page = ids.into_iter();
            }
        })
    }

    /// Fills a batch with the regions of images, `[images, rows, …]` as the specification says; its memory is reused.
    ///
    /// Images are read in parallel. Checksums are not computed here: `validate` does that once.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the first missing image, [`StoreError::Damaged`], [`StoreError::Batch`] if the
    /// number of locations is none of 4, 5, 7.
    pub fn read_batch<I: AsRef<str> + Sync>(
        &self,
        ids: &[I],
        spec: &BatchSpec,
        batch: &mut RegionBatch,
    ) -> Result<(), StoreError> {
        batch.resize(ids.len(), spec, self.shared.schema.dim as usize)?;
        let images = batch.images_mut();
        ids.par_iter().zip(images).try_for_each(|(id, image)| {
            self.with_record(id.as_ref(), false, |record| fill_image(record, spec, image))
        })
    }

    /// The most regions that one of the images has; records are checked to be as long as they say.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the first missing image, [`StoreError::Damaged`].
    pub fn most_regions<I: AsRef<str> + Sync>(&self, ids: &[I]) -> Result<usize, StoreError> {
        let count = |stored: &[u8]| RecordView::parse(stored).map(|record| record.regions);
        let counts = ids.par_iter().map(|id| self.with_stored(id.as_ref(), count));
        counts.try_reduce(|| 0, |a, b| Ok(a.max(b)))
    }

    /// How many of the images have more than `most` regions, told from the headers of their records alone; none is looked at
    /// where the schema says that there are no such images.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the first missing image, [`StoreError::Damaged`].
    pub fn count_larger<I: AsRef<str> + Sync>(
        &self,
        ids: &[I],
        most: usize,
    ) -> Result<usize, StoreError> {
        if self.shared.schema.max_regions as usize <= most {
            return Ok(0);
        }
        let is_larger = |id: &I| self.with_stored(id.as_ref(), stored_regions).map(|n| n > most);
        let larger = ids.par_iter().map(|id| is_larger(id).map(usize::from));
        larger.try_reduce(|| 0, |a, b| Ok(a + b))
    }

    /// Asks the system to read the records of images ahead, for a batch that comes soon; images that are not there are
    /// passed over. Returns at once.
    ///
    /// # Errors
    /// If LMDB cannot read a page of the index.
    pub fn prefetch<I: AsRef<str>>(&self, ids: &[I]) -> Result<(), StoreError> {
        let shared = &self.shared;
        let transaction = shared.read()?;
        for id in ids.iter().map(AsRef::as_ref).filter(|id| !id.is_empty()) {
            if id.len() <= crate::MAX_ID_BYTES
                && let Some(bytes) = shared.regions.get(&transaction, id).map_err(shared.heed())?
            {
                lmdb::will_need(bytes);
            }
        }
        Ok(())
    }

    /// Writes a copy without unused pages, in the order of ids, for a successor; what LMDB takes for granted while it copies is
    /// checked first.
    pub(crate) fn copy_compacted(&self, to: &Path) -> Result<(), StoreError> {
        self.check_for_successor()?;
        let copied = self.shared.env.copy_to_path(to, CompactionOption::Enabled);
        copied.map(drop).map_err(|error| match error {
            heed::Error::Io(source) => {
                StoreError::Io { path: to.to_owned(), source: lmdb::write_error(source) }
            }
            error => LmdbError::heed(to)(error).into(),
        })
    }

    /// Walks also what only changing or copying the file would follow.
    ///
    /// # Errors
    /// [`LmdbError::Damaged`].
    pub(crate) fn check_whole(&self) -> Result<(), StoreError> {
        Ok(lmdb::check_whole(&self.shared.env, self.path())?)
    }

    /// Makes sure that a successor can be made of it, and that it is no predecessor itself of what lies there now.
    ///
    /// # Errors
    /// [`LmdbError::Damaged`], [`LmdbError::Replaced`].
    pub(crate) fn check_for_successor(&self) -> Result<(), StoreError> {
        lmdb::check_current(&self.shared.env, self.path())?;
        self.check_whole()
    }

    /// Makes sure that the first and the last record are what the schema says, which was not written with them if they are
    /// not: others that come to them would be made to its measure. Damaged ones are for validation to tell.
    ///
    /// # Errors
    /// [`StoreError::Schema`].
    pub(crate) fn check_schema(&self) -> Result<(), StoreError> {
        let shared = &self.shared;
        let transaction = shared.read()?;
        let ends = [shared.regions.first(&transaction), shared.regions.last(&transaction)];
        for end in ends {
            let Some((id, bytes)) = end.map_err(shared.heed())? else { continue };
            let record = RecordView::parse(bytes).ok();
            if let Some(what) = record.and_then(|record| shared.schema.disagreement(&record)) {
                return Err(StoreError::Schema {
                    path: shared.path.clone(),
                    id: id.to_owned(),
                    what,
                });
            }
        }
        Ok(())
    }

    /// A record's bytes as they are stored, for one pass over a store of any size: read in one piece, then let go.
    pub(crate) fn record_bytes(&self, id: &str) -> Result<Vec<u8>, StoreError> {
        let shared = &self.shared;
        let transaction = shared.read()?;
        let bytes = shared.regions.get(&transaction, id).map_err(shared.heed())?;
        let not_found = || StoreError::NotFound { path: shared.path.clone(), id: id.to_owned() };
        let bytes = bytes.ok_or_else(not_found)?;
        lmdb::will_need(bytes);
        let copy = bytes.to_vec();
        lmdb::not_needed(bytes);
        Ok(copy)
    }

    /// As [`get`](FeatureStore::get), for one pass over a store of any size: the record's pages do not stay in memory, and
    /// its checksum is always verified.
    ///
    /// # Errors
    /// Those of [`get`](FeatureStore::get).
    pub fn get_once(&self, id: &str) -> Result<Regions, StoreError> {
        Ok(self.record_once(id)?.1)
    }

    /// A record's bytes and what they mean, its checksum verified, for one pass over a store of any size.
    pub(crate) fn record_once(&self, id: &str) -> Result<(Vec<u8>, Regions), StoreError> {
        let bytes = self.record_bytes(id)?;
        let damaged =
            |what| StoreError::Damaged { path: self.path().to_owned(), key: id.to_owned(), what };
        let record = RecordView::parse(&bytes).map_err(damaged)?;
        if record.dim != self.schema().dim as usize {
            return Err(damaged("its dim is not the store's"));
        }
        if !record.is_intact() {
            return Err(damaged("its checksum does not fit"));
        }
        let regions = record.to_regions();
        drop(record);
        Ok((bytes, regions))
    }

    /// Calls `read` with a record in place, inside a transaction of its own.
    pub(crate) fn with_record<T>(
        &self,
        id: &str,
        verify: bool,
        read: impl FnOnce(&RecordView) -> Result<T, &'static str>,
    ) -> Result<T, StoreError> {
        self.with_stored(id, |bytes| {
            lmdb::fetch_if_cold(bytes);
            let record = RecordView::parse(bytes)?;
            if record.dim != self.shared.schema.dim as usize {
                return Err("its dim is not the store's");
            }
            if verify && !record.is_intact() {
                return Err("its checksum does not fit");
            }
            read(&record)
        })
    }

    /// Calls `read` with a record's bytes as they are stored, inside a transaction of its own.
    fn with_stored<T>(
        &self,
        id: &str,
        read: impl FnOnce(&[u8]) -> Result<T, &'static str>,
    ) -> Result<T, StoreError> {
        let shared = &self.shared;
        let not_found = || StoreError::NotFound { path: shared.path.clone(), id: id.to_owned() };
        if id.is_empty() || id.len() > crate::MAX_ID_BYTES {
            return Err(not_found());
        }
        let transaction = shared.read()?;
        let bytes =
            shared.regions.get(&transaction, id).map_err(shared.heed())?.ok_or_else(not_found)?;
        let damaged =
            |what| StoreError::Damaged { path: shared.path.clone(), key: id.to_owned(), what };
        read(bytes).map_err(damaged)
    }
}

impl fmt::Debug for FeatureStore {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.debug_tuple("FeatureStore").field(&self.shared.path).finish()
    }
}

impl Shared {
    fn open(path: &Path) -> Result<Shared, StoreError> {
        if path.is_file() {
            return Err(LmdbError::NotADirectory(path.to_owned()).into());
        }
        let env = lmdb::open_read_only(path)?.env;
        let not_a_store = || StoreError::NotAStore { path: path.to_owned() };
        let (regions, schema) = {
            let transaction = env.read_txn().map_err(LmdbError::heed(path))?;
            let open = |name| env.open_database::<Str, Bytes>(&transaction, Some(name));
            // A foreign environment has no named databases, or a plain value where one would be.
            let meta = open(META).ok().flatten().ok_or_else(not_a_store)?;
            let regions = open(REGIONS).ok().flatten().ok_or_else(not_a_store)?;
            let schema = meta.get(&transaction, SCHEMA).map_err(LmdbError::heed(path))?;
            let unfinished = || StoreError::Unfinished { path: path.to_owned() };
            let schema = decode_schema(path, schema.ok_or_else(unfinished)?)?;
            if !schema.complete {
                return Err(unfinished());
            }
            let holds = regions.len(&transaction).map_err(LmdbError::heed(path))?;
            if holds != schema.count {
                let (path, says) = (path.to_owned(), schema.count);
                return Err(StoreError::Count { path, says, holds });
            }
            // Handles of databases outlive their first transaction only if it is committed.
            transaction.commit().map_err(LmdbError::heed(path))?;
            (regions, schema)
        };
        Ok(Shared { path: path.to_owned(), env, regions, schema })
    }

    fn read(&self) -> Result<heed::RoTxn<'_, heed::WithoutTls>, StoreError> {
        self.env.read_txn().map_err(|error| self.heed()(error))
    }

    fn heed(&self) -> impl Fn(heed::Error) -> StoreError + '_ {
        |source| StoreError::Lmdb(LmdbError::Heed { path: self.path.clone(), source })
    }
}

pub(crate) fn decode_schema(path: &Path, bytes: &[u8]) -> Result<Schema, StoreError> {
    codec::decode(bytes).map_err(|error| match error {
        DecodeError::Version(found) => {
            StoreError::Version { path: path.to_owned(), found, expected: codec::VERSION }
        }
        DecodeError::Malformed => StoreError::Damaged {
            path: path.to_owned(),
            key: SCHEMA.into(),
            what: "it cannot be decoded",
        },
    })
}
