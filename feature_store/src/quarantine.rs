//! Records that could not be taken, kept aside: `report.jsonl` with key and reason, and a file with the bytes of each whose
//! source has them at hand.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::StoreError;
use crate::formats::RecordError;

/// A folder of bad records; without one it is not made.
pub(crate) struct Quarantine {
    folder: PathBuf,
    report: Option<Report>,
}

/// `report.jsonl`, and hashes of its lines.
struct Report {
    file: File,
    lines: HashSet<u64>,
}

impl Quarantine {
    /// Names a folder; what is in it stays.
    pub(crate) fn new(folder: &Path) -> Quarantine {
        Quarantine { folder: folder.to_owned(), report: None }
    }

    /// Keeps a record. Its file is named after its contents and its line is written once, so that keeping it again
    /// changes nothing.
    pub(crate) fn keep(&mut self, error: &RecordError) -> Result<(), StoreError> {
        let report = match &mut self.report {
            Some(report) => report,
            none => none.insert(Report::open(&self.folder)?),
        };
        let mut file = None;
        if !error.raw.is_empty() {
            let name = format!("{:016x}.bin", xxh3_64(&error.raw));
            let path = self.folder.join(&name);
            write_beside(&path, &error.raw).map_err(StoreError::io(&path))?;
            file = Some(name);
        }
        let line = serde_json::json!({
            "source": error.path, "key": error.key, "reason": error.reason, "file": file,
        });
        report.add(&line.to_string()).map_err(StoreError::io(&self.folder))
    }
}

/// Writes a file, or over one: neither through a link, which would lead out of the folder, nor into a pipe, which would wait.
fn write_beside(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    let mut file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is there, and no regular file"));
    }
    file.set_len(0)?;
    file.write_all(bytes)
}

impl Report {
    fn open(folder: &Path) -> Result<Report, StoreError> {
        fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
        let path = folder.join("report.jsonl");
        let is_new = path.symlink_metadata().is_err();
        if is_new && fs::read_dir(folder).map_err(StoreError::io(folder))?.next().is_some() {
            let what = "it holds something else than quarantined records; name another folder";
            return Err(StoreError::io(folder)(std::io::Error::other(what)));
        }
        let io = || StoreError::io(&path);
        // A pipe would wait for somebody at its other end, a link lead out of the folder.
        if path.symlink_metadata().is_ok_and(|there| !there.is_file()) {
            return Err(io()(std::io::Error::other("it is there, and no regular file")));
        }
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let mut file = file.map_err(io())?;
        let mut there = String::new();
        file.read_to_string(&mut there).map_err(io())?;
        let mut report =
            Report { file, lines: there.lines().map(|line| xxh3_64(line.as_bytes())).collect() };
        // A killed run may have left half a line.
        if !there.is_empty() && !there.ends_with('\n') {
            writeln!(report.file).map_err(io())?;
        }
        Ok(report)
    }

    fn add(&mut self, line: &str) -> std::io::Result<()> {
        if self.lines.insert(xxh3_64(line.as_bytes())) {
            writeln!(self.file, "{line}")
        } else {
            Ok(())
        }
    }
}
