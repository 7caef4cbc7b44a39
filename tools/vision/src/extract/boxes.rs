//! Boxes that are given instead of proposed: from a store, or from a JSON file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::path::{Path, PathBuf};

use feature_store::{FeatureStore, StoreError, text};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

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
        let listed: Result<Listed, _> = serde_json::from_slice(&json);
        listed.map(|Listed(boxes)| Boxes::Listed(boxes)).map_err(|error| file(error.to_string()))
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

/// Boxes by id, each id once: JSON itself would let the last one count.
struct Listed(HashMap<String, Vec<[f32; 4]>>);

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Listed, D::Error> {
        deserializer.deserialize_map(ById)
    }
}

struct ById;

impl<'de> Visitor<'de> for ById {
    type Value = Listed;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("boxes by id")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Listed, A::Error> {
        let mut listed = HashMap::new();
        while let Some((id, boxes)) = access.next_entry::<String, _>()? {
            match listed.entry(id) {
                Entry::Vacant(place) => _ = place.insert(boxes),
                Entry::Occupied(there) => {
                    let id = text::visible(there.key());
                    return Err(A::Error::custom(format!("it gives boxes of `{id}` twice")));
                }
            }
        }
        Ok(Listed(listed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_boxes_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let opened = |json: &str| {
            std::fs::write(file.path(), json).unwrap();
            Boxes::open(file.path())
        };
        let boxes = opened(r#"{"a": [[1, 2, 3, 4]], "b": []}"#).unwrap();
        assert_eq!(boxes.of("a").unwrap(), [[1.0, 2.0, 3.0, 4.0]]);
        assert!(boxes.of("c").is_err());
        let said = opened(r#"{"a": [[1, 2, 3, 4]], "a": []}"#).err().unwrap().to_string();
        assert!(said.contains("`a` twice"), "{said}");
        assert!(opened("[]").err().unwrap().to_string().contains("boxes by id"));
    }
}
