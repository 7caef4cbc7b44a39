//! Which format is it? Told by content, never by name.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::folder::Folder;
use super::lmdb_dump::DumpReader;
use super::{FeatureSource, FormatError, StoreSource, hdf5, npy, npz, tsv, uniter, volta};
use crate::lmdb::LmdbError;
use crate::store::{META, REGIONS};
use crate::{FeatureStore, StoreError, pages};

const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";
const ZIP: &[u8] = b"PK\x03\x04";
pub(super) const LZ4_FRAME: &[u8] = b"\x04\x22\x4d\x18";
/// Pickles of protocol 2 and later begin so.
const PICKLE: u8 = 0x80;

/// Opens a source, its format found from its content.
///
/// # Errors
/// [`FormatError::Unknown`] for what is none of the formats.
pub fn open(path: &Path) -> Result<Box<dyn FeatureSource>, FormatError> {
    if !path.exists() {
        return Err(LmdbError::Missing(path.to_owned()).into());
    }
    if path.is_dir() { open_directory(path) } else { open_file(path) }
}

fn unknown(path: &Path, what: impl Into<String>) -> FormatError {
    FormatError::Unknown { path: path.to_owned(), what: what.into() }
}

/// Something that a list of the known formats would not help with.
fn unreadable(path: &Path, what: impl Into<String>) -> FormatError {
    FormatError::Malformed { path: path.to_owned(), what: what.into() }
}

fn open_directory(path: &Path) -> Result<Box<dyn FeatureSource>, FormatError> {
    if path.join("data.mdb").is_file() {
        return open_lmdb(path);
    }
    // UNITER keeps its environment one level down, beside the JSON file that counts boxes.
    let Folder { environments, infos, archives, unreadable: passed_over, .. } = Folder::list(path)?;
    match (environments.as_slice(), infos.is_empty(), archives.is_empty()) {
        ([], true, true) => {
            let what = "a directory without data.mdb, *_info.npy or *.npz files";
            let but = passed_over.map_or(String::new(), |error| format!(" (passed over: {error})"));
            Err(unknown(path, format!("{what}{but}")))
        }
        ([one], true, true) => open_lmdb(one.parent().unwrap_or(path)),
        ([], false, true) => Ok(Box::new(npy::NpyFolder::open(path)?)),
        ([], true, false) => Ok(Box::new(npz::NpzFolder::open(path)?)),
        (several, ..) => {
            let what = format!(
                "several dumps are in it ({} LMDB environments, {} _info.npy and {} .npz files); name one of them",
                several.len(),
                infos.len(),
                archives.len()
            );
            Err(unreadable(path, what))
        }
    }
}

fn open_lmdb(path: &Path) -> Result<Box<dyn FeatureSource>, FormatError> {
    match FeatureStore::open(path) {
        Ok(store) => return Ok(Box::new(StoreSource::new(store)?)),
        Err(StoreError::NotAStore { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    open_dump(path)
}

/// An LMDB environment that is no store: a directory, or a file by itself (`subdir=False`).
fn open_dump(path: &Path) -> Result<Box<dyn FeatureSource>, FormatError> {
    let reader = DumpReader::open(path)?;
    let first = reader.first(&[volta::KEYS, uniter::KEYS])?;
    let Some((key, value)) = first else {
        return Err(unknown(path, "an LMDB environment without records"));
    };
    let is_map = |byte: &u8| (0x81..=0x8f).contains(byte) || matches!(byte, 0xde | 0xdf);
    match value.first() {
        Some(&PICKLE) => Ok(Box::new(volta::VoltaSource::new(reader)?)),
        _ if value.starts_with(ZIP) => Ok(Box::new(uniter::UniterSource::new(reader)?)),
        Some(byte) if is_map(byte) => Ok(Box::new(uniter::UniterSource::new(reader)?)),
        _ if value.starts_with(LZ4_FRAME) => Err(unreadable(
            path,
            "it is UNITER's text data base: descriptions without regions; `xenc store captions` lists them",
        )),
        _ => {
            let key = String::from_utf8_lossy(&key).into_owned();
            Err(unknown(
                path,
                format!("the record `{key}` of this LMDB environment is no pickle, msgpack or npz"),
            ))
        }
    }
}

fn open_file(path: &Path) -> Result<Box<dyn FeatureSource>, FormatError> {
    if path.file_name().is_some_and(|name| name == "data.mdb") {
        return open_lmdb(path.parent().unwrap_or(path));
    }
    // Formats are read twice, once to find out which, and opening a pipe would wait for somebody to write to it.
    if !path.metadata().map_err(FormatError::io(path))?.is_file() {
        return Err(unreadable(path, "it is no regular file but a pipe or a device"));
    }
    let mut head = Vec::new();
    let file = File::open(path).map_err(FormatError::io(path))?;
    file.take(64).read_to_end(&mut head).map_err(FormatError::io(path))?;
    // A user block of any power of two from 512 on may stand before an HDF5 file's signature.
    if head.starts_with(HDF5) || has_user_block(path)? {
        return Ok(Box::new(hdf5::Hdf5Source::open(path)?));
    }
    if pages::begins_a_file(&head) {
        return open_environment_file(path);
    }
    if head.starts_with(ZIP) {
        return Ok(Box::new(npz::NpzFolder::file(path)?));
    }
    if head.is_empty() {
        return Err(unknown(path, "an empty file"));
    }
    if head.starts_with(b"\x93NUMPY") {
        let what = "it is one array; name the folder with the .npy and _info.npy files";
        return Err(unreadable(path, what));
    }
    if !tsv::may_be_text(&head) {
        let start: Vec<String> = head.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        return Err(unknown(path, format!("a binary file that begins with {}", start.join(" "))));
    }
    tsv::TsvSource::open(path).map(|source| Box::new(source) as Box<dyn FeatureSource>)
}

/// An LMDB environment that is a file by itself. A store is always a directory: a lone data.mdb of one has lost its name.
fn open_environment_file(path: &Path) -> Result<Box<dyn FeatureSource>, FormatError> {
    if DumpReader::open(path)?.names_databases(&[META, REGIONS]) {
        let what =
            "it is the file of a store; a store is a folder with that file in it, named data.mdb";
        return Err(unreadable(path, what));
    }
    open_dump(path)
}

fn has_user_block(path: &Path) -> Result<bool, FormatError> {
    let file = File::open(path).map_err(FormatError::io(path))?;
    let mut reader = BufReader::with_capacity(8192, file);
    let head = reader.fill_buf().map_err(FormatError::io(path))?;
    Ok([512, 1024, 2048, 4096].iter().any(|&at| head.get(at..at + 8) == Some(HDF5)))
}
