//! Pictures in a zip or tar archive, which is never unpacked.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;

use zip::ZipArchive;

use super::pictures::{Found, PicturesError, Place, is_picture};
use crate::image::{ImageFault, Limits};

/// Bytes that headers of a tar and what fills its files up are multiples of.
const TAR_BLOCK: u64 = 512;

/// The archive that the pictures are in, if they are in one. Reading is serial, decoding is not.
pub(super) enum Archive {
    None,
    Zip(Mutex<ZipArchive<File>>),
    Tar(Mutex<File>),
}

/// Lists the pictures of a zip.
///
/// # Errors
/// [`PicturesError::Malformed`].
pub(super) fn in_zip(path: &Path, file: File) -> Result<(Vec<Found>, Archive), PicturesError> {
    let io = |source| PicturesError::Io { path: path.to_owned(), source };
    let directory = file.try_clone().map_err(io)?;
    let zip = ZipArchive::new(file).map_err(|error| PicturesError::Malformed {
        path: path.to_owned(),
        what: format!("truncated or damaged: {error}"),
    })?;
    if let Some(name) = repeated_picture(&directory, zip.central_directory_start()).map_err(io)? {
        return Err(PicturesError::Twice(format!("{}/{name}", path.display())));
    }
    let mut found = Vec::new();
    for index in 0..zip.len() {
        let Some(Ok(name)) = zip.name_for_index(index) else { continue };
        if is_picture(&name) {
            found.push((name.into_owned(), None, Place::Zip(index)));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((found, Archive::Zip(Mutex::new(zip))))
}

/// Bytes of a header in a zip's directory, and where it has the lengths of what follows it.
const ZIP_HEADER: usize = 46;
const ZIP_LENGTHS: usize = 28;

/// A picture that a zip's directory has twice: the library would pass over all but the last.
fn repeated_picture(zip: &File, directory: u64) -> io::Result<Option<String>> {
    let mut reader = BufReader::new(zip);
    reader.seek(SeekFrom::Start(directory))?;
    let (mut header, mut names) = ([0; ZIP_HEADER], HashSet::new());
    loop {
        match reader.read_exact(&mut header) {
            Ok(()) if header.starts_with(b"PK\x01\x02") => {}
            Ok(()) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let length = |n: usize| {
            let at = ZIP_LENGTHS + 2 * n;
            usize::from(u16::from_le_bytes([header[at], header[at + 1]]))
        };
        let mut name = vec![0; length(0)];
        reader.read_exact(&mut name)?;
        reader.seek_relative((length(1) + length(2)) as i64)?;
        let name = String::from_utf8_lossy(&name).into_owned();
        if is_picture(&name) && names.contains(&name) {
            return Ok(Some(name));
        }
        names.insert(name);
    }
}

/// Lists the pictures of a tar.
///
/// # Errors
/// [`PicturesError::Malformed`].
pub(super) fn in_tar(path: &Path, file: File) -> Result<(Vec<Found>, Archive), PicturesError> {
    let malformed = |what: String| PicturesError::Malformed { path: path.to_owned(), what };
    let failed = |error: io::Error| malformed(format!("truncated or damaged: {error}"));
    let bytes = file.metadata().map_err(failed)?.len();
    let mut archive = tar::Archive::new(file);
    let (mut found, mut links) = (Vec::new(), Vec::new());
    let (mut files, mut end) = (HashMap::new(), 0);
    for entry in archive.entries_with_seek().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.path().map_err(failed)?.to_string_lossy().into_owned();
        let (offset, length) = (entry.raw_file_position(), entry.size());
        if offset.saturating_add(length) > bytes {
            return Err(malformed(format!("truncated or damaged: it ends before {name} does")));
        }
        let stored = entry.header().entry_size().map_err(failed)?;
        end = offset.saturating_add(stored).next_multiple_of(TAR_BLOCK);
        let kind = entry.header().entry_type();
        if kind.is_file() {
            files.insert(normal(Path::new(&name)), (offset, length));
        }
        if kind.is_file() && is_picture(&name) {
            found.push((name, None, Place::Tar { offset, length }));
        } else if (kind.is_hard_link() || kind.is_symlink()) && is_picture(&name) {
            let to = entry.link_name().map_err(failed)?.unwrap_or_default().into_owned();
            links.push((name, to, kind.is_symlink()));
        }
    }
    if bytes < end + TAR_BLOCK {
        // Cut off between two files, an archive looks like one of fewer.
        let what = "it ends without the zeros that every tar ends with: it is cut off; get a whole copy, or unpack it and \
                    give the folder";
        return Err(malformed(what.to_owned()));
    }
    for (name, to, is_symbolic) in links {
        // Hard links are named from the archive's beginning, symbolic ones from the folder that they are in.
        let from = Path::new(&name).parent().filter(|_| is_symbolic).unwrap_or(Path::new(""));
        let place = match files.get(&normal(&from.join(&to))) {
            Some(&(offset, length)) => Place::Tar { offset, length },
            None => Place::Lost(format!("a link to {}, which is not in the archive", to.display())),
        };
        found.push((name, None, place));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((found, Archive::Tar(Mutex::new(archive.into_inner()))))
}

/// A path without `.` and, where there is something before them, `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if normal.pop() => {}
            other => normal.push(other),
        }
    }
    normal
}

/// The bytes of a picture in a zip.
pub(super) fn zipped(
    zip: &Mutex<ZipArchive<File>>,
    index: usize,
    limits: &Limits,
) -> Result<Vec<u8>, ImageFault> {
    let mut zip =
        zip.lock().map_err(|_| ImageFault::Damaged("another reader failed".to_owned()))?;
    let entry = zip.by_index(index).map_err(|error| ImageFault::Damaged(error.to_string()))?;
    let mut bytes = Vec::new();
    entry.take(limits.bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(ImageFault::Io)?;
    Ok(bytes)
}

/// The bytes of a picture in a tar.
pub(super) fn part_of(
    tar: &Mutex<File>,
    offset: u64,
    length: u64,
    limits: &Limits,
) -> Result<Vec<u8>, ImageFault> {
    if length > limits.bytes {
        return Err(ImageFault::TooManyBytes { bytes: length, limit: limits.bytes });
    }
    let mut tar =
        tar.lock().map_err(|_| ImageFault::Damaged("another reader failed".to_owned()))?;
    tar.seek(SeekFrom::Start(offset)).map_err(ImageFault::Io)?;
    let mut bytes = Vec::new();
    tar.by_ref().take(length).read_to_end(&mut bytes).map_err(ImageFault::Io)?;
    Ok(bytes)
}
