//! LMDB's pages read by hand: what the library itself believes blindly is checked here, and what it gives up on is found.
//!
//! LMDB follows page numbers and offsets in its file without asking whether they lie inside it; a damaged or hostile
//! file ends the process. [`check`] walks the trees of a file first. The layout is that of LMDB 0.9 on 64-bit machines
//! (`mdb.c`: `MDB_page`, `MDB_node`, `MDB_db`, `MDB_meta`).

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::lmdb::{LmdbError, Meta, newest_meta};

/// Page number, padding, flags, lower and upper bound of the free space.
const PAGE_HEADER: usize = 16;
/// Size (two halves) or page number, flags, key size.
const NODE_HEADER: usize = 8;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const OVERFLOW: u16 = 0x04;
/// Flags that tell what a page is: those above, meta pages, and two kinds for several values per key. The others say
/// what a writer was doing with it.
const KIND: u16 = 0x6F;
/// A node whose value is on pages of its own.
const BIG_VALUE: u16 = 0x01;
/// A node whose value describes a named database.
const DATABASE: u16 = 0x02;
/// Nodes with several values per key, which none of the known writers makes.
const DUPLICATES: u16 = 0x04;
/// Levels of a tree; LMDB itself stops at 32.
const MAX_DEPTH: usize = 32;
/// A tree that is empty.
const NO_PAGE: u64 = u64::MAX;
/// Bytes of an `MDB_db`, and where its root stands in it.
const DATABASE_SIZE: usize = 48;
const DATABASE_ROOT: usize = 40;

/// A data file whose pages are read one at a time.
pub(crate) struct PageFile {
    path: PathBuf,
    file: File,
    pub(crate) page_size: usize,
    /// Whole pages in the file.
    pub(crate) pages: u64,
}

/// A key of a leaf page and where its value is.
pub(crate) struct Node {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Place,
    pub(crate) is_database: bool,
}

/// Where a value is.
pub(crate) enum Place {
    /// In its leaf page.
    Inline(Vec<u8>),
    /// On pages of its own, from this page on.
    Overflow { page: u64, size: usize },
}

/// Walks all trees of a data file: every page number and offset that LMDB would follow lies where it may.
///
/// The cost is that of the tree alone, a small part of the file: values on pages of their own are not read.
///
/// # Errors
/// [`LmdbError::Damaged`] with the page; what [`crate::lmdb::open_read_only`] says of a file.
pub fn check(dir: &Path) -> Result<(), LmdbError> {
    let (path, meta) = newest_meta(dir)?;
    let file = PageFile::open(&path, meta.page_size as usize)?;
    let mut seen = HashSet::new();
    for root in [meta.free_root, meta.main_root] {
        file.check_tree(root, &meta, 0, &mut seen)?;
    }
    Ok(())
}

impl PageFile {
    pub(crate) fn open(path: &Path, page_size: usize) -> Result<PageFile, LmdbError> {
        let io = |source| LmdbError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let pages = file.metadata().map_err(io)?.len() / page_size as u64;
        Ok(PageFile { path: path.to_owned(), file, page_size, pages })
    }

    /// One page's bytes.
    pub(crate) fn page(&self, number: u64) -> io::Result<Vec<u8>> {
        self.bytes(number, 0, self.page_size)
    }

