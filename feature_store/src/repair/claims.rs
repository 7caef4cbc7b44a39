//! Whose values pages are: what lies on a page now may not be what an unused leaf of earlier times says.

use std::collections::{HashMap, HashSet};

use super::index::Index;
use crate::pages::{Page, PageFile, Place};

/// Who leads to a value's first page.
enum Owner {
    /// An entry of an index that is certain.
    Index,
    /// Entries of one image.
    One(String),
    /// Entries of several images.
    Several,
}

/// What is known of values and images before any record is read.
pub(super) struct Claims {
    /// By the first page of a value.
    owners: HashMap<u64, Owner>,
    /// The images that the index names, if all of it is left: there are no others.
    images: Option<HashSet<String>>,
}

impl Claims {
    pub(super) fn of(file: &PageFile, index: &Index) -> Claims {
        let (mut owners, mut images) = (HashMap::new(), HashSet::new());
        for &page in &index.current {
            each_entry(file, page, |id, value| {
                images.insert(id.to_owned());
                if index.is_certain {
                    value.map(|page| owners.insert(page, Owner::Index));
                }
            });
        }
        // An index that was only found may be an earlier one, whose pages are in use again.
        let found = index.current.iter().filter(|_| !index.is_certain);
        for &page in found.chain(&index.others) {
            each_entry(file, page, |id, value| {
                let Some(page) = value else { return };
                let owner = owners.entry(page).or_insert_with(|| Owner::One(id.to_owned()));
                if matches!(owner, Owner::One(other) if other != id) {
                    *owner = Owner::Several;
                }
            });
        }
        let is_whole = index.is_certain && index.entries == Some(images.len() as u64);
        Claims { owners, images: is_whole.then_some(images) }
    }

    /// Whether an entry that the index does not lead to may be one of the store's images, with its own record.
    pub(super) fn may_be(&self, id: &str, value: &Place) -> bool {
        self.images.as_ref().is_none_or(|images| images.contains(id))
            && !matches!(self.owner(value), Some(Owner::Index | Owner::Several))
    }

    /// Whether entries of several images lead to a value, and none of the index.
    pub(super) fn is_contested(&self, value: &Place) -> bool {
        matches!(self.owner(value), Some(Owner::Several))
    }

    fn owner(&self, value: &Place) -> Option<&Owner> {
        self.owners.get(&value.page()?)
    }
}

/// The ids on a leaf, with the first pages of values that are on pages of their own.
fn each_entry(file: &PageFile, page: u64, mut take: impl FnMut(&str, Option<u64>)) {
    let Ok(bytes) = file.page(page) else { return };
    for node in Page::new(&bytes).leaf_nodes().filter(|node| !node.is_database) {
        let Ok(id) = str::from_utf8(node.key) else { continue };
        take(id, node.value.page());
    }
}
