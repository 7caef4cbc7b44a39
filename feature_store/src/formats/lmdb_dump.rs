//! Foreign LMDB environments: one unnamed database of image ids and values, read in pages, written in transactions.

use std::ops::Bound;
use std::path::{Path, PathBuf};

use heed::types::Bytes;
use heed::{EnvFlags, MdbError};

use super::{FormatError, RecordError};
use crate::lmdb::{self, Env, LmdbError, Opened};
use crate::{MAX_ID_BYTES, pages};

/// Records that are copied out of LMDB in one transaction at most, and bytes of them that end it.
const PAGE: usize = 64;
const PAGE_BYTES: usize = 4 << 20;
/// Longest value of an image, which is copied before it is decoded; the largest known have 7 MB.
const MAX_VALUE: usize = 4 * super::MAX_ARRAY_BYTES;
/// Bytes that are collected before a transaction is made of them.
const TRANSACTION_BYTES: usize = 16 << 20;

/// Records about the whole that a dump may begin with.
const ABOUT_THE_WHOLE: usize = 4;

/// Key and value.
pub(super) type Entry = (Vec<u8>, Vec<u8>);

/// An environment that others have written.
pub(super) struct DumpReader {
    path: PathBuf,
    env: Env,
    entries: u64,
}

impl DumpReader {
    /// Opens it.
    pub(super) fn open(path: &Path) -> Result<DumpReader, FormatError> {
        let Opened { env, entries } = lmdb::open_read_only(path)?;
        Ok(DumpReader { path: path.to_owned(), env, entries })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Number of records, those about the whole included.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    pub(super) fn fingerprint(&self) -> Result<String, FormatError> {
        Ok(super::fingerprint(&pages::data_file(&self.path)?)?)
    }

    /// Whether there is a record of this key.
    pub(super) fn holds(&self, key: &[u8]) -> Result<bool, FormatError> {
        let read = || {
            let transaction = self.env.read_txn()?;
            let database = self.env.open_database::<Bytes, Bytes>(&transaction, None)?;
            database.map_or(Ok(false), |database| Ok(database.get(&transaction, key)?.is_some()))
        };
        Ok(read().map_err(LmdbError::heed(&self.path))?)
    }

    /// The value of one record, if it is there.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let read = || {
            let transaction = self.env.read_txn()?;
            let database = self.env.open_database::<Bytes, Bytes>(&transaction, None)?;
            let Some(database) = database else { return Ok(None) };
            Ok(database.get(&transaction, key)?.map(|value| short(value).map(<[u8]>::to_vec)))
        };
        let value = read().map_err(|error: heed::Error| format!("it cannot be read: {error}"))?;
        value.transpose()
    }

    /// Whether it consists of databases with these names, among others.
    pub(super) fn names_databases(&self, names: &[&str]) -> bool {
        let open = |transaction: &_, name: &&str| {
            self.env.open_database::<Bytes, Bytes>(transaction, Some(name)).ok().flatten().is_some()
        };
        let transaction = self.env.read_txn().ok();
        transaction.is_some_and(|transaction| names.iter().all(|name| open(&transaction, name)))
    }

    /// The first record whose key is none of `without`, before all one whose key is not `__LIKE_THIS__`, as records about the
    /// whole are called.
    pub(super) fn first(&self, without: &[&[u8]]) -> Result<Option<Entry>, FormatError> {
        let page = self.page(&[], without, ABOUT_THE_WHOLE);
        let is_an_image = |entry: &Result<Entry, RecordError>| match entry {
            Ok((key, _)) => !key.starts_with(b"__"),
            Err(_) => true,
        };
        let first = page.and_then(|page| {
            let mut entries = page.entries;
            let at = entries.iter().position(is_an_image).unwrap_or(0);
            (at < entries.len()).then(|| entries.swap_remove(at)).transpose()
        });
        match first {
            Ok(first) => Ok(first),
            Err(RecordError { path, key, reason, .. }) => {
                let what = format!("record `{key}`: {reason}");
                Err(FormatError::Malformed { path, what })
            }
        }
    }

    /// All records but those about the whole, in the order of their keys.
    pub(super) fn into_entries(
        self,
        without: &'static [&'static [u8]],
    ) -> impl Iterator<Item = Result<Entry, RecordError>> + Send {
        let mut entries = Vec::new().into_iter();
        let mut last = Some(Vec::new());
        std::iter::from_fn(move || {
            if entries.len() == 0 {
                let page = match self.page(&last.take()?, without, PAGE) {
                    Ok(page) => page,
                    Err(error) => return Some(Err(error)),
                };
                (entries, last) = (page.entries.into_iter(), page.last);
            }
            entries.next()
        })
    }

    /// Records behind a key, which are copied: at least one, then as many as are small enough.
    fn page(&self, after: &[u8], without: &[&[u8]], size: usize) -> Result<Page, RecordError> {
        let failed = |error: heed::Error| {
            let reason = format!("the records after it cannot be read: {error}");
            RecordError::new(&self.path, String::from_utf8_lossy(after), reason)
        };
        let transaction = self.env.read_txn().map_err(failed)?;
        let database =
            self.env.open_database::<Bytes, Bytes>(&transaction, None).map_err(failed)?;
        let Some(database) = database else { return Ok(Page::default()) };
        // LMDB cannot seek an empty key.
        let start = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
        let range = (start, Bound::Unbounded);
        let (mut found, mut bytes) = (Vec::new(), 0);
        for entry in database.range(&transaction, &range).map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            if without.contains(&key) {
                continue;
            }
            bytes += value.len();
            if found.len() == size || (bytes > PAGE_BYTES && !found.is_empty()) {
                break;
            }
            found.push((key, short(value)));
        }
        found.iter().for_each(|(_, value)| value.iter().for_each(|value| lmdb::will_need(value)));
        let last = found.last().map(|(key, _)| key.to_vec());
        let copied = found.into_iter().map(|(key, value)| match value {
            Ok(value) => {
                let entry = (key.to_vec(), value.to_vec());
                // Each is read once: a dump larger than memory must not fill it.
                lmdb::not_needed(value);
                Ok(entry)
            }
            Err(what) => Err(RecordError::new(&self.path, String::from_utf8_lossy(key), what)),
        });
        Ok(Page { entries: copied.collect(), last })
    }
}

