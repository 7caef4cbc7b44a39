//! VOLTA's LMDB directories: image id -> pickled dictionary, and `keys` -> pickled list of the ids.
//!
//! The dictionaries come in several spellings: arrays as base64 (text or bytes) or as NumPy arrays, numbers as `int`, as
//! NumPy scalars or as text, labels named after the TSV (`objects_id`) or the HDF5 file (`obj_id`).

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use heed::types::Bytes;
use heed::{EnvOpenOptions, MdbError};
use unpickle::{Dtype, NdArray, Value};

use super::{FeatureSource, FormatError, RecordError, Records, SourceInfo, SourceRecord};
use crate::lmdb::{self, Env, LmdbError};
use crate::{Labels, Regions};

/// The record that lists all ids.
const KEYS: &[u8] = b"keys";
/// Records that are copied out of LMDB in one transaction.
const PAGE: usize = 64;

/// Key and value.
type Entry = (Vec<u8>, Vec<u8>);

/// An LMDB directory of VOLTA's.
pub struct VoltaSource {
    info: SourceInfo,
    env: Env,
}

impl VoltaSource {
    /// Opens the directory and looks at its first record.
    ///
    /// # Errors
    /// What is no sound LMDB directory; one whose records are no pickles.
    pub fn open(path: &Path) -> Result<VoltaSource, FormatError> {
        let entries = lmdb::main_entries(path)?;
        let env = lmdb::open_read_only(path)?;
        let source = VoltaSource { info: info(path, entries)?, env };
        let unknown =
            |what: &str| FormatError::Unknown { path: path.to_owned(), what: what.to_owned() };
        match source.page(&[]).map_err(|error| unknown(&error.reason))?.first() {
            None => Err(unknown("an LMDB environment without records")),
            // Protocol 2 and later begin with 0x80.
            Some((_, value)) if value.first() == Some(&0x80) => Ok(source),
            Some(_) => {
                Err(unknown("an LMDB environment whose records are no pickles (a store already?)"))
            }
        }
    }

    /// The records after a key, in the order of their ids.
    fn page(&self, after: &[u8]) -> Result<Vec<Entry>, RecordError> {
        let failed = |error: heed::Error| RecordError {
            path: self.info.path.clone(),
            key: String::from_utf8_lossy(after).into_owned(),
            reason: format!("the records after it cannot be read: {error}"),
        };
        let transaction = self.env.read_txn().map_err(failed)?;
        let Some(database) =
            self.env.open_database::<Bytes, Bytes>(&transaction, None).map_err(failed)?
        else {
            return Ok(Vec::new());
        };
        // LMDB cannot seek an empty key.
        let start = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
        let range = (start, Bound::Unbounded);
        let entries = database.range(&transaction, &range).map_err(failed)?;
        let copied =
            entries.filter(|entry| !matches!(entry, Ok((key, _)) if *key == KEYS)).take(PAGE);
        copied
            .map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())).map_err(failed))
            .collect()
    }
}

fn info(path: &Path, entries: u64) -> Result<SourceInfo, FormatError> {
    let data = path.join("data.mdb");
    let metadata = std::fs::metadata(&data)
        .map_err(|source| FormatError::Io { path: data.clone(), source })?;
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(SourceInfo {
        format: "volta-lmdb",
        path: path.to_owned(),
        count: Some(entries.saturating_sub(1)),
        fingerprint: format!("{}-{}", metadata.len(), modified.unwrap_or_default().as_nanos()),
    })
}

impl FeatureSource for VoltaSource {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn records(self: Box<Self>) -> Result<Records, FormatError> {
        let mut page = Vec::new().into_iter();
        let mut next = Some(Vec::new());
        Ok(Box::new(std::iter::from_fn(move || {
            loop {
                if let Some((key, value)) = page.next() {
                    return Some(record(&self.info.path, key, value));
                }
                let read = match self.page(&next.take()?) {
                    Ok(read) => read,
                    Err(error) => return Some(Err(error)),
                };
                next = read.last().map(|(key, _)| key.clone());
                page = read.into_iter();
            }
        })))
    }
}

struct VoltaRecord {
    path: PathBuf,
    id: String,
    pickle: Vec<u8>,
}

fn record(
    path: &Path,
    key: Vec<u8>,
    pickle: Vec<u8>,
) -> Result<Box<dyn SourceRecord>, RecordError> {
    match String::from_utf8(key) {
        Ok(id) => Ok(Box::new(VoltaRecord { path: path.to_owned(), id, pickle })),
        Err(error) => Err(RecordError {
            path: path.to_owned(),
            key: String::from_utf8_lossy(error.as_bytes()).into_owned(),
            reason: "its id is not UTF-8".into(),
        }),
    }
}

impl SourceRecord for VoltaRecord {
    fn id(&self) -> &str {
        &self.id
    }

