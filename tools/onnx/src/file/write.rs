//! Writing: complete under another name first, then renamed.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use prost::Message;
use xxhash_rust::xxh3::Xxh3;

use super::FileError;
use crate::Model;
use crate::proto::{EXTERNAL, ModelProto, StringStringEntryProto, TensorProto};

/// Where constants go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Placement {
    /// Into the file, unless it would then have more than 1.5 GiB.
    #[default]
    Auto,
    /// Into the file.
    Inside,
    /// Into a second file beside it, whose name holds the digest of what is in it: a model and constants that do not
    /// belong together cannot meet, also when writing is interrupted.
    Outside,
}

/// Constants beyond this lie outside with [`Placement::Auto`].
const MOST_INSIDE: u64 = 3 << 29;
/// The most that a message may have.
const LIMIT: u64 = (1 << 31) - 1;
/// Smaller constants (shapes, axes) stay inside: checkers need them.
const SMALLEST_OUTSIDE: usize = 1024;
/// Constants begin at multiples of this, so that they can be mapped into memory.
const PAGE: u64 = 4096;

/// Writes a model file, and the second one if constants lie outside. A file that is there is replaced only once the new
/// one is complete; a second file that only the old one used is removed.
///
/// # Errors
/// [`FileError::Io`]; [`FileError::TooLarge`] with [`Placement::Inside`].
pub fn write(model: &Model, path: &Path, placement: Placement) -> Result<(), FileError> {
    let outside = match placement {
        Placement::Auto => model.constant_bytes() > MOST_INSIDE,
        Placement::Inside => false,
        Placement::Outside => true,
    };
    let replaced = if path.exists() { second_files(path) } else { Vec::new() };
    let mut proto = model.proto().clone();
    let second = if outside { write_constants(&mut proto, path)? } else { None };
    let bytes = proto.encoded_len() as u64;
    if bytes > LIMIT {
        return Err(FileError::TooLarge { path: path.to_owned(), bytes });
    }
    let partial = sibling(path, "partial");
    let written = write_file(&partial, &proto.encode_to_vec()).map_err(FileError::io(&partial));
    let published = written.and_then(|()| fs::rename(&partial, path).map_err(FileError::io(path)));
    if let Err(error) = published {
        // What is half written helps nobody; that it cannot be removed would hide the cause.
        let _ = fs::remove_file(&partial);
        return Err(error);
    }
    // The new model is in place: an old second file that cannot be removed is litter, no failure.
    for old in replaced.into_iter().filter(|old| Some(old) != second.as_ref()) {
        let _ = fs::remove_file(old);
    }
    Ok(())
}

/// Moves a model, in whatever format, with its second file to where another of the same name may be, which it replaces.
///
/// # Errors
/// [`FileError::Io`].
pub fn replace(from: &Path, to: &Path) -> Result<(), FileError> {
    let replaced = if to.exists() { second_files(to) } else { Vec::new() };
    let mut kept = Vec::new();
    for second in second_files(from) {
        let target = to.with_file_name(second.file_name().unwrap_or_default());
        fs::rename(&second, &target).map_err(FileError::io(&target))?;
        kept.push(target);
    }
    fs::rename(from, to).map_err(FileError::io(to))?;
    for old in replaced.into_iter().filter(|old| !kept.contains(old)) {
        let _ = fs::remove_file(old);
    }
    Ok(())
}

/// Moves large constants out of the message into a file of their own, if there are any.
fn write_constants(proto: &mut ModelProto, path: &Path) -> Result<Option<PathBuf>, FileError> {
    let partial = sibling(path, "data.partial");
    let io = FileError::io(&partial);
    let written = File::create(&partial).and_then(|file| put_constants(proto, file)).map_err(io)?;
    let Some(digest) = written else {
        let _ = fs::remove_file(&partial);
        return Ok(None);
    };
    let name = format!("{}.{digest:016x}.data", file_name(path));
    let target = path.with_file_name(&name);
    fs::rename(&partial, &target).map_err(FileError::io(&target))?;
    for constant in outside(proto) {
        constant.external_data.insert(0, entry("location", name.clone()));
    }
    Ok(Some(target))
}

fn put_constants(proto: &mut ModelProto, file: File) -> io::Result<Option<u64>> {
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let (mut offset, mut digest, mut any) = (0u64, Xxh3::new(), false);
    for constant in proto.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        let large = |bytes: &mut bytes::Bytes| bytes.len() >= SMALLEST_OUTSIDE;
        let Some(bytes) = constant.raw_data.take_if(large) else { continue };
        let gap = offset.next_multiple_of(PAGE) - offset;
        out.write_all(&vec![0; gap as usize])?;
        out.write_all(&bytes)?;
        digest.update(&(bytes.len() as u64).to_le_bytes());
        digest.update(&bytes);
        offset += gap;
        constant.data_location = EXTERNAL;
        constant.external_data =
            vec![entry("offset", offset.to_string()), entry("length", bytes.len().to_string())];
        offset += bytes.len() as u64;
        any = true;
    }
    out.into_inner()?.sync_all()?;
    Ok(any.then(|| digest.digest()))
}

/// Files with constants that a model file names, if it can be read that far.
fn second_files(path: &Path) -> Vec<PathBuf> {
    let Ok(Ok(mut proto)) = fs::read(path).map(|bytes| ModelProto::decode(&bytes[..])) else {
        return Vec::new();
    };
    let name = file_name(path);
    let mut files: Vec<_> = outside(&mut proto)
        .flat_map(|constant| &constant.external_data)
        .filter(|entry| entry.key == "location")
        // Only what was written under this model's name is its own.
        .filter(|entry| entry.value.starts_with(&format!("{name}.")) && !entry.value.contains('/'))
        .map(|entry| path.with_file_name(&entry.value))
        .collect();
    files.dedup();
    files
}

fn outside(proto: &mut ModelProto) -> impl Iterator<Item = &mut TensorProto> {
    let constants = proto.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
    constants.filter(|constant| constant.data_location == EXTERNAL)
}

fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn entry(key: &str, value: String) -> StringStringEntryProto {
    StringStringEntryProto { key: key.into(), value }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    path.with_file_name(format!(".{}.{suffix}", file_name(path)))
}
