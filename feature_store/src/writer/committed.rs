//! The images of a store that is being written that are committed, for the thread that decodes.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use heed::Database;
use heed::types::{Bytes, Str};

use super::{check_id, failed};
use crate::lmdb::{self, Env};
use crate::record::RecordView;
use crate::{Regions, StoreError};

/// Reads the images that are committed. The map moves when it grows: whoever reads it holds `mapped` meanwhile.
pub(crate) struct Committed {
    pub(super) env: Env,
    pub(super) regions: Database<Str, Bytes>,
    pub(super) mapped: Arc<RwLock<()>>,
    pub(super) target: PathBuf,
}

impl Committed {
    /// Whether an image is committed.
    pub(crate) fn contains(&self, id: &str) -> Result<bool, StoreError> {
        check_id(id)?;
        let _mapped = self.mapped.read().unwrap_or_else(PoisonError::into_inner);
        let transaction = self.env.read_txn().map_err(|e| failed(&self.target, e))?;
        Ok(self.regions.get(&transaction, id).map_err(|e| failed(&self.target, e))?.is_some())
    }

    /// A committed image's regions, as they are stored; `None` if it is not committed, or never can be.
    pub(crate) fn get(&self, id: &str) -> Result<Option<Regions>, StoreError> {
        if check_id(id).is_err() {
            return Ok(None);
        }
        let _mapped = self.mapped.read().unwrap_or_else(PoisonError::into_inner);
        let transaction = self.env.read_txn().map_err(|e| failed(&self.target, e))?;
        let found = self.regions.get(&transaction, id).map_err(|e| failed(&self.target, e))?;
        let Some(bytes) = found else { return Ok(None) };
        lmdb::will_need(bytes);
        let damaged =
            |what| StoreError::Damaged { path: self.target.clone(), key: id.to_owned(), what };
        let regions = RecordView::parse(bytes).map_err(damaged)?.to_regions();
        lmdb::not_needed(bytes);
        Ok(Some(regions))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use crate::{Regions, StoreWriter, WriterOptions};

    /// Without `mapped` this ends in a segmentation fault.
    #[test]
    fn ids_are_looked_up_while_the_map_grows() {
        let folder = tempfile::tempdir().unwrap();
        let regions = Regions {
            width: 8,
            height: 8,
            boxes: vec![[0.0, 0.0, 8.0, 8.0]],
            features: vec![1.0; 4096],
            dim: 4096,
            ..Regions::default()
        };
        let options = WriterOptions { transaction_bytes: 1 << 17, ..WriterOptions::default() };
        let mut writer = StoreWriter::create(&folder.path().join("store"), options).unwrap();
        let ids = writer.committed_images();
        let first = writer.env.info().map_size;
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut found = false;
                while !done.load(Ordering::Relaxed) {
                    let there = ids.contains("0").unwrap();
                    assert!(there || !found, "a committed image is gone");
                    found = there;
                }
                assert!(found);
            });
            for image in 0..2000 {
                writer.append(&image.to_string(), &regions).unwrap();
            }
            writer.commit().unwrap();
            done.store(true, Ordering::Relaxed);
        });
        assert!(writer.env.info().map_size >= first << 6, "the map has not grown often");
        drop(ids);
        assert_eq!(writer.finish().unwrap().count, 2000);
    }
}
