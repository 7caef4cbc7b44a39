//! Lists of its images that a dump carries beside them, compared with what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::{FeatureSource, FormatError, RecordError, Records, SourceInfo, SourceRecord};
use crate::text::visible_id;

/// A list of its images that a dump carries beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// What it is called ("`keys`").
    pub name: String,
    /// The image ids in it, in its order.
    pub ids: Vec<String>,
    /// What becomes of an image that is not in it.
    pub use_of: &'static str,
}

/// A list that is compared with the images while they are read.
struct Comparison {
    name: String,
    use_of: &'static str,
    /// The ids in the list, and whether there was such an image.
    ids: BTreeMap<String, bool>,
    unlisted: BTreeSet<String>,
    /// The ids that the list has more than once.
    repeated: BTreeSet<String>,
}

impl Comparison {
    fn new(Listing { name, ids: listed, use_of }: Listing) -> Comparison {
        let (mut ids, mut repeated) = (BTreeMap::new(), BTreeSet::new());
        for id in listed {
            if ids.insert(id.clone(), false).is_some() {
                repeated.insert(id);
            }
        }
        Comparison { name, use_of, ids, unlisted: BTreeSet::new(), repeated }
    }

    /// Takes an image into account; of one that cannot be read the id may be wrong.
    fn meet(&mut self, id: &str, is_readable: bool) {
        match self.ids.get_mut(id) {
            Some(met) => *met = true,
            None if is_readable => drop(self.unlisted.insert(id.to_owned())),
            None => {}
        }
    }

    /// What is wrong with the dump as a whole, if these were all of its images.
    fn findings(&self) -> impl Iterator<Item = String> {
        let Comparison { name, use_of, ids, unlisted, repeated } = self;
        let missing = some(ids.iter().filter(|(_, met)| !**met).map(|(id, _)| id));
        let missing = missing.map(|some| format!("{name} names {some}, not there"));
        let unlisted = some(unlisted.iter());
        let unlisted = unlisted.map(|some| format!("{name} does not name {some}: {use_of}"));
        let repeated = some(repeated.iter());
        let repeated = repeated.map(|some| format!("{name} names {some}, more than once"));
        missing.into_iter().chain(unlisted).chain(repeated)
    }
}

/// How many images there are, and the first of them.
fn some<'a>(mut ids: impl Iterator<Item = &'a String>) -> Option<String> {
    let first = visible_id(ids.next()?);
    Some(match ids.count() {
        0 => format!("the image `{first}`"),
        more => format!("{} images, `{first}` first", more + 1),
    })
}

/// All lists of a dump, compared with its images while they are read.
#[derive(Clone, Default)]
pub struct Listings(Arc<Mutex<Compared>>);

#[derive(Default)]
struct Compared {
    /// Why a list cannot be read.
    unreadable: Vec<String>,
    comparisons: Vec<Comparison>,
    /// Whether all images have been met.
    whole: bool,
}

impl Listings {
    /// The lists of a source, and the source that is to be read instead of it.
    pub fn watch(source: Box<dyn FeatureSource>) -> (Box<dyn FeatureSource>, Listings) {
        let mut compared = Compared::default();
        for listing in source.listings() {
            match listing {
                Ok(listing) => compared.comparisons.push(Comparison::new(listing)),
                Err(what) => compared.unreadable.push(what),
            }
        }
        if compared.comparisons.is_empty() {
            compared.whole = true;
            return (source, Listings(Arc::new(Mutex::new(compared))));
        }
        let listings = Listings(Arc::new(Mutex::new(compared)));
        (Box::new(Watched { source, listings: listings.clone() }), listings)
    }

    /// What is wrong with them; before the source was read to its end, only what keeps them from being read.
    pub fn findings(&self) -> Vec<String> {
        let compared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let compared_with = compared.comparisons.iter().filter(|_| compared.whole);
        let found = compared_with.flat_map(Comparison::findings);
        compared.unreadable.iter().cloned().chain(found).collect()
    }

    fn meet(&self, record: Option<&Result<Box<dyn SourceRecord>, RecordError>>) {
        let mut compared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, is_readable) = match record {
            Some(Ok(record)) => (record.id(), true),
            Some(Err(error)) => (error.key.as_str(), false),
            None => return compared.whole = true,
        };
        compared.comparisons.iter_mut().for_each(|list| list.meet(id, is_readable));
    }
}

struct Watched {
    source: Box<dyn FeatureSource>,
    listings: Listings,
}

impl FeatureSource for Watched {
    fn info(&self) -> &SourceInfo {
        self.source.info()
    }

    fn records(self: Box<Self>) -> Result<Records, FormatError> {
        let Watched { source, listings } = *self;
        let mut records = source.records()?;
        Ok(Box::new(std::iter::from_fn(move || {
            let record = records.next();
            listings.meet(record.as_ref());
            record
        })))
    }
}