    /// Bytes from an offset in a page on.
    pub(crate) fn bytes(&self, page: u64, offset: usize, length: usize) -> io::Result<Vec<u8>> {
        let start =
            page.checked_mul(self.page_size as u64).and_then(|at| at.checked_add(offset as u64));
        let end = start.and_then(|start| start.checked_add(length as u64));
        let inside = end.is_some_and(|end| end <= self.pages * self.page_size as u64);
        let start = start.filter(|_| inside).ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes)
    }

    /// The bytes of a value, and whether the pages it is on say that they are such.
    pub(crate) fn value(&self, place: &Place) -> io::Result<Vec<u8>> {
        match place {
            Place::Inline(bytes) => Ok(bytes.clone()),
            Place::Overflow { page, size } => self.bytes(*page, PAGE_HEADER, *size),
        }
    }

    fn check_tree(
        &self,
        root: u64,
        meta: &Meta,
        depth: usize,
        seen: &mut HashSet<u64>,
    ) -> Result<(), LmdbError> {
        if root == NO_PAGE {
            return Ok(());
        }
        let damaged = |what| LmdbError::Damaged { path: self.path.clone(), page: root, what };
        if depth > MAX_DEPTH {
            return Err(damaged("it lies deeper than a tree can be"));
        }
        if root > meta.last_page || !seen.insert(root) {
            return Err(damaged("it is outside the file, or in two places of a tree"));
        }
        let page = self.page(root).map_err(|_| damaged("it cannot be read"))?;
        if u64_at(&page, 0) != root {
            return Err(damaged("it has another number"));
        }
        match u16_at(&page, 10) & KIND {
            BRANCH => {
                let children =
                    branch_children(&page).ok_or_else(|| damaged("its branches are malformed"))?;
                children
                    .into_iter()
                    .try_for_each(|child| self.check_tree(child, meta, depth + 1, seen))
            }
            LEAF => {
                let nodes =
                    leaf_nodes(&page).ok_or_else(|| damaged("its entries are malformed"))?;
                nodes
                    .into_iter()
                    .try_for_each(|node| self.check_node(root, node, meta, depth, seen))
            }
            _ => Err(damaged("it is no page of a tree")),
        }
    }

    fn check_node(
        &self,
        leaf: u64,
        node: Node,
        meta: &Meta,
        depth: usize,
        seen: &mut HashSet<u64>,
    ) -> Result<(), LmdbError> {
        let damaged = |what| LmdbError::Damaged { path: self.path.clone(), page: leaf, what };
        match node.value {
            Place::Inline(database) if node.is_database => {
                // Flags of a database change how LMDB reads its pages; those of known writers have none.
                if database.len() != DATABASE_SIZE || u16_at(&database, 4) != 0 {
                    return Err(damaged("a database in it is malformed"));
                }
                self.check_tree(u64_at(&database, DATABASE_ROOT), meta, depth + 1, seen)
            }
            Place::Inline(_) => Ok(()),
            Place::Overflow { page, size } => {
                let pages = (PAGE_HEADER + size).div_ceil(self.page_size) as u64;
                let end =
                    page.checked_add(pages).filter(|&end| page > 1 && end <= meta.last_page + 1);
                if end.is_none() {
                    return Err(damaged("a value of it lies outside the file"));
                }
                let head = self
                    .bytes(page, 0, PAGE_HEADER)
                    .map_err(|_| damaged("a value of it cannot be read"))?;
                if u64_at(&head, 0) != page || u16_at(&head, 10) & KIND != OVERFLOW {
                    return Err(damaged("a value of it is not where it should be"));
                }
                Ok(())
            }
        }
    }
}

/// Whether a page says that it is a leaf, under its own number.
pub(crate) fn is_leaf(page: &[u8], number: u64) -> bool {
    page.len() > PAGE_HEADER && u64_at(page, 0) == number && u16_at(page, 10) & KIND == LEAF
}

/// Offsets of a page's nodes; `None` if they lie outside the page.
fn node_offsets(page: &[u8]) -> Option<Vec<usize>> {
    let (lower, upper) = (usize::from(u16_at(page, 12)), usize::from(u16_at(page, 14)));
    if lower < PAGE_HEADER || lower > upper || upper > page.len() || lower % 2 != 0 {
        return None;
    }
    let offsets = (PAGE_HEADER..lower).step_by(2).map(|at| usize::from(u16_at(page, at)));
    let inside = |offset: &usize| *offset >= upper && offset + NODE_HEADER <= page.len();
    offsets.map(|offset| Some(offset).filter(inside)).collect()
}

fn branch_children(page: &[u8]) -> Option<Vec<u64>> {
    let offsets = node_offsets(page)?;
    // LMDB takes a branch page's second node for granted.
    (offsets.len() >= 2).then_some(())?;
    let child = |offset: usize| {
        let key = usize::from(u16_at(page, offset + 6));
        (offset + NODE_HEADER + key <= page.len()).then_some(())?;
        let (low, high, top) =
            (u16_at(page, offset), u16_at(page, offset + 2), u16_at(page, offset + 4));
        Some(u64::from(low) | u64::from(high) << 16 | u64::from(top) << 32)
    };
    offsets.into_iter().map(child).collect()
}

/// The entries of a leaf page; `None` if any of them reaches outside it.
pub(crate) fn leaf_nodes(page: &[u8]) -> Option<Vec<Node>> {
    let node = |offset: usize| {
        let size = usize::from(u16_at(page, offset)) | usize::from(u16_at(page, offset + 2)) << 16;
        let (flags, key_size) = (u16_at(page, offset + 4), usize::from(u16_at(page, offset + 6)));
        let key = page.get(offset + NODE_HEADER..offset + NODE_HEADER + key_size)?;
        let value = &page[offset + NODE_HEADER + key_size..];
        (flags & DUPLICATES == 0 && key_size <= crate::MAX_ID_BYTES).then_some(())?;
        let value = if flags & BIG_VALUE != 0 {
            Place::Overflow { page: u64_at(value.get(..8)?, 0), size }
        } else {
            Place::Inline(value.get(..size)?.to_vec())
        };
        Some(Node { key: key.to_vec(), value, is_database: flags & DATABASE != 0 })
    };
    node_offsets(page)?.into_iter().map(node).collect()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}
