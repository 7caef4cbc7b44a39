//! Going through a store in the order of its ids.

use std::collections::VecDeque;

use crate::record::{Encoded, RecordView};
use crate::{FeatureStore, StoreError};

/// Steps through a store's ids in their order; records are copied only when asked for.
pub(crate) struct StoreCursor {
    store: FeatureStore,
    page: VecDeque<String>,
    /// Where the next page begins; `None` at the end.
    next: Option<String>,
}

impl StoreCursor {
    const PAGE: usize = 1024;

    pub(crate) fn new(store: &FeatureStore) -> Result<StoreCursor, StoreError> {
        let mut cursor =
            StoreCursor { store: store.clone(), page: VecDeque::new(), next: Some(String::new()) };
        cursor.fill()?;
        Ok(cursor)
    }

    /// The id it stands at; `None` at the end.
    pub(crate) fn head(&self) -> Option<&str> {
        self.page.front().map(String::as_str)
    }

    /// Steps on.
    pub(crate) fn skip(&mut self) -> Result<(), StoreError> {
        self.page.pop_front();
        self.fill()
    }

    /// The record it stands at, as it is; steps on.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for a record whose checksum does not fit: damage is not to spread.
    pub(crate) fn take(&mut self) -> Result<Encoded, StoreError> {
        let id = self.page.front().cloned().unwrap_or_default();
        let bytes = self.store.record_bytes(&id)?;
        let damaged = |what| StoreError::Damaged {
            path: self.store.path().to_owned(),
            key: id.clone(),
            what,
        };
        if !RecordView::parse(&bytes).map_err(damaged)?.is_intact() {
            return Err(damaged("its checksum does not fit"));
        }
        let record = Encoded::copied(bytes, &self.store.schema().rounding).map_err(damaged)?;
        self.skip()?;
        Ok(record)
    }

    fn fill(&mut self) -> Result<(), StoreError> {
        if self.page.is_empty()
            && let Some(start) = self.next.take()
        {
            self.page = self.store.ids_from(&start, Self::PAGE)?.into();
            self.next = self.page.back().map(|last| format!("{last}\0"));
        }
        Ok(())
    }
}
