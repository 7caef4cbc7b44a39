//! What a command reads: a store, or a dump in another format.

use std::path::Path;

use super::{FeatureSource, FormatError, StoreSource, open};
use crate::FeatureStore;

/// What a path leads to.
pub enum Input {
    /// A store, in which images are looked up.
    Store(FeatureStore),
    /// A dump, which is read from its beginning to its end.
    Dump(Box<dyn FeatureSource>),
}

impl Input {
    /// Opens either, its format found from its content.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(path: &Path) -> Result<Input, FormatError> {
        let source = open(path)?;
        if source.info().format != StoreSource::FORMAT {
            return Ok(Input::Dump(source));
        }
        // Named by its data.mdb, it is the directory that is meant.
        Ok(Input::Store(FeatureStore::open(&source.info().path)?))
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        match self {
            Input::Store(store) => store.path(),
            Input::Dump(source) => &source.info().path,
        }
    }

    /// Number of images, if it is known without reading them.
    pub fn count(&self) -> Option<u64> {
        match self {
            Input::Store(store) => Some(store.len()),
            Input::Dump(source) => source.info().count,
        }
    }

    /// The store, if it is one.
    pub fn as_store(&self) -> Option<&FeatureStore> {
        match self {
            Input::Store(store) => Some(store),
            Input::Dump(_) => None,
        }
    }

    /// Either as something that is read from its beginning to its end.
    ///
    /// # Errors
    /// If a store's file cannot be looked at.
    pub fn into_source(self) -> Result<Box<dyn FeatureSource>, FormatError> {
        match self {
            Input::Store(store) => Ok(Box::new(StoreSource::new(store)?)),
            Input::Dump(source) => Ok(source),
        }
    }
}

impl From<FeatureStore> for Input {
    fn from(store: FeatureStore) -> Input {
        Input::Store(store)
    }
}
