//! Files that are complete or not there.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

/// Writes a file under another name beside its own, and renames it when it is complete. After an error the file is what
/// it was before.
///
/// # Errors
/// If it cannot be written, or is there and no regular file.
pub fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    if path.exists() && !path.is_file() {
        // Renaming would put a file in place of a device or a folder.
        return Err(io::Error::other("it is there, and no regular file"));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!(".{name}.partial"));
    let written = (|| {
        let mut out = BufWriter::new(File::create(&partial)?);
        write(&mut out)?;
        out.flush()?;
        std::fs::rename(&partial, path)
    })();
    if written.is_err() {
        // What is half written helps nobody; that it cannot be removed would hide the cause.
        let _ = std::fs::remove_file(&partial);
    }
    written
}
