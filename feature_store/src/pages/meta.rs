//! The two pages a data file begins with: where its trees are.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::tree::{DATABASE_SIZE, Database};
use super::{PAGE_HEADER, Page, u32_at, u64_at};
use crate::lmdb::LmdbError;

/// First four bytes of LMDB's meta pages, after the page header.
const MAGIC: u32 = 0xBEEF_C0DE;
/// The flag of databases whose keys are integers.
const INTEGER_KEYS: u32 = 0x08;
/// The flag of environments that are a file by themselves (`subdir=False`), which stands beside it. It says nothing of the
/// pages.
const NO_SUBDIRECTORY: u32 = 0x4000;
/// Page sizes that there are, the usual one first.
const PAGE_SIZES: [usize; 8] = [4096, 512, 1024, 2048, 8192, 16384, 32768, 65536];
/// Where the free pages' database stands in a meta page; behind it the unnamed one, and the last page's number.
const DATABASES: usize = 24;

/// What a meta page says.
pub(crate) struct Meta {
    page_size: usize,
    /// The tree of free pages.
    pub(crate) free: Database,
    /// The unnamed database.
    pub(crate) main: Database,
    pub(crate) last_page: u64,
    pub(crate) transaction: u64,
}

/// Whether a file that begins with these bytes is one of LMDB's.
pub(crate) fn begins_a_file(head: &[u8]) -> bool {
    u32_at(head, PAGE_HEADER) == Some(MAGIC)
}

/// What LMDB would go by, the newer of both meta pages, and the size of pages.
///
/// # Errors
/// [`LmdbError::NotLmdb`], or [`LmdbError::Damaged`] for what was an LMDB file.
pub(super) fn newest(path: &Path, file: &File) -> Result<(Meta, usize), LmdbError> {
    // LMDB divides by the page size of whichever is newer: both must be sound, and agree.
    let (first, second) = match metas(file) {
        [Some(first), Some(second)] if first.page_size == second.page_size => (first, second),
        found => {
            let was_lmdb = found.iter().any(Option::is_some) || has_pages(file);
            let path = path.to_owned();
            return Err(match was_lmdb {
                true => LmdbError::Headless(path),
                false => LmdbError::NotLmdb(path),
            });
        }
    };
    let newest = if second.transaction > first.transaction { second } else { first };
    let page_size = newest.page_size;
    Ok((newest, page_size))
}

/// Both meta pages, as far as they are sound.
pub(crate) fn metas(file: &File) -> [Option<Meta>; 2] {
    let first = meta(file, 0);
    // Without the first, the second one is where its own page size has it.
    let sizes: &[usize] = match &first {
        Some(first) => &[first.page_size],
        None => &PAGE_SIZES,
    };
    let mut seconds = sizes.iter().filter_map(|&size| Some((size, meta(file, size as u64)?)));
    let second = seconds.find(|(size, meta)| meta.page_size == *size).map(|(_, meta)| meta);
    [first, second]
}

/// The size of the pages of a file, told by its meta pages or, if both are lost, by which pages bear their own numbers.
pub(crate) fn guess_page_size(file: &File) -> usize {
    let told = metas(file).into_iter().flatten().next().map(|meta| meta.page_size);
    told.or_else(|| PAGE_SIZES.into_iter().find(|&size| has_pages_of(file, size)))
        .unwrap_or(PAGE_SIZES[0])
}

/// Whether pages of LMDB lie behind the place of the meta pages.
fn has_pages(file: &File) -> bool {
    PAGE_SIZES.iter().any(|&size| has_pages_of(file, size))
}

fn has_pages_of(file: &File, size: usize) -> bool {
    const LOOKED_AT: u64 = 64;
    (2..LOOKED_AT).any(|number| {
        let mut header = [0; PAGE_HEADER];
        let read = file.read_exact_at(&mut header, number * size as u64);
        read.is_ok() && Page::new(&header).is_of_a_tree(number)
    })
}

/// Reads the meta page at an offset; the fields' places are those of LMDB's `MDB_meta` on 64-bit machines.
fn meta(file: &File, offset: u64) -> Option<Meta> {
    let mut bytes = [0; DATABASES + 2 * DATABASE_SIZE + 16];
    file.read_exact_at(&mut bytes, offset + PAGE_HEADER as u64).ok()?;
    if u32_at(&bytes, 0)? != MAGIC {
        return None;
    }
    let page_size = u32_at(&bytes, DATABASES)? as usize;
    let (free, main) = (bytes.get(DATABASES..)?, bytes.get(DATABASES + DATABASE_SIZE..)?);
    // Flags of the environment and of the unnamed database. LMDB obeys them, so that a file could ask to be mapped at
    // an address of its own; integer keys of the free pages' tree are all that is ever set beside that.
    let flags = (u32_at(free, 4)? & 0xFFFF & !NO_SUBDIRECTORY, u32_at(main, 4)? & 0xFFFF);
    if !PAGE_SIZES.contains(&page_size) || flags != (INTEGER_KEYS, 0) {
        return None;
    }
    let end = DATABASES + 2 * DATABASE_SIZE;
    Some(Meta {
        page_size,
        free: Database::read(&free[..DATABASE_SIZE])?,
        main: Database::read(&main[..DATABASE_SIZE])?,
        last_page: u64_at(&bytes, end)?,
        transaction: u64_at(&bytes, end + 8)?,
    })
}
