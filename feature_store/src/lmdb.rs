//! Opening LMDB environments that others have written, without trusting them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use heed::{EnvFlags, EnvOpenOptions, WithoutTls};

/// An environment whose read transactions may move between threads.
pub type Env = heed::Env<WithoutTls>;

/// First four bytes of LMDB's meta pages, after the page header.
const MAGIC: u32 = 0xBEEF_C0DE;
/// The flag of databases whose keys are integers.
const INTEGER_KEYS: u32 = 0x08;
/// Bytes before the meta data in a meta page (64-bit builds).
const PAGE_HEADER: usize = 16;
/// Bytes of a lock file for LMDB's usual 126 readers.
const LOCK_FILE: usize = 8192;

/// Why an LMDB environment cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LmdbError {
    /// No such file or directory.
    #[error("{0} does not exist")]
    Missing(PathBuf),
    /// Not a directory with a `data.mdb` in it.
    #[error(
        "{0} is not an LMDB directory (it has no data.mdb); `xenc store convert` makes a store of other formats"
    )]
    NotADirectory(PathBuf),
    /// `data.mdb` does not begin as LMDB files do.
    #[error("{0} is not an LMDB file")]
    NotLmdb(PathBuf),
    /// `data.mdb` is shorter than its own meta page says; reading on would end the process.
    #[error(
        "{path} is truncated: {found} bytes of at least {expected}; get a complete copy (of a store, and only of one, `xenc store repair` saves what is left)"
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes there should be.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// A page of `data.mdb` points where it must not; LMDB would follow and end the process.
    #[error(
        "{path}, page {page}: {what}; get a sound copy (of a store, and only of one, `xenc store repair` saves what is left)"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Number of the page.
        page: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A foreign dump that is being read already: LMDB must not map one file twice in a process.
    #[error("{0} is named twice; name it once")]
    Twice(PathBuf),
    /// LMDB itself refuses.
    #[error("{path}: {source}")]
    Heed {
        /// The directory.
        path: PathBuf,
        /// LMDB's error.
        source: heed::Error,
    },
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Makes an environment's files. The data file as any program makes its files: LMDB would keep everybody else from
/// reading it. The lock file with all its bytes: LMDB maps it without them, and on a full disk the first access would end
/// the process.
///
/// # Errors
/// If the file system refuses.
pub(crate) fn make_files(dir: &Path) -> Result<(), LmdbError> {
    let data = dir.join("data.mdb");
    let lock = dir.join("lock.mdb");
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| LmdbError::Io { path, source }
    };
    File::options().append(true).create(true).open(&data).map_err(io(&data))?;
    std::fs::write(&lock, [0; LOCK_FILE]).map_err(io(&lock))
}

/// LMDB reports a page that it could write only in part, which is what a full disk causes, as EIO.
pub(crate) fn write_error(source: std::io::Error) -> std::io::Error {
    match source.raw_os_error() {
        Some(libc::EIO) => {
            std::io::Error::new(source.kind(), "cannot write: the disk is full or failing")
        }
        _ => source,
    }
}

impl LmdbError {
    pub(crate) fn heed(path: &Path) -> impl FnOnce(heed::Error) -> LmdbError + '_ {
        move |source| match source {
            heed::Error::EnvAlreadyOpened => LmdbError::Twice(path.to_owned()),
            source => LmdbError::Heed { path: path.to_owned(), source },
        }
    }
}

/// Asks the system to read mapped bytes ahead, in one piece instead of page by page.
pub(crate) fn will_need(bytes: &[u8]) {
    advise(bytes, libc::MADV_WILLNEED);
}

/// Has the system read mapped bytes in one piece if they are not in memory yet; a look at one page tells. Page faults
/// would fetch them 4 KiB at a time, an advice for what is there already would cost a quarter of its reading.
pub(crate) fn fetch_if_cold(bytes: &[u8]) {
    const PAGE: usize = 4096;
    if bytes.len() < 8 * PAGE {
        return;
    }
    let middle = (bytes.as_ptr() as usize + bytes.len() / 2) / PAGE * PAGE;
    let mut resident = 1u8;
    // SAFETY: the page lies within a live mapping, and one byte is written for one page.
    let asked = unsafe { libc::mincore(middle as *mut libc::c_void, PAGE, &mut resident) };
    if asked == 0 && resident & 1 == 0 {
        will_need(bytes);
    }
}

/// Lets the process forget mapped bytes that are read only once; they stay in the page cache, and would be read again
/// if they were touched after all.
pub(crate) fn not_needed(bytes: &[u8]) {
    advise(bytes, libc::MADV_DONTNEED);
}

