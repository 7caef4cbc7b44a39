//! What is left of a damaged store's index: which pages hold its records as they last were, and which others may hold
//! records, too.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::pages::{self, Database, Kind, Meta, Page, PageFile, Place};
use crate::store::{META, REGIONS, SCHEMA, decode_schema};
use crate::{Schema, StoreError};

/// Levels of a tree that are followed; LMDB's have fewer.
const MAX_DEPTH: usize = 32;

/// A damaged store's pages.
pub(super) struct Index {
    /// What the store says of itself, if that is left.
    pub(super) schema: Option<Schema>,
    /// Whether this is certainly the index as it was last: the pages that lead to it are sound.
    pub(super) is_certain: bool,
    /// Leaves of the tree of records, as far as it can be followed, in the order of ids.
    pub(super) current: Vec<u64>,
    /// Images in that tree, if that is known.
    pub(super) entries: Option<u64>,
    /// Other leaves: unused ones of earlier transactions, and those that a damaged page led to. Pages that are known to be
    /// free come last, and of each kind the last page first.
    pub(super) others: Vec<u64>,
}

/// A page that names the databases of a store, and what is left of them.
struct Root {
    page: u64,
    regions: Database,
    schema: Option<Schema>,
    /// Pages of the tree that holds the schema.
    pages: Vec<u64>,
}

impl Index {
    /// Looks at all pages; `None` comes back if `cancelled` was set.
    pub(super) fn find(
        damaged: &Path,
        data: &File,
        file: &PageFile,
        cancelled: &AtomicBool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Option<Index>, StoreError> {
        let mut leaves = Vec::new();
        for number in 2..file.pages() {
            if cancelled.load(Ordering::Relaxed) {
                return Ok(None);
            }
            progress(number);
            let header = file.header(number);
            if header.is_ok_and(|header| Page::new(&header).kind(number) == Some(Kind::Leaf)) {
                leaves.push(number);
            }
        }
        // LMDB keeps the last two states; the other one's pages may be in use again.
        let metas = pages::metas(data);
        let is_whole = metas.iter().all(Option::is_some);
        let newest = metas.into_iter().flatten().max_by_key(|meta| meta.transaction);
        let newest = newest.filter(|_| is_whole);
        let told = newest.as_ref().and_then(|meta| meta.main.root());
        let told = told.and_then(|page| Root::read(damaged, file, page));
        let is_certain = told.is_some();
        // Without them the pages that name the databases are looked for; those of earlier transactions are there, too.
        let root = told.or_else(|| {
            let found = leaves.iter().filter_map(|&page| Root::read(damaged, file, page));
            found.max_by_key(|root| (age(root.schema.as_ref()), root.page))
        });
        let mut index = Index::of(file, &leaves, root, newest);
        index.is_certain = is_certain;
        if index.schema.is_none() {
            let found = leaves.iter().filter_map(|&page| schema_on(damaged, file, page));
            index.schema = found.max_by_key(|schema| age(Some(schema)));
        }
        Ok(Some(index))
    }

    fn of(file: &PageFile, leaves: &[u64], root: Option<Root>, meta: Option<Meta>) -> Index {
        let (mut of_trees, mut free) = (HashSet::new(), HashSet::new());
        if let Some(root) = meta.and_then(|meta| meta.free.root()) {
            let pages = leaves_below(file, root);
            pages.iter().for_each(|&page| free.extend(free_pages(file, page)));
            of_trees.extend(pages);
        }
        let mut index = Index {
            schema: None,
            is_certain: false,
            current: Vec::new(),
            entries: None,
            others: Vec::new(),
        };
        if let Some(root) = root {
            index.current = root.regions.root().map_or_else(Vec::new, |r| leaves_below(file, r));
            (index.schema, index.entries) = (root.schema, Some(root.regions.entries));
            of_trees.insert(root.page);
            of_trees.extend(root.pages);
        }
        of_trees.extend(&index.current);
        index.others = leaves.iter().copied().filter(|page| !of_trees.contains(page)).collect();
        index.others.sort_by_key(|page| (free.contains(page), std::cmp::Reverse(*page)));
        index
    }
}

impl Root {
    /// Reads the page if it names the databases of a store.
    fn read(damaged: &Path, file: &PageFile, page: u64) -> Option<Root> {
        let bytes = file.page(page).ok()?;
        let database = |name: &str| {
            let mut nodes = Page::new(&bytes).leaf_nodes();
            match nodes.find(|node| node.is_database && node.key == name.as_bytes())?.value {
                Place::Inline(bytes) => Database::read(bytes),
                Place::Overflow { .. } => None,
            }
        };
        let (regions, meta) = (database(REGIONS)?, database(META)?);
        let pages = meta.root().map_or_else(Vec::new, |root| leaves_below(file, root));
        let schema = pages.iter().find_map(|&page| schema_on(damaged, file, page));
        Some(Root { page, regions, schema, pages })
    }
}

/// Grows with each transaction: images are only ever added, an append adds to where they come from, and the last transaction
/// of each completes the store.
fn age(schema: Option<&Schema>) -> (u64, usize, bool) {
    schema.map_or((0, 0, false), |schema| {
        (schema.count, schema.provenance.source_format.len(), schema.complete)
    })
}

fn schema_on(damaged: &Path, file: &PageFile, page: u64) -> Option<Schema> {
    let bytes = file.page(page).ok()?;
    let mut nodes = Page::new(&bytes).leaf_nodes();
    let value = nodes.find(|node| node.key == SCHEMA.as_bytes())?.value;
    decode_schema(damaged, &file.value(&value).ok()?).ok()
}

/// The leaves of a tree as far as it can be followed, in their order.
fn leaves_below(file: &PageFile, root: u64) -> Vec<u64> {
    let (mut leaves, mut seen) = (Vec::new(), HashSet::new());
    let mut ahead = vec![(root, 0, None::<Vec<u8>>)];
    while let Some((number, depth, from)) = ahead.pop() {
        if depth >= MAX_DEPTH || !seen.insert(number) {
            continue;
        }
        let Ok(bytes) = file.page(number) else { continue };
        let page = Page::new(&bytes);
        match page.kind(number) {
            Some(Kind::Branch) => {
                let nodes = (0..page.entries().unwrap_or(0)).rev();
                let nodes = nodes.filter_map(|index| Some((index, page.branch_node(index)?)));
                ahead.extend(nodes.map(|(index, (key, child))| {
                    let from = if index == 0 { from.clone() } else { Some(key.to_vec()) };
                    (child, depth + 1, from)
                }));
            }
            // A damaged number may lead to a page of anything: of this tree it is only if it begins where it should.
            Some(Kind::Leaf) => {
                let first = page.leaf_node(0);
                let begins = |from: &Vec<u8>| first.is_some_and(|node| node.key >= from.as_slice());
                if from.as_ref().is_none_or(begins) {
                    leaves.push(number);
                }
            }
            _ => {}
        }
    }
    leaves
}

/// The pages that a leaf of the tree of free pages lists.
fn free_pages(file: &PageFile, leaf: u64) -> Vec<u64> {
    let Ok(bytes) = file.page(leaf) else { return Vec::new() };
    let lists = Page::new(&bytes).leaf_nodes().filter_map(|node| file.value(&node.value).ok());
    let numbers = |list: Vec<u8>| {
        let pages = list
            .chunks_exact(8)
            .skip(1)
            .map(|page| u64::from_le_bytes(std::array::from_fn(|i| page[i])));
        pages.collect::<Vec<_>>()
    };
    lists.flat_map(numbers).collect()
}
