//! One page: what it says that it is, and the entries in it, none of which is believed to lie inside.

use super::{PAGE_HEADER, u16_at, u32_at, u64_at};
use crate::MAX_ID_BYTES;

/// Size (two halves) or page number, flags, key size.
const NODE_HEADER: usize = 8;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const OVERFLOW: u16 = 0x04;
/// A node whose value is on pages of its own.
const BIG_VALUE: u16 = 0x01;
/// A node whose value describes a named database.
const DATABASE: u16 = 0x02;

/// A page's bytes, or the first of them.
#[derive(Clone, Copy)]
pub(crate) struct Page<'a>(&'a [u8]);

/// What a page of a tree, or a value's first page, is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Leads to other pages.
    Branch,
    /// Holds entries.
    Leaf,
    /// Begins a value, on this many pages.
    Value(u32),
}

/// An entry of a leaf page.
pub(crate) struct Node<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: Place<'a>,
    /// Whether the value describes a named database.
    pub(crate) is_database: bool,
}

/// Where a value is.
pub(crate) enum Place<'a> {
    /// In its leaf page.
    Inline(&'a [u8]),
    /// On pages of its own, from this page on.
    Overflow { page: u64, size: usize },
}

impl Place<'_> {
    /// The first of its pages, if it has its own.
    pub(crate) fn page(&self) -> Option<u64> {
        match *self {
            Place::Inline(_) => None,
            Place::Overflow { page, .. } => Some(page),
        }
    }

    /// Bytes of the value.
    pub(crate) fn size(&self) -> usize {
        match *self {
            Place::Inline(bytes) => bytes.len(),
            Place::Overflow { size, .. } => size,
        }
    }
}

impl<'a> Page<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Page<'a> {
        Page(bytes)
    }

    /// What the page is, if it bears this number. Whatever LMDB notes of pages that it has in hand must not be set: it
    /// would write to a page that it takes for a copy of its own.
    pub(crate) fn kind(self, number: u64) -> Option<Kind> {
        if u64_at(self.0, 0)? != number {
            return None;
        }
        match u16_at(self.0, 10)? {
            BRANCH => Some(Kind::Branch),
            LEAF => Some(Kind::Leaf),
            OVERFLOW => Some(Kind::Value(u32_at(self.0, 12)?)),
            _ => None,
        }
    }

    /// Whether it is one of LMDB's pages under this number.
    pub(crate) fn is_of_a_tree(self, number: u64) -> bool {
        matches!(self.kind(number), Some(Kind::Branch | Kind::Leaf))
    }

    /// Number of entries; `None` if their list reaches outside the page.
    pub(crate) fn entries(self) -> Option<usize> {
        let (lower, upper) = self.bounds()?;
        let sound = lower <= upper && upper <= self.0.len() && lower % 2 == 0;
        Some(lower.checked_sub(PAGE_HEADER).filter(|_| sound)? / 2)
    }

    /// An entry of a leaf page; `None` if it reaches outside the page, or is of a kind that no known writer makes (several
    /// values for one key).
    pub(crate) fn leaf_node(self, index: usize) -> Option<Node<'a>> {
        let (header, rest, key) = self.node(index)?;
        let size = usize::from(u16_at(header, 0)?) | usize::from(u16_at(header, 2)?) << 16;
        let flags = u16_at(header, 4)?;
        let value = match flags {
            BIG_VALUE => Place::Overflow { page: u64_at(rest, 0)?, size },
            0 | DATABASE => Place::Inline(rest.get(..size)?),
            _ => return None,
        };
        let fits = (1..=MAX_ID_BYTES).contains(&key.len());
        fits.then_some(Node { key, value, is_database: flags == DATABASE })
    }

    /// The entries of a leaf page that lie inside it.
    pub(crate) fn leaf_nodes(self) -> impl Iterator<Item = Node<'a>> {
        (0..self.entries().unwrap_or(0)).filter_map(move |index| self.leaf_node(index))
    }

    /// An entry of a branch page: the least key of a page below, and that page. The first one's key is not looked at by
    /// LMDB.
    pub(crate) fn branch_node(self, index: usize) -> Option<(&'a [u8], u64)> {
        let (header, _, key) = self.node(index)?;
        let [low, high, top] = [u16_at(header, 0)?, u16_at(header, 2)?, u16_at(header, 4)?];
        Some((key, u64::from(low) | u64::from(high) << 16 | u64::from(top) << 32))
    }

    /// Whether the entries fill the page's end without gaps and overlaps, as LMDB leaves them; it moves them about on that
    /// assumption when it writes.
    pub(crate) fn is_packed(self, kind: Kind) -> bool {
        let packed = || {
            let (_, upper) = self.bounds()?;
            let mut nodes = (0..self.entries()?)
                .map(|index| Some((self.offset(index)?, self.node_size(index, kind)?)))
                .collect::<Option<Vec<_>>>()?;
            nodes.sort_unstable();
            let mut end = upper;
            for (offset, size) in nodes {
                (offset == end).then_some(())?;
                end += size;
            }
            Some(end == self.0.len())
        };
        packed() == Some(true)
    }

    /// Lower and upper bound of the free space.
    fn bounds(self) -> Option<(usize, usize)> {
        Some((usize::from(u16_at(self.0, 12)?), usize::from(u16_at(self.0, 14)?)))
    }

    /// Where an entry is, as the list of entries has it.
    fn offset(self, index: usize) -> Option<usize> {
        let (_, upper) = self.bounds()?;
        let offset = usize::from(u16_at(self.0, PAGE_HEADER + 2 * index)?);
        (offset >= upper).then_some(offset)
    }

    /// An entry's header, what comes behind its key, and the key.
    fn node(self, index: usize) -> Option<(&'a [u8], &'a [u8], &'a [u8])> {
        let node = self.0.get(self.offset(index)?..)?;
        let (header, rest) = node.split_at_checked(NODE_HEADER)?;
        let (key, rest) = rest.split_at_checked(u16_at(header, 6)?.into())?;
        Some((header, rest, key))
    }

    /// Bytes that an entry takes; they begin at even offsets.
    fn node_size(self, index: usize, kind: Kind) -> Option<usize> {
        let (_, _, key) = self.node(index)?;
        let value = match kind {
            Kind::Branch | Kind::Value(_) => 0,
            Kind::Leaf => match self.leaf_node(index)?.value {
                Place::Inline(bytes) => bytes.len(),
                Place::Overflow { .. } => size_of::<u64>(),
            },
        };
        Some((NODE_HEADER + key.len() + value).next_multiple_of(2))
    }
}
