//! LMDB's pages read by hand: what the library itself believes blindly is checked here, and what it gives up on is found.
//!
//! LMDB follows page numbers and offsets in its file without asking whether they lie inside it, and takes for granted
//! that keys are in order; a damaged or hostile file ends the process or never lets it end. So every file is walked
//! before LMDB maps it (the doors in [`crate::lmdb`] see to that). The layout is that of LMDB 0.9 on 64-bit machines
//! (`mdb.c`: `MDB_page`, `MDB_node`, `MDB_db`, `MDB_meta`).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::lmdb::LmdbError;

mod meta;
mod page;
mod tree;

pub(crate) use meta::{Meta, begins_a_file, guess_page_size, metas};
use page::Node;
pub(crate) use page::{Kind, Page, Place};
pub(crate) use tree::Database;

/// Bytes before a page's contents: page number, padding, flags, lower and upper bound of the free space.
const PAGE_HEADER: usize = 16;
/// The file of an environment that is a directory.
const DATA: &str = "data.mdb";

/// What a file is opened for, which decides what of it must be sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Looking up and listing: the trees, and where values lie. The cost is that of the index.
    Reading,
    /// Changing or copying it page by page: also what values say of their own pages, how entries fill theirs, and the
    /// list of free pages, which LMDB would write over.
    Writing,
}

/// A data file that is read by hand, one page at a time.
pub(crate) struct PageFile {
    path: PathBuf,
    file: File,
    page_size: usize,
    /// Whole pages in the file.
    pages: u64,
}

/// Walks all trees of an environment's data file: every page number and offset that LMDB would follow lies where it may,
/// keys are in order, and no page has two uses.
///
/// The cost is that of the trees, a small part of the file, and of the first bytes of each value.
///
/// # Errors
/// [`LmdbError::Damaged`] with the page; [`LmdbError::NotLmdb`] and the others of what is no sound file.
pub fn check(path: &Path) -> Result<(), LmdbError> {
    check_file(&data_file(path)?, Purpose::Writing).map(drop)
}

/// The data file of an environment: `data.mdb` in a directory, or a file by itself (LMDB's `MDB_NOSUBDIR`).
///
/// # Errors
/// What is neither.
pub(crate) fn data_file(path: &Path) -> Result<PathBuf, LmdbError> {
    let metadata = path.metadata().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => LmdbError::Missing(path.to_owned()),
        _ => LmdbError::Io { path: path.to_owned(), source: error },
    })?;
    let file = if metadata.is_dir() { path.join(DATA) } else { path.to_owned() };
    // Nothing else is opened: a pipe would wait for somebody to write to it.
    if file.is_file() { Ok(file) } else { Err(LmdbError::NotADirectory(path.to_owned())) }
}

/// Checks a data file for what is to be done with it; what is checked is the file that comes back, whatever takes its
/// name meanwhile.
pub(crate) fn check_file(path: &Path, purpose: Purpose) -> Result<(PageFile, Meta), LmdbError> {
    check_open_file(path, File::open(path).map_err(LmdbError::io(path))?, purpose)
}

/// The same of a file that is open already.
pub(crate) fn check_open_file(
    path: &Path,
    file: File,
    purpose: Purpose,
) -> Result<(PageFile, Meta), LmdbError> {
    let (meta, page_size) = meta::newest(path, &file)?;
    let file = PageFile::new(path, file, page_size)?;
    tree::check(&file, &meta, purpose)?;
    Ok((file, meta))
}

/// Whether two open files are one.
pub(crate) fn is_same(one: &File, other: &File) -> bool {
    let place = |file: &File| file.metadata().map(|data| (data.dev(), data.ino())).ok();
    place(one).is_some_and(|there| place(other) == Some(there))
}

impl PageFile {
    pub(crate) fn new(path: &Path, file: File, page_size: usize) -> Result<PageFile, LmdbError> {
        let length = file.metadata().map_err(LmdbError::io(path))?.len();
        Ok(PageFile { path: path.to_owned(), file, page_size, pages: length / page_size as u64 })
    }

