//! Walking the trees of a file that nobody vouches for.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::page::Kind;
use super::{Meta, Node, Page, PageFile, Place, Purpose, u16_at, u64_at};
use crate::lmdb::LmdbError;

/// Bytes of an `MDB_db`.
pub(super) const DATABASE_SIZE: usize = 48;
/// Levels of a tree; LMDB itself stops at 32.
const MAX_DEPTH: usize = 32;
/// A tree that is empty.
const NO_PAGE: u64 = u64::MAX;
/// Pages at the end of a file that a transaction has taken and given back are never written; more than these, and as many
/// again as the file has, are no such pages.
const NEVER_WRITTEN: u64 = 1 << 20;

/// What LMDB notes of a database.
pub(crate) struct Database {
    flags: u16,
    pub(crate) entries: u64,
    root: u64,
}

/// How keys of a tree are ordered, and what its values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tree {
    /// Keys are numbers of transactions, values lists of free pages.
    Free,
    /// Values may be databases.
    Main,
    /// Values are values.
    Named,
}

/// Where the keys of a page must lie.
#[derive(Clone, Copy)]
struct Span<'k> {
    /// The least one; empty if there is no bound.
    from: &'k [u8],
    below: Option<&'k [u8]>,
}

struct Walk<'a> {
    file: &'a PageFile,
    meta: &'a Meta,
    purpose: Purpose,
    /// Pages that were read: none is read twice, whatever leads to it.
    seen: HashSet<u64>,
    /// First page of everything that is in use, and the one behind it.
    used: Vec<(u64, u64)>,
    /// Pages that are listed as free.
    free: Vec<u64>,
}

/// One tree as far as it is walked.
struct Progress {
    tree: Tree,
    entries: u64,
    /// All leaves of a tree are as deep.
    leaf_depth: Option<usize>,
}

/// Walks a file's trees.
pub(super) fn check(file: &PageFile, meta: &Meta, purpose: Purpose) -> Result<(), LmdbError> {
    let (seen, used, free) = (HashSet::new(), Vec::new(), Vec::new());
    let mut walk = Walk { file, meta, purpose, seen, used, free };
    walk.database(&meta.main, Tree::Main, 0)?;
    if purpose == Purpose::Writing {
        if meta.last_page / 2 > file.pages.saturating_add(NEVER_WRITTEN) {
            return Err(walk.damaged(0, "it says that the file has many more pages than it has"));
        }
        walk.database(&meta.free, Tree::Free, 0)?;
    }
    walk.no_page_has_two_uses()
}

impl Database {
    pub(crate) fn read(bytes: &[u8]) -> Option<Database> {
        (bytes.len() == DATABASE_SIZE).then_some(())?;
        let (flags, entries, root) = (u16_at(bytes, 4)?, u64_at(bytes, 32)?, u64_at(bytes, 40)?);
        Some(Database { flags, entries, root })
    }

    /// Its root page, unless it is empty.
    pub(crate) fn root(&self) -> Option<u64> {
        (self.root != NO_PAGE).then_some(self.root)
    }
}

impl Tree {
    fn order(self, one: &[u8], other: &[u8]) -> Ordering {
        match self {
            Tree::Free => u64_at(one, 0).cmp(&u64_at(other, 0)),
            Tree::Main | Tree::Named => one.cmp(other),
        }
    }

    fn may_have(self, key: &[u8]) -> bool {
        self != Tree::Free || key.len() == size_of::<u64>()
    }
}

impl Span<'_> {
    fn holds(self, key: &[u8], tree: Tree) -> bool {
        (self.from.is_empty() || tree.order(self.from, key).is_le())
            && self.below.is_none_or(|below| tree.order(key, below).is_lt())
    }
}