/// Whether the system follows an advice is its own affair.
fn advise(bytes: &[u8], advice: libc::c_int) {
    const PAGE: usize = 4096;
    let start = bytes.as_ptr() as usize / PAGE * PAGE;
    let length = bytes.as_ptr() as usize + bytes.len() - start;
    // SAFETY: the range is part of a live, shared, read-only file mapping (whole pages around a borrowed slice of it):
    // neither advice changes what is read there.
    unsafe {
        libc::madvise(start as *mut libc::c_void, length, advice);
    }
}

/// What the newer of the two meta pages says.
pub(crate) struct Meta {
    pub(crate) page_size: u64,
    pub(crate) last_page: u64,
    /// Root page of the tree of free pages.
    pub(crate) free_root: u64,
    /// Root page of the unnamed database.
    pub(crate) main_root: u64,
    transaction: u64,
    /// Keys of the unnamed database.
    entries: u64,
    length: u64,
}

/// Opens an environment read-only and without lock file: for directories that nobody writes to any more, also on
/// read-only file systems, from any number of processes.
///
/// # Errors
/// Everything in [`LmdbError`]; a truncated file is found here, by comparing its length with its meta pages, because
/// touching a missing page of a mapped file ends the process.
pub fn open_read_only(dir: &Path) -> Result<Env, LmdbError> {
    let (_, Meta { length, .. }) = newest_meta(dir)?;
    let map_size = usize::try_from(length.next_multiple_of(1 << 16)).unwrap_or(usize::MAX);
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_size).max_dbs(4);
    // SAFETY: the file is opened read-only; finished stores and foreign dumps are not changed in place while they are
    // read (a finished store is replaced by rename). No lock file is needed for the same reason.
    unsafe {
        options.flags(EnvFlags::READ_ONLY | EnvFlags::NO_LOCK | EnvFlags::NO_READ_AHEAD);
        options.open(dir).map_err(LmdbError::heed(dir))
    }
}

/// Number of keys in the unnamed database, as the meta page has it.
///
/// # Errors
/// As [`open_read_only`].
pub fn main_entries(dir: &Path) -> Result<u64, LmdbError> {
    newest_meta(dir).map(|(_, meta)| meta.entries)
}

/// The data file and its newer meta page, once that is known to fit the file's length.
pub(crate) fn newest_meta(dir: &Path) -> Result<(PathBuf, Meta), LmdbError> {
    if !dir.exists() {
        return Err(LmdbError::Missing(dir.to_owned()));
    }
    let path = dir.join("data.mdb");
    if !path.is_file() {
        return Err(LmdbError::NotADirectory(dir.to_owned()));
    }
    let io = |source| LmdbError::Io { path: path.clone(), source };
    let mut file = File::open(&path).map_err(io)?;
    let found = file.metadata().map_err(io)?.len();
    let mut head = Vec::new();
    file.by_ref().take(3 * 65536).read_to_end(&mut head).map_err(io)?;

    let not_lmdb = || LmdbError::NotLmdb(path.clone());
    let first = meta(&head, 0).ok_or_else(not_lmdb)?;
    // LMDB divides by the page size of whichever is newer: both must be sound, and agree.
    let second = usize::try_from(first.page_size).ok().and_then(|offset| meta(&head, offset));
    let second =
        second.filter(|second| second.page_size == first.page_size).ok_or_else(not_lmdb)?;
    let mut newest = if second.transaction > first.transaction { second } else { first };
    let expected = newest.last_page.saturating_add(1).saturating_mul(newest.page_size);
    if found < expected {
        return Err(LmdbError::Truncated { path, expected, found });
    }
    newest.length = found;
    Ok((path, newest))
}

/// Reads the meta page at an offset; the fields' places are those of LMDB's `MDB_meta` on 64-bit machines.
fn meta(head: &[u8], offset: usize) -> Option<Meta> {
    let page = head.get(offset.checked_add(PAGE_HEADER)?..)?;
    let u32_at = |at: usize| Some(u32::from_le_bytes(page.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(page.get(at..at + 8)?.try_into().ok()?));
    if u32_at(0)? != MAGIC {
        return None;
    }
    let page_size = u64::from(u32_at(24)?);
    let plausible = page_size.is_power_of_two() && (512..=65536).contains(&page_size);
    // Flags of the environment and of the unnamed database. LMDB obeys them, so that a file could ask to be mapped at
    // an address of its own; integer keys of the free pages' tree are all that is ever set.
    let flags = (u32_at(28)? & 0xFFFF, u32_at(76)? & 0xFFFF);
    (plausible && flags == (INTEGER_KEYS, 0)).then_some(())?;
    Some(Meta {
        page_size,
        free_root: u64_at(64)?,
        entries: u64_at(104)?,
        main_root: u64_at(112)?,
        last_page: u64_at(120)?,
        transaction: u64_at(128)?,
        length: 0,
    })
}
