//! Our own store as a source: to change its precision, to choose from it, to rename, to write it in a foreign format.

use super::{FeatureSource, FormatError, RecordError, Records, SourceInfo, SourceRecord};
use crate::{FeatureStore, Regions};

/// Ids that are listed at a time.
const PAGE: usize = 1024;

/// A finished store as a source.
pub struct StoreSource {
    store: FeatureStore,
    info: SourceInfo,
}

impl StoreSource {
    /// Name of the format.
    pub(crate) const FORMAT: &str = "store";

    /// Takes a store as source.
    ///
    /// # Errors
    /// If its file cannot be looked at.
    pub fn new(store: FeatureStore) -> Result<StoreSource, FormatError> {
        let info = SourceInfo {
            format: StoreSource::FORMAT,
            path: store.path().to_owned(),
            count: Some(store.len()),
            fingerprint: format!("{:016x}-{}", store.schema().digest, store.len()),
        };
        Ok(StoreSource { store, info })
    }
}

impl FeatureSource for StoreSource {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn records(self: Box<Self>) -> Result<Records, FormatError> {
        let store = self.store;
        let mut ids = Vec::new().into_iter();
        let mut start = Some(String::new());
        Ok(Box::new(std::iter::from_fn(move || {
            loop {
                if let Some(id) = ids.next() {
                    let record = StoreRecord { store: store.clone(), id };
                    return Some(Ok(Box::new(record) as Box<dyn SourceRecord>));
                }
                let page = match store.ids_from(&start.take()?, PAGE) {
                    Ok(page) => page,
                    Err(error) => {
                        return Some(Err(RecordError::new(store.path(), "", error)));
                    }
                };
                start = page.last().map(|last| format!("{last}\0"));
                ids = page.into_iter();
            }
        })))
    }
}

struct StoreRecord {
    store: FeatureStore,
    id: String,
}

impl SourceRecord for StoreRecord {
    fn id(&self) -> &str {
        &self.id
    }

    fn size(&self) -> usize {
        let schema = self.store.schema();
        schema.max_regions as usize * schema.dim as usize * 4
    }

    fn stored(&self) -> Option<(&FeatureStore, &str)> {
        Some((&self.store, &self.id))
    }

    fn decode(self: Box<Self>) -> Result<(String, Regions), RecordError> {
        match self.store.get_once(&self.id) {
            Ok(regions) => Ok((self.id, regions)),
            Err(error) => Err(RecordError::new(self.store.path(), self.id, error.reason())),
        }
    }
}