impl Walk<'_> {
    fn damaged(&self, page: u64, what: &'static str) -> LmdbError {
        LmdbError::Damaged { path: self.file.path.clone(), page, what }
    }

    /// Refuses pages that are not there.
    fn check_inside(&self, from: u64, first: u64, count: u64) -> Result<(), LmdbError> {
        let end = first.checked_add(count).filter(|_| first > 1);
        let end = end.filter(|&end| end <= self.meta.last_page.saturating_add(1));
        let end = end.ok_or_else(|| self.damaged(from, "it leads to pages outside the file"))?;
        if end <= self.file.pages {
            return Ok(());
        }
        Err(LmdbError::Truncated {
            path: self.file.path.clone(),
            expected: end.saturating_mul(self.file.page_size as u64),
            found: self.file.length(),
        })
    }

    /// A database that is described in a page.
    fn database(&mut self, database: &Database, tree: Tree, page: u64) -> Result<(), LmdbError> {
        let mut progress = Progress { tree, entries: 0, leaf_depth: None };
        if let Some(root) = database.root() {
            let span = Span { from: &[], below: None };
            self.page(&mut progress, root, page, 0, span)?;
        }
        if progress.entries == database.entries {
            return Ok(());
        }
        Err(self.damaged(page, "a database has not as many entries as it says"))
    }

    /// A page of a tree, to which another leads.
    fn page(
        &mut self,
        progress: &mut Progress,
        number: u64,
        from: u64,
        depth: usize,
        span: Span,
    ) -> Result<(), LmdbError> {
        let damaged =
            |what| LmdbError::Damaged { path: self.file.path.clone(), page: number, what };
        self.check_inside(from, number, 1)?;
        if depth >= MAX_DEPTH {
            return Err(damaged("it lies deeper than a tree can be"));
        }
        if !self.seen.insert(number) {
            return Err(damaged("it is in two places of a tree"));
        }
        self.used.push((number, number + 1));
        let bytes = self.file.page(number).map_err(LmdbError::io(&self.file.path))?;
        let page = Page::new(&bytes);
        let entries = page.entries().ok_or_else(|| damaged("its entries are malformed"))?;
        let kind = page.kind(number);
        if let Some(kind) = kind
            && self.purpose == Purpose::Writing
            && !page.is_packed(kind)
        {
            return Err(damaged("its entries overlap or leave gaps"));
        }
        match kind {
            // LMDB takes a branch page's second entry for granted.
            Some(Kind::Branch) if entries >= 2 => {
                self.branch(progress, number, page, entries, depth, span)
            }
            Some(Kind::Leaf) if entries >= 1 => {
                if *progress.leaf_depth.get_or_insert(depth) != depth {
                    return Err(damaged("it is a leaf, but not as deep as the others"));
                }
                progress.entries += entries as u64;
                self.leaf(progress.tree, number, page, entries, span)
            }
            Some(Kind::Branch | Kind::Leaf) => Err(damaged("it is empty")),
            _ => Err(damaged("it is no page of a tree, or has another number")),
        }
    }

    fn branch(
        &mut self,
        progress: &mut Progress,
        number: u64,
        page: Page,
        entries: usize,
        depth: usize,
        span: Span,
    ) -> Result<(), LmdbError> {
        let tree = progress.tree;
        let node = |index: usize| page.branch_node(index);
        // One after the other, pages that are not in memory would each cost the disk's full delay.
        let children = (0..entries).filter_map(&node);
        children.for_each(|(_, child)| self.file.will_read(child));
        let malformed = || self.damaged(number, "its entries are malformed");
        let (_, first) = node(0).ok_or_else(malformed)?;
        let (mut from, mut child) = (span.from, first);
        for index in 1..entries {
            let (key, next) =
                node(index).ok_or_else(|| self.damaged(number, "its entries are malformed"))?;
            let in_order = tree.may_have(key)
                && !key.is_empty()
                && span.holds(key, tree)
                && (from.is_empty() || tree.order(from, key).is_lt());
            if !in_order {
                return Err(self.damaged(number, "its keys are not in order"));
            }
            self.page(progress, child, number, depth + 1, Span { from, below: Some(key) })?;
            (from, child) = (key, next);
        }
        self.page(progress, child, number, depth + 1, Span { from, below: span.below })
    }

    fn leaf(
        &mut self,
        tree: Tree,
        number: u64,
        page: Page,
        entries: usize,
        span: Span,
    ) -> Result<(), LmdbError> {
        let mut last: &[u8] = &[];
        for index in 0..entries {
            let node = page
                .leaf_node(index)
                .ok_or_else(|| self.damaged(number, "its entries are malformed"))?;
            let in_order = tree.may_have(node.key)
                && span.holds(node.key, tree)
                && (last.is_empty() || tree.order(last, node.key).is_lt());
            if !in_order {
                return Err(self.damaged(number, "its keys are not in order"));
            }
            last = node.key;
            self.node(tree, number, &node)?;
        }
        Ok(())
    }

    fn node(&mut self, tree: Tree, leaf: u64, node: &Node) -> Result<(), LmdbError> {
        match node.value {
            Place::Inline(bytes) if node.is_database => {
                // Flags of a database change how LMDB reads its pages; those of known writers have none.
                let database = Database::read(bytes)
                    .filter(|database| database.flags == 0 && tree == Tree::Main);
                let malformed = || self.damaged(leaf, "a database in it is malformed");
                let database = database.ok_or_else(malformed)?;
                self.database(&database, Tree::Named, leaf)
            }
            Place::Inline(bytes) if tree == Tree::Free => self.free_pages(leaf, node.key, bytes),
            Place::Inline(_) => Ok(()),
            Place::Overflow { page, size } => self.value(tree, leaf, node, page, size),
        }
    }

    /// A value on pages of its own.
    fn value(
        &mut self,
        tree: Tree,
        leaf: u64,
        node: &Node,
        page: u64,
        size: usize,
    ) -> Result<(), LmdbError> {
        let mut count = (super::PAGE_HEADER + size).div_ceil(self.file.page_size) as u64;
        self.check_inside(leaf, page, count)?;
        if self.purpose == Purpose::Writing {
            // LMDB copies and gives back as many pages as the first of them says: more than needed, once a shorter value
            // has taken the place of a longer one.
            let header = self.file.header(page).map_err(LmdbError::io(&self.file.path))?;
            count = match Page::new(&header).kind(page) {
                Some(Kind::Value(says)) if u64::from(says) >= count => says.into(),
                _ => return Err(self.damaged(page, "the value on it is not where it should be")),
            };
            self.check_inside(leaf, page, count)?;
        }
        self.used.push((page, page + count));
        if tree != Tree::Free {
            return Ok(());
        }
        if (page..page + count).any(|page| !self.seen.insert(page)) {
            return Err(self.damaged(page, "it has two uses"));
        }
        let bytes = self.file.value(&node.value).map_err(LmdbError::io(&self.file.path))?;
        self.free_pages(leaf, node.key, &bytes)
    }

    /// A list of the pages that a transaction has set free: their number, then each, the last page first.
    fn free_pages(&mut self, leaf: u64, key: &[u8], bytes: &[u8]) -> Result<(), LmdbError> {
        let malformed = || self.damaged(leaf, "a list of free pages in it is malformed");
        let count = u64_at(bytes, 0).ok_or_else(malformed)?;
        let listed = usize::try_from(count).ok().and_then(|count| count.checked_mul(8));
        let listed =
            listed.and_then(|length| bytes.get(8..)?.get(..length)).ok_or_else(malformed)?;
        let earlier = u64_at(key, 0).is_some_and(|number| number <= self.meta.transaction);
        let mut below = self.meta.last_page.saturating_add(1);
        let mut pages = listed.chunks_exact(8).filter_map(|page| u64_at(page, 0));
        let in_order = pages.all(|page| (2..std::mem::replace(&mut below, page)).contains(&page));
        if !earlier || !in_order {
            return Err(malformed());
        }
        self.free.extend(listed.chunks_exact(8).filter_map(|page| u64_at(page, 0)));
        Ok(())
    }

    fn no_page_has_two_uses(mut self) -> Result<(), LmdbError> {
        self.used.sort_unstable();
        self.free.sort_unstable();
        let overlap = self.used.windows(2).find(|pair| pair[0].1 > pair[1].0);
        if let Some(pair) = overlap {
            return Err(self.damaged(pair[1].0, "it has two uses"));
        }
        if let Some(pair) = self.free.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(self.damaged(pair[0], "it is listed as free twice"));
        }
        let is_used = |page: &&u64| {
            let behind = self.used.partition_point(|(first, _)| first <= *page);
            behind > 0 && self.used[behind - 1].1 > **page
        };
        match self.free.iter().find(is_used) {
            Some(&page) => Err(self.damaged(page, "it is in use, but listed as free")),
            None => Ok(()),
        }
    }
}
