//! Lists of its images that a dump carries beside them, compared with what is there.

use std::collections::BTreeSet;

/// A list of its images that a dump carries beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// What it is called ("`keys`").
    pub name: String,
    /// The image ids in it.
    pub ids: BTreeSet<String>,
    /// What becomes of an image that is not in it.
    pub use_of: &'static str,
}

impl Listing {
    /// What is wrong with the dump as a whole, if its images are these.
    pub(crate) fn findings(&self, there: &BTreeSet<String>) -> Vec<String> {
        let Listing { name, ids, use_of } = self;
        let missing =
            some(ids.difference(there)).map(|some| format!("{name} names {some}, not there"));
        let unlisted = some(there.difference(ids))
            .map(|some| format!("{name} does not name {some}: {use_of}"));
        missing.into_iter().chain(unlisted).collect()
    }
}

/// How many images there are, and the first of them.
fn some<'a>(mut ids: impl Iterator<Item = &'a String>) -> Option<String> {
    let first = ids.next()?;
    Some(match ids.count() {
        0 => format!("the image `{first}`"),
        more => format!("{} images, `{first}` first", more + 1),
    })
}
