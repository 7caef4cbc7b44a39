//! Records that could not be read, kept aside: `report.jsonl` with key and reason, and a file with the bytes of each.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::StoreError;
use crate::formats::RecordError;

/// A folder of bad records.
pub(crate) struct Quarantine {
    folder: PathBuf,
    report: File,
}

impl Quarantine {
    /// Opens a folder, made if need be; what is in it stays.
    pub(crate) fn open(folder: &Path) -> Result<Quarantine, StoreError> {
        fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
        let path = folder.join("report.jsonl");
        let report = OpenOptions::new().create(true).append(true).open(&path);
        Ok(Quarantine { folder: folder.to_owned(), report: report.map_err(StoreError::io(&path))? })
    }

    /// Keeps a record. Its file is named after its contents, so that keeping it twice changes nothing.
    pub(crate) fn keep(&mut self, error: &RecordError) -> Result<(), StoreError> {
        let mut file = None;
        if !error.raw.is_empty() {
            let name = format!("{:016x}.bin", xxhash_rust::xxh3::xxh3_64(&error.raw));
            let path = self.folder.join(&name);
            fs::write(&path, &error.raw).map_err(StoreError::io(&path))?;
            file = Some(name);
        }
        let line = serde_json::json!({
            "source": error.path, "key": error.key, "reason": error.reason, "file": file,
        });
        writeln!(self.report, "{line}").map_err(StoreError::io(&self.folder))
    }
}