    fn decode(self: Box<Self>) -> Result<(String, Regions), RecordError> {
        let decoded = unpickle::read(&self.pickle)
            .map_err(|error| error.to_string())
            .and_then(|value| regions(&value));
        match decoded {
            Ok(regions) => Ok((self.id, regions)),
            Err(reason) => Err(RecordError { path: self.path, key: self.id, reason }),
        }
    }
}

/// The regions in a record's dictionary.
fn regions(record: &Value) -> Result<Regions, String> {
    if !matches!(record, Value::Dict(_)) {
        return Err("it is no dictionary".into());
    }
    let boxes = floats(field(record, &["boxes", "bbox"]).ok_or("it has no `boxes`")?, "boxes")?;
    let features = floats(field(record, &["features"]).ok_or("it has no `features`")?, "features")?;
    let (boxes, rest) = boxes.as_chunks::<4>();
    if !rest.is_empty() || boxes.is_empty() {
        return Err(format!("its `boxes` hold {} numbers", 4 * boxes.len() + rest.len()));
    }
    if let Some(count) = field(record, &["num_boxes"]).and_then(Value::as_int)
        && count != boxes.len() as i64
    {
        return Err(format!("`num_boxes` is {count}, its `boxes` are {}", boxes.len()));
    }
    let n = boxes.len();
    if !features.len().is_multiple_of(n) {
        return Err(format!("its `features` hold {} numbers for {n} boxes", features.len()));
    }
    Ok(Regions {
        width: size(record, &["img_w", "image_width", "image_w"])?,
        height: size(record, &["img_h", "image_height", "image_h"])?,
        boxes: boxes.to_vec(),
        dim: features.len() / n,
        features,
        objects: labels(
            record,
            &["obj_id", "objects_id", "objects"],
            &["obj_conf", "objects_conf"],
            n,
        )?,
        attributes: labels(record, &["attr_id", "attrs_id"], &["attr_conf", "attrs_conf"], n)?,
    })
}

/// The first of several spellings of a field that is there and not `None`.
fn field<'a>(record: &'a Value, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|name| record.get(name)).filter(|value| !matches!(value, Value::None))
}

fn size(record: &Value, names: &[&str]) -> Result<u32, String> {
    let value = field(record, names)
        .and_then(Value::as_int)
        .ok_or_else(|| format!("it has no `{}`", names[0]))?;
    u32::try_from(value).map_err(|_| format!("its `{}` is {value}", names[0]))
}

fn labels(
    record: &Value,
    ids: &[&str],
    confidences: &[&str],
    n: usize,
) -> Result<Option<Labels>, String> {
    let Some(value) = field(record, ids) else { return Ok(None) };
    let labels = Labels {
        ids: integers(value, ids[0])?,
        confidences: match field(record, confidences) {
            Some(value) => floats(value, confidences[0])?,
            None => Vec::new(),
        },
    };
    if labels.ids.len() != n || !(labels.confidences.is_empty() || labels.confidences.len() == n) {
        return Err(format!("its `{}` are {} for {n} boxes", ids[0], labels.ids.len()));
    }
    Ok(Some(labels))
}

fn floats(value: &Value, name: &str) -> Result<Vec<f32>, String> {
    match value {
        Value::Array(array) => {
            array.to_f32s().ok_or_else(|| format!("its `{name}` are {}", array.dtype().name()))
        }
        other => {
            let bytes = from_base64(other, name)?;
            let (items, rest) = bytes.as_chunks::<4>();
            if !rest.is_empty() {
                return Err(format!(
                    "its `{name}` are {} bytes, no whole number of floats",
                    bytes.len()
                ));
            }
            Ok(items.iter().map(|item| f32::from_le_bytes(*item)).collect())
        }
    }
}

fn integers(value: &Value, name: &str) -> Result<Vec<i64>, String> {
    match value {
        Value::Array(array) => {
            array.to_i64s().ok_or_else(|| format!("its `{name}` are {}", array.dtype().name()))
        }
        other => {
            let bytes = from_base64(other, name)?;
            let (items, rest) = bytes.as_chunks::<8>();
            if !rest.is_empty() {
                return Err(format!(
                    "its `{name}` are {} bytes, no whole number of integers",
                    bytes.len()
                ));
            }
            Ok(items.iter().map(|item| i64::from_le_bytes(*item)).collect())
        }
    }
}

fn from_base64(value: &Value, name: &str) -> Result<Vec<u8>, String> {
    let text =
        value.as_bytes().ok_or_else(|| format!("its `{name}` are neither an array nor base64"))?;
    BASE64.decode(text).map_err(|error| format!("its `{name}` are not base64: {error}"))
}

/// How a [`VoltaSink`] spells arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VoltaEncoding {
    /// base64 bytes, as VOLTA's own conversion writes them.
    #[default]
    Base64,
    /// NumPy arrays.
    Raw,
}

/// Writes an LMDB directory that VOLTA's Python readers read; in memory-bounded transactions, without resuming.
pub struct VoltaSink {
    path: PathBuf,
    env: Env,
    encoding: VoltaEncoding,
    keys: Vec<Value>,
    pending: Vec<Entry>,
    pending_bytes: usize,
}

