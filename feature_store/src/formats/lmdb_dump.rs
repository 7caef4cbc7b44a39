//! Foreign LMDB directories: one unnamed database of image ids and values, read in pages, written in transactions.

use std::ops::Bound;
use std::path::{Path, PathBuf};

use heed::types::Bytes;
use heed::{EnvOpenOptions, MdbError};

use super::{FormatError, RecordError};
use crate::lmdb::{self, Env, LmdbError};
use crate::{MAX_ID_BYTES, pages};

/// Records that are copied out of LMDB in one transaction.
const PAGE: usize = 64;
/// Bytes that are collected before a transaction is made of them.
const TRANSACTION_BYTES: usize = 16 << 20;

/// Key and value.
pub(super) type Entry = (Vec<u8>, Vec<u8>);

/// A directory that others have written.
pub(super) struct DumpReader {
    path: PathBuf,
    env: Env,
    entries: u64,
}

impl DumpReader {
    /// Opens it.
    pub(super) fn open(path: &Path) -> Result<DumpReader, FormatError> {
        pages::check(path)?;
        let entries = lmdb::main_entries(path)?;
        Ok(DumpReader { path: path.to_owned(), env: lmdb::open_read_only(path)?, entries })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Number of records, those about the whole included.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    pub(super) fn fingerprint(&self) -> Result<String, FormatError> {
        Ok(super::fingerprint(&self.path.join("data.mdb"))?)
    }

    /// The value of one record, if it is there.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let read = || {
            let transaction = self.env.read_txn()?;
            let database = self.env.open_database::<Bytes, Bytes>(&transaction, None)?;
            let Some(database) = database else { return Ok(None) };
            Ok(database.get(&transaction, key)?.map(<[u8]>::to_vec))
        };
        read().map_err(|error: heed::Error| format!("it cannot be read: {error}"))
    }

    /// The first record whose key is none of `without`.
    pub(super) fn first(&self, without: &[&[u8]]) -> Result<Option<Entry>, FormatError> {
        match self.page(&[], without, 1) {
            Ok(page) => Ok(page.into_iter().next()),
            Err(error) => Err(FormatError::Malformed { path: error.path, what: error.reason }),
        }
    }

    /// All records but those about the whole, in the order of their keys.
    pub(super) fn into_entries(
        self,
        without: &'static [&'static [u8]],
    ) -> impl Iterator<Item = Result<Entry, RecordError>> + Send {
        let mut page = Vec::new().into_iter();
        let mut next = Some(Vec::new());
        std::iter::from_fn(move || {
            loop {
                if let Some(entry) = page.next() {
                    return Some(Ok(entry));
                }
                let read = match self.page(&next.take()?, without, PAGE) {
                    Ok(read) => read,
                    Err(error) => return Some(Err(error)),
                };
                next = read.last().map(|(key, _): &Entry| key.clone());
                page = read.into_iter();
            }
        })
    }

    fn page(
        &self,
        after: &[u8],
        without: &[&[u8]],
        size: usize,
    ) -> Result<Vec<Entry>, RecordError> {
        let failed = |error: heed::Error| {
            let reason = format!("the records after it cannot be read: {error}");
            RecordError::new(&self.path, String::from_utf8_lossy(after), reason)
        };
        let transaction = self.env.read_txn().map_err(failed)?;
        let database =
            self.env.open_database::<Bytes, Bytes>(&transaction, None).map_err(failed)?;
        let Some(database) = database else { return Ok(Vec::new()) };
        // LMDB cannot seek an empty key.
        let start = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
        let range = (start, Bound::Unbounded);
        let entries = database.range(&transaction, &range).map_err(failed)?;
        let entries: Vec<(&[u8], &[u8])> = entries
            .filter(|entry| !matches!(entry, Ok((key, _)) if without.contains(key)))
            .take(size)
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        entries.iter().for_each(|(_, value)| lmdb::will_need(value));
        let copied = entries.into_iter().map(|(key, value)| {
            let entry = (key.to_vec(), value.to_vec());
            // Each is read once: a dump larger than memory must not fill it.
            lmdb::not_needed(value);
            entry
        });
        Ok(copied.collect())
    }
}

/// A directory that is being written for others to read.
pub(super) struct DumpWriter {
    path: PathBuf,
    env: Env,
    pending: Vec<Entry>,
    pending_bytes: usize,
}

impl DumpWriter {
    /// Begins a directory, which must not exist yet.
    pub(super) fn create(path: &Path) -> Result<DumpWriter, FormatError> {
        std::fs::create_dir(path).map_err(FormatError::io(path))?;
        lmdb::make_files(path)?;
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(64 << 20);
        // SAFETY: the directory was just created by this call; nobody else knows of it.
        let env = unsafe { options.open(path) }.map_err(LmdbError::heed(path))?;
        Ok(DumpWriter { path: path.to_owned(), env, pending: Vec::new(), pending_bytes: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds an image, whose key is its id with a suffix.
    pub(super) fn put_image(
        &mut self,
        id: &str,
        suffix: &str,
        value: Vec<u8>,
    ) -> Result<(), FormatError> {
        let key = [id, suffix].concat().into_bytes();
        let what = match () {
            _ if id.is_empty() => "its id is empty; give it one with --rename".to_owned(),
            _ if key.len() > MAX_ID_BYTES => {
                format!("LMDB holds keys of 1 to {MAX_ID_BYTES} bytes; shorten it with --rename")
            }
            _ => return self.put(key, value),
        };
        Err(FormatError::Unwritable { path: self.path.clone(), id: id.to_owned(), what })
    }

    /// Adds a record about the whole.
    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), FormatError> {
        self.pending_bytes += value.len();
        self.pending.push((key, value));
        if self.pending_bytes > TRANSACTION_BYTES { self.commit() } else { Ok(()) }
    }

    pub(super) fn finish(mut self) -> Result<(), FormatError> {
        self.commit()?;
        self.env.prepare_for_closing().wait();
        // Readers make their own, or do without.
        let _ = std::fs::remove_file(self.path.join("lock.mdb"));
        Ok(())
    }

    fn commit(&mut self) -> Result<(), FormatError> {
        loop {
            match self.try_commit() {
                Ok(()) => break,
                Err(heed::Error::Mdb(MdbError::MapFull)) => {
                    let size = self.env.info().map_size.saturating_mul(2);
                    // SAFETY: this thread holds no transaction: the one that found the map full has been dropped.
                    unsafe { self.env.resize(size) }.map_err(LmdbError::heed(&self.path))?;
                }
                Err(heed::Error::Io(source)) => {
                    let source = lmdb::write_error(source);
                    return Err(FormatError::Io { path: self.path.clone(), source });
                }
                Err(error) => return Err(LmdbError::heed(&self.path)(error).into()),
            }
        }
        self.pending.clear();
        self.pending_bytes = 0;
        Ok(())
    }

    fn try_commit(&self) -> Result<(), heed::Error> {
        let mut transaction = self.env.write_txn()?;
        let database = self.env.create_database::<Bytes, Bytes>(&mut transaction, None)?;
        for (key, value) in &self.pending {
            database.put(&mut transaction, key, value)?;
        }
        transaction.commit()
    }
}
