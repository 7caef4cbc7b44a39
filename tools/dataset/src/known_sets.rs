//! What ImageCoDe's annotation files leave out: which frames of a video a set has, and, the other way round, which set
//! an image id is of.

use std::collections::HashMap;

use super::{PictureTree, SET_SIZE, id_prefix, image_id, is_static, set_images};
use feature_store::{FeatureStore, StoreError};

/// Sets and their images, as far as pictures, a store or other annotation files tell.
#[derive(Debug, Default)]
pub struct KnownSets {
    pictures: Option<PictureTree>,
    store: Option<FeatureStore>,
    /// What the ids of a set's images begin with, and its directory.
    directories: HashMap<String, String>,
}

impl KnownSets {
    /// Nothing but the rule: the images of sets of photographs are numbered 0 to 9.
    pub fn new() -> KnownSets {
        KnownSets::default()
    }

    /// Takes sets and images from a tree of pictures.
    pub fn with_pictures(mut self, pictures: PictureTree) -> KnownSets {
        self = self.with_directories(pictures.sets().map(str::to_owned).collect::<Vec<_>>());
        self.pictures = Some(pictures);
        self
    }

    /// Takes images from a store; pictures come first, if there are any.
    pub fn with_store(mut self, store: FeatureStore) -> KnownSets {
        self.store = Some(store);
        self
    }

    /// Takes names of sets.
    pub fn with_directories(mut self, directories: impl IntoIterator<Item = String>) -> KnownSets {
        self.directories
            .extend(directories.into_iter().map(|directory| (id_prefix(&directory), directory)));
        self
    }

    /// The ids of a set's images in their order, as many as there are; `None` if nothing tells which frames of a video
    /// they are.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(super) fn images(&self, directory: &str) -> Result<Option<Vec<String>>, StoreError> {
        if let Some(pictures) = &self.pictures {
            return Ok(Some(pictures.images(directory)));
        }
        if let Some(store) = &self.store {
            return set_images(store, directory).map(Some);
        }
        let numbered = || (0..SET_SIZE as u64).map(|number| image_id(directory, number)).collect();
        Ok(is_static(directory).then(numbered))
    }

    /// The set whose ids begin so.
    pub(super) fn directory(&self, prefix: &str) -> Option<&str> {
        self.directories.get(prefix).map(String::as_str)
    }
}