impl VoltaSink {
    /// Begins a directory, which must not exist yet.
    ///
    /// # Errors
    /// If it exists or cannot be made.
    pub fn create(path: &Path, encoding: VoltaEncoding) -> Result<VoltaSink, FormatError> {
        std::fs::create_dir(path)
            .map_err(|source| FormatError::Io { path: path.to_owned(), source })?;
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(64 << 20);
        // SAFETY: the directory was just created by this call; nobody else knows of it.
        let env = unsafe { options.open(path) }.map_err(LmdbError::heed(path))?;
        let path = path.to_owned();
        Ok(VoltaSink {
            path,
            env,
            encoding,
            keys: Vec::new(),
            pending: Vec::new(),
            pending_bytes: 0,
        })
    }

    /// Adds an image.
    ///
    /// # Errors
    /// If LMDB or the disk refuses.
    pub fn append(&mut self, id: &str, regions: &Regions) -> Result<(), FormatError> {
        let pickle = self.pickle(&self.record(id, regions)?)?;
        self.keys.push(Value::Bytes(id.as_bytes().into()));
        self.pending_bytes += pickle.len();
        self.pending.push((id.as_bytes().to_vec(), pickle));
        if self.pending_bytes > 16 << 20 { self.commit() } else { Ok(()) }
    }

    /// Writes the list of ids and ends.
    ///
    /// # Errors
    /// As [`append`](VoltaSink::append).
    pub fn finish(mut self) -> Result<(), FormatError> {
        let ids = Value::List(std::mem::take(&mut self.keys));
        let keys = self.pickle(&ids)?;
        self.pending.push((KEYS.to_vec(), keys));
        self.commit()?;
        self.env.prepare_for_closing().wait();
        Ok(())
    }

    fn record(&self, id: &str, regions: &Regions) -> Result<Value, FormatError> {
        let n = regions.len();
        let text = |name: &str| Value::Str(name.into());
        let floats = |values: &[f32], shape: Vec<usize>| {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            match self.encoding {
                VoltaEncoding::Base64 => Ok(Value::Bytes(BASE64.encode(bytes).into_bytes().into())),
                VoltaEncoding::Raw => self.array(Dtype::F32, shape, bytes),
            }
        };
        let mut fields = vec![
            (text("img_id"), text(id)),
            (text("img_w"), Value::Int(i64::from(regions.width))),
            (text("img_h"), Value::Int(i64::from(regions.height))),
            (text("num_boxes"), Value::Int(n as i64)),
            (text("boxes"), floats(regions.boxes.as_flattened(), vec![n, 4])?),
            (text("features"), floats(&regions.features, vec![n, regions.dim])?),
        ];
        for (labels, ids, confidences) in [
            (&regions.objects, "obj_id", "obj_conf"),
            (&regions.attributes, "attr_id", "attr_conf"),
        ] {
            let Some(labels) = labels else { continue };
            let bytes = labels.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            fields.push((text(ids), self.array(Dtype::I64, vec![n], bytes)?));
            if !labels.confidences.is_empty() {
                let bytes = labels.confidences.iter().flat_map(|c| c.to_le_bytes()).collect();
                fields.push((text(confidences), self.array(Dtype::F32, vec![n], bytes)?));
            }
        }
        Ok(Value::Dict(fields))
    }

    fn array(&self, dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Value, FormatError> {
        NdArray::new(dtype, shape, bytes.into())
            .map(Value::Array)
            .map_err(|fault| self.unwritable(&fault))
    }

    fn pickle(&self, value: &Value) -> Result<Vec<u8>, FormatError> {
        unpickle::write(value).map_err(|fault| self.unwritable(&fault))
    }

    fn unwritable(&self, fault: &unpickle::Fault) -> FormatError {
        FormatError::Unknown { path: self.path.clone(), what: fault.to_string() }
    }

    fn commit(&mut self) -> Result<(), FormatError> {
        loop {
            match self.try_commit() {
                Ok(()) => break,
                Err(heed::Error::Mdb(MdbError::MapFull)) => {
                    let size = self.env.info().map_size.saturating_mul(2);
                    // SAFETY: this thread holds no transaction: the one that found the map full has been dropped.
                    unsafe { self.env.resize(size) }.map_err(LmdbError::heed(&self.path))?;
                }
                Err(heed::Error::Io(source)) => {
                    let source = lmdb::write_error(source);
                    return Err(FormatError::Io { path: self.path.clone(), source });
                }
                Err(error) => return Err(LmdbError::heed(&self.path)(error).into()),
            }
        }
        self.pending.clear();
        self.pending_bytes = 0;
        Ok(())
    }

    fn try_commit(&self) -> Result<(), heed::Error> {
        let mut transaction = self.env.write_txn()?;
        let database = self.env.create_database::<Bytes, Bytes>(&mut transaction, None)?;
        for (key, value) in &self.pending {
            database.put(&mut transaction, key, value)?;
        }
        transaction.commit()
    }
}