    /// Whole pages in the file.
    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// Bytes in the file, but for what is less than a page.
    pub(crate) fn length(&self) -> u64 {
        self.pages * self.page_size as u64
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// One page's bytes.
    pub(crate) fn page(&self, number: u64) -> io::Result<Vec<u8>> {
        self.bytes(number, 0, self.page_size)
    }

    /// Asks the system to read a page ahead.
    fn will_read(&self, number: u64) {
        let start = number.checked_mul(self.page_size as u64).and_then(|at| i64::try_from(at).ok());
        if let Some(start) = start {
            // SAFETY: the descriptor is open for the whole call, and advice changes no memory.
            unsafe {
                let length = self.page_size as libc::off_t;
                libc::posix_fadvise(
                    self.file.as_raw_fd(),
                    start,
                    length,
                    libc::POSIX_FADV_WILLNEED,
                );
            }
        }
    }

    /// What a page says of itself, without the rest of it.
    pub(crate) fn header(&self, number: u64) -> io::Result<Vec<u8>> {
        self.bytes(number, 0, PAGE_HEADER)
    }

    /// The bytes of a value.
    pub(crate) fn value(&self, place: &Place) -> io::Result<Vec<u8>> {
        match *place {
            Place::Inline(bytes) => Ok(bytes.to_vec()),
            Place::Overflow { page, size } => self.bytes(page, PAGE_HEADER, size),
        }
    }

    /// Bytes from an offset in a page on.
    fn bytes(&self, page: u64, offset: usize, length: usize) -> io::Result<Vec<u8>> {
        let start =
            page.checked_mul(self.page_size as u64).and_then(|at| at.checked_add(offset as u64));
        let end = start.and_then(|start| start.checked_add(length as u64));
        let inside = end.is_some_and(|end| end <= self.length());
        let start = start.filter(|_| inside).ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use heed::types::Bytes;
    use heed::{EnvFlags, EnvOpenOptions};

    /// Numbers without a pattern, the same every time.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % limit as u64) as usize
        }
    }

    #[test]
    fn a_file_that_lmdb_keeps_without_a_folder_is_sound() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("features");
        let mut options = EnvOpenOptions::new();
        options.map_size(1 << 20);
        // SAFETY: the file is this test's own.
        let env = unsafe { options.flags(EnvFlags::NO_SUB_DIR).open(&file).unwrap() };
        let mut transaction = env.write_txn().unwrap();
        let database = env.create_database::<Bytes, Bytes>(&mut transaction, None).unwrap();
        database.put(&mut transaction, b"a", b"b").unwrap();
        transaction.commit().unwrap();
        env.prepare_for_closing().wait();
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!(bytes[45], 0x40, "LMDB notes it in the file");
        super::check(&file).unwrap();
        std::fs::rename(&file, folder.path().join("data.mdb")).unwrap();
        super::check(folder.path()).unwrap();
    }

    /// Whatever LMDB leaves after a transaction passes: trees that grow and shrink, long keys, values that are replaced by
    /// shorter ones, pages taken and given back.
    #[test]
    fn what_lmdb_itself_writes_is_sound() {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        for round in 0..30 {
            let folder = tempfile::tempdir().unwrap();
            let mut options = EnvOpenOptions::new();
            options.map_size(1 << 28).max_dbs(4);
            // SAFETY: the folder is this test's own; nothing has to outlive a crash of the machine.
            let env = unsafe {
                options.flags(EnvFlags::NO_SYNC);
                if round % 3 == 2 {
                    options.flags(EnvFlags::WRITE_MAP);
                }
                options.open(folder.path()).unwrap()
            };
            for _ in 0..25 {
                let mut transaction = env.write_txn().unwrap();
                let name = [None, Some("a"), Some("b")][random.below(3)];
                let database = env.create_database::<Bytes, Bytes>(&mut transaction, name).unwrap();
                let grows = random.below(4);
                for _ in 0..[1, 3, 40, 400][random.below(4)] {
                    let number = random.below(3000);
                    let mut key = format!("key{number}").into_bytes();
                    key.resize([8, 8, 100, 511][number % 4], b'.');
                    if random.below(4) <= grows {
                        let value = vec![7; [0, 9, 300, 2000, 2030, 5000, 40_000][random.below(7)]];
                        database.put(&mut transaction, &key, &value).unwrap();
                    } else {
                        database.delete(&mut transaction, &key).unwrap();
                    }
                }
                transaction.commit().unwrap();
                super::check(folder.path()).unwrap();
            }
        }
    }
}