/// Records that were copied, and the key of the last one.
#[derive(Default)]
struct Page {
    entries: Vec<Result<Entry, RecordError>>,
    last: Option<Vec<u8>>,
}

/// Refuses a value that no image needs.
fn short(value: &[u8]) -> Result<&[u8], String> {
    if value.len() <= MAX_VALUE {
        return Ok(value);
    }
    Err(format!("its value has {} bytes, more than the {MAX_VALUE} that are read", value.len()))
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
        let env = lmdb::open_for_writing(path, 64 << 20, EnvFlags::empty())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_records_are_copied_at_once_if_they_are_large_and_none_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump");
        let mut writer = DumpWriter::create(&path).unwrap();
        let sizes = (0..40u8).map(|n| if n % 10 == 9 { PAGE_BYTES + 1 } else { PAGE_BYTES / 4 });
        for (n, size) in (0u8..).zip(sizes) {
            writer.put(vec![n + 1], vec![n; size]).unwrap();
        }
        writer.finish().unwrap();
        let reader = DumpReader::open(&path).unwrap();
        let (mut after, mut seen) = (Vec::new(), 0);
        loop {
            let page = reader.page(&after, &[&[3]], PAGE).unwrap();
            let sizes = page.entries.iter().map(|entry| entry.as_ref().unwrap().1.len());
            assert!(page.entries.len() <= 1 || sizes.sum::<usize>() <= PAGE_BYTES);
            seen += page.entries.len();
            let Some(last) = page.last else { break };
            after = last;
        }
        assert_eq!(seen, 39);
        let mut entries = reader.into_entries(&[&[3]]);
        assert!(entries.by_ref().all(|entry| entry.unwrap().0 != [3]));
        assert!(entries.next().is_none());
    }
}
