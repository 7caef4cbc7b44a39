//! Boxes that are given instead of proposed: from a store, or from a JSON file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use feature_store::{FeatureStore, StoreError, text};

/// Boxes that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BoxesError {
    /// The file.
    #[error(
        "{path}: {reason}; boxes come from a store, or from JSON: {{\"ID\": [[x1, y1, x2, y2], …], …}}"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Boxes of pictures by id, in pixels of the upright picture.
pub enum Boxes {
    /// Those of a feature store, whatever made it.
    Store(FeatureStore),
    /// Those of a JSON file.
    Listed(HashMap<String, Vec<[f32; 4]>>),
}

impl Boxes {
    /// Opens a store (a directory) or a JSON file.
    ///
    /// # Errors
    /// [`BoxesError`].
    pub fn open(path: &Path) -> Result<Boxes, BoxesError> {
        if path.is_dir() {
            return Ok(Boxes::Store(FeatureStore::open(path)?));
        }
        let file = |reason: String| BoxesError::File { path: path.to_owned(), reason };
        let json = text::read(path).map_err(|error| file(error.to_string()))?;
        serde_json::from_slice(&json).map(Boxes::Listed).map_err(|error| file(error.to_string()))
    }

    /// A picture's boxes, or why there are none.
    pub fn of(&self, id: &str) -> Result<Vec<[f32; 4]>, String> {
        match self {
            Boxes::Listed(listed) => {
                listed.get(id).cloned().ok_or_else(|| "no boxes are given for it".to_owned())
            }
            Boxes::Store(store) => {
                let regions = store.get(id).map_err(|error| error.to_string())?;
                if regions.is_relative() {
                    return Err("its boxes are relative to an image of unknown size".to_owned());
                }
                Ok(regions.boxes)
            }
        }
    }
}
