//! The doors through which LMDB environments are opened, ours and those of others: LMDB maps no file whose pages have not
//! been looked at before.

use std::fs::File;
use std::path::{Path, PathBuf};

use heed::{EnvFlags, EnvOpenOptions, WithoutTls};

use crate::pages::{self, Purpose};

/// An environment whose read transactions may move between threads.
pub type Env = heed::Env<WithoutTls>;

/// Times that a directory may be exchanged for its successor while it is opened.
const EXCHANGES: usize = 100;
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
    /// Pages of LMDB, but not the two that lead to them.
    #[error(
        "{0}: the pages at its beginning, which lead to all others, are damaged; get a sound copy (of a store, and only of \
         one, `xenc store repair` saves what is left)"
    )]
    Headless(PathBuf),
    /// `data.mdb` ends before a page that is in use; reading on would end the process.
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
    /// Something writes successors faster than they can be opened.
    #[error(
        "{0} is replaced again and again while it is being opened; try again when nothing writes it any more"
    )]
    Unsteady(PathBuf),
    /// What this process has open is not what lies there any more.
    #[error(
        "{0} has been replaced since this process opened it; drop the store that is open first"
    )]
    Replaced(PathBuf),
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
fn make_files(dir: &Path) -> Result<(), LmdbError> {
    let (data, lock) = (dir.join("data.mdb"), dir.join("lock.mdb"));
    File::options().append(true).create(true).open(&data).map_err(LmdbError::io(&data))?;
    std::fs::write(&lock, [0; LOCK_FILE]).map_err(LmdbError::io(&lock))
}

/// LMDB reports a page that it could write only in part, which is what a full disk causes, as EIO.
pub(crate) fn write_error(source: std::io::Error) -> std::io::Error {
    match source.raw_os_error() {
        Some(libc::EIO) => std::io::Error::new(
            source.kind(),
            "cannot write: the disk is full (free some space there and try again) or failing",
        ),
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

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> LmdbError {
        let path = path.to_owned();
        move |source| LmdbError::Io { path, source }
    }

    /// What is wrong with the file, if it is damaged, other than its being somewhere or something else.
    pub(crate) fn damage(&self) -> Option<String> {
        match self {
            LmdbError::NotLmdb(_) => Some("its data.mdb is no LMDB file".into()),
            LmdbError::Headless(_) => Some("the pages at its beginning are damaged".into()),
            LmdbError::Truncated { expected, found, .. } => {
                Some(format!("it is truncated: {found} bytes of at least {expected}"))
            }
            LmdbError::Damaged { page, what, .. } => Some(format!("page {page}: {what}")),
            _ => None,
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

/// An environment that is open for reading.
pub(crate) struct Opened {
    pub(crate) env: Env,
    /// Keys of the unnamed database.
    pub(crate) entries: u64,
}

/// Opens an environment read-only and without lock file: a directory, or a file by itself, that nobody writes to any more,
/// also on read-only file systems, from any number of processes. Its trees are walked before LMDB maps it.
///
/// # Errors
/// Everything in [`LmdbError`].
pub(crate) fn open_read_only(path: &Path) -> Result<Opened, LmdbError> {
    // Another process may put a successor in its place at any moment: what is mapped must be what was checked.
    for _ in 0..EXCHANGES {
        let data = pages::data_file(path)?;
        let (file, meta) = pages::check_file(&data, Purpose::Reading)?;
        let map_size = usize::try_from(file.length().next_multiple_of(1 << 16));
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(map_size.unwrap_or(usize::MAX)).max_dbs(4);
        // SAFETY: the file is opened read-only; finished stores and foreign dumps are not changed in place while they are
        // read (a finished store is replaced by rename). No lock file is needed for the same reason.
        let env = unsafe {
            options.flags(EnvFlags::READ_ONLY | EnvFlags::NO_LOCK | EnvFlags::NO_READ_AHEAD);
            if data == path {
                options.flags(EnvFlags::NO_SUB_DIR);
            }
            options.open(path).map_err(LmdbError::heed(path))?
        };
        let mapped = env.try_clone_inner_file().map_err(LmdbError::heed(path))?;
        if pages::is_same(file.file(), &mapped) {
            return Ok(Opened { env, entries: meta.main.entries });
        }
        env.prepare_for_closing().wait();
    }
    Err(LmdbError::Unsteady(path.to_owned()))
}

/// Opens a directory to write into it, which only the caller does. What is there already is checked first: LMDB would
/// write to pages that a damaged file calls free.
///
/// # Errors
/// Everything in [`LmdbError`].
pub(crate) fn open_for_writing(
    dir: &Path,
    map_size: usize,
    flags: EnvFlags,
) -> Result<Env, LmdbError> {
    make_files(dir)?;
    let data = pages::data_file(dir)?;
    if data.metadata().map_err(LmdbError::io(&data))?.len() > 0 {
        pages::check_file(&data, Purpose::Writing)?;
    }
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_size.next_multiple_of(1 << 16)).max_dbs(4);
    // SAFETY: the callers' flags keep the file's integrity, and nobody else uses the directory.
    unsafe { options.flags(flags).open(dir) }.map_err(LmdbError::heed(dir))
}

/// Walks also what only changing or copying an environment page by page would follow.
///
/// # Errors
/// As [`open_read_only`].
pub(crate) fn check_whole(env: &Env, path: &Path) -> Result<(), LmdbError> {
    let mapped = env.try_clone_inner_file().map_err(LmdbError::heed(path))?;
    pages::check_open_file(&pages::data_file(path)?, mapped, Purpose::Writing).map(drop)
}

/// Makes sure that what is open is still what its path leads to.
///
/// # Errors
/// [`LmdbError::Replaced`].
pub(crate) fn check_current(env: &Env, path: &Path) -> Result<(), LmdbError> {
    let mapped = env.try_clone_inner_file().map_err(LmdbError::heed(path))?;
    let data = pages::data_file(path)?;
    let there = File::open(&data).map_err(LmdbError::io(&data))?;
    if pages::is_same(&mapped, &there) { Ok(()) } else { Err(LmdbError::Replaced(path.to_owned())) }
}
