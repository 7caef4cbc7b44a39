//! UNITER's image LMDB: `<image>.npz` -> msgpack of NumPy arrays, or a deflated npz; `__keys__` -> JSON list.
//!
//! Beside the directory `feat_X` (or `feat_X_compressed`) stands `nbb_X.json`, which counts the boxes of each image that
//! are to be used.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rmpv::{Value, ValueRef};
use serde_json::Number;
use unpickle::{Dtype, NdArray};
use zip::CompressionMethod;

use super::lmdb_dump::{DumpReader, DumpWriter};
use super::npz::{self, UniterArrays};
use super::{FeatureSink, FeatureSource, FormatError, LeftOut, Listing, RecordError, Records};
use super::{SourceInfo, SourceRecord, msgpack};
use crate::Regions;
use crate::text::{self, visible};

/// The record that lists all keys.
pub(super) const KEYS: &[u8] = b"__keys__";
/// What UNITER's settings call features by default: confidence 0.2, 10 to 100 boxes.
const SETTINGS: &str = "th0.2_max100_min10";

/// A UNITER image LMDB.
pub struct UniterSource {
    info: SourceInfo,
    reader: DumpReader,
    counts: HashMap<String, usize>,
}

impl UniterSource {
    pub(super) fn new(reader: DumpReader) -> Result<UniterSource, FormatError> {
        let mut fingerprint = reader.fingerprint()?;
        let counts = match counts_file(reader.path()) {
            Some(path) => {
                fingerprint += &format!("+{}", super::fingerprint(&path)?);
                check_length(&path, reader.entries())?;
                read_counts(&path)?
            }
            None => HashMap::new(),
        };
        let info = SourceInfo {
            format: "uniter-lmdb",
            path: reader.path().to_owned(),
            count: Some(reader.entries() - u64::from(reader.holds(KEYS)?)),
            fingerprint,
        };
        Ok(UniterSource { info, reader, counts })
    }

    fn listed_keys(&self) -> Result<Listing, String> {
        let keys = self.reader.get(KEYS).and_then(|value| {
            serde_json::from_slice::<Vec<String>>(&value.ok_or("it is missing")?)
                .map_err(|error| format!("it is no JSON list of keys: {error}"))
        });
        let keys = keys.map_err(|what| format!("`__keys__`, the list of keys: {what}"))?;
        let ids = keys.iter().map(|key| id_of(key).to_owned()).collect();
        let use_of = "UNITER's readers do not find what it leaves out";
        Ok(Listing { name: "`__keys__`".into(), ids, use_of })
    }

    fn listed_counts(&self) -> Result<Listing, String> {
        if self.counts.is_empty() {
            let what = "there is no list of counts with an image in it (`nbb_X.json` beside `feat_X`): no boxes are cut off";
            return Err(what.into());
        }
        let ids = self.counts.keys().map(|key| id_of(key).to_owned()).collect();
        let use_of = "no boxes are cut off of it";
        Ok(Listing { name: "the list of counts".into(), ids, use_of })
    }
}

/// The image that a key stands for.
fn id_of(key: &str) -> &str {
    key.strip_suffix(".npz").unwrap_or(key)
}

/// `nbb_X.json` beside `feat_X`, if it is there.
fn counts_file(directory: &Path) -> Option<PathBuf> {
    let real = directory.canonicalize().ok()?;
    let settings = real.file_name()?.to_str()?.strip_prefix("feat_")?;
    let settings = settings.strip_suffix("_compressed").unwrap_or(settings);
    Some(real.with_file_name(format!("nbb_{settings}.json"))).filter(|file| file.is_file())
}

/// Refuses counts of far more images than there are, which would only fill the memory. Those of a whole data set may stand
/// beside a part of it.
fn check_length(path: &Path, images: u64) -> Result<(), FormatError> {
    const OF_AN_IMAGE: u64 = 1 << 10;
    const OF_OTHERS: u64 = 8 << 20;
    let bytes = std::fs::metadata(path).map_err(FormatError::io(path))?.len();
    if bytes <= OF_OTHERS + images.saturating_mul(OF_AN_IMAGE) {
        return Ok(());
    }
    let what = format!(
        "{bytes} bytes of counts for {images} images: it is no list of theirs; without it no boxes are cut off"
    );
    Err(FormatError::Malformed { path: path.to_owned(), what })
}

fn read_counts(path: &Path) -> Result<HashMap<String, usize>, FormatError> {
    let text = text::read(path).map_err(FormatError::io(path))?;
    let malformed = |what| FormatError::Malformed { path: path.to_owned(), what };
    let numbers: HashMap<String, Number> = serde_json::from_slice(&text)
        .map_err(|error| malformed(format!("it is no JSON object of counts: {error}")))?;
    let count = |(key, number): (String, Number)| match whole(&number) {
        Some(count) => Ok((key, count)),
        None => {
            let key = visible(&key);
            Err(malformed(format!("the count of `{key}` is {number}, which is no whole number")))
        }
    };
    numbers.into_iter().map(count).collect()
}

/// A count, which may be spelt as a floating-point number: NumPy's means and sums are such.
fn whole(number: &Number) -> Option<usize> {
    if let Some(count) = number.as_u64() {
        return usize::try_from(count).ok();
    }
    let number = number.as_f64()?;
    // Beyond, neighbours of a floating-point number are no counts any more; no image has so many boxes.
    let is_whole = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    is_whole.then_some(number as usize)
}

impl FeatureSource for UniterSource {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn listings(&self) -> Vec<Result<Listing, String>> {
        vec![self.listed_keys(), self.listed_counts()]
    }

    fn records(self: Box<Self>) -> Result<Records, FormatError> {
        let (path, counts) = (self.info.path, Arc::new(self.counts));
        let entries = self.reader.into_entries(&[KEYS]);
        Ok(Box::new(entries.map(move |entry| {
            let (key, value) = entry?;
            let key = String::from_utf8(key).map_err(|error| {
                let key = String::from_utf8_lossy(error.as_bytes()).into_owned();
                RecordError::new(&path, key, "its key is not UTF-8")
            })?;
            let keep = counts.get(&key).copied();
            let id = id_of(&key).to_owned();
            Ok(Box::new(UniterRecord { path: path.clone(), id, value, keep })
                as Box<dyn SourceRecord>)
        })))
    }
}

struct UniterRecord {
    path: PathBuf,
    id: String,
    value: Vec<u8>,
    /// Boxes to keep, as the list of counts has it.
    keep: Option<usize>,
}

impl SourceRecord for UniterRecord {
    fn id(&self) -> &str {
        &self.id
    }

    fn size(&self) -> usize {
        let unpacked = match self.value.starts_with(b"PK") {
            true => npz::unpacked_size(Cursor::new(&self.value)),
            false => 0,
        };
        unpacked.max(self.value.len())
    }

    fn decode(self: Box<Self>) -> Result<(String, Regions), RecordError> {
        let arrays = if self.value.starts_with(b"PK") {
            npz::parse(&self.value)
        } else {
            arrays(&self.value)
        };
        match arrays.and_then(|arrays| arrays.into_regions(self.keep)) {
            Ok(regions) => Ok((self.id, regions)),
            Err(reason) => {
                Err(RecordError { path: self.path, key: self.id, reason, raw: self.value })
            }
        }
    }

    fn raw(&self) -> &[u8] {
        &self.value
    }
}

/// The arrays in a msgpack map.
fn arrays(bytes: &[u8]) -> Result<UniterArrays, String> {
    let ValueRef::Map(fields) = msgpack::read(bytes)? else { return Err("it is no map".into()) };
    let mut arrays = UniterArrays::default();
    for (key, value) in &fields {
        let Some(name) = text(key) else { continue };
        let Some(slot) = arrays.slot(name) else { continue };
        *slot = Some(array(value).map_err(|what| format!("`{name}`: {what}"))?);
    }
    Ok(arrays)
}

/// A map as msgpack-numpy makes of an array: `nd`, `type`, `kind`, `shape`, `data`, with keys of text or bytes.
fn array(value: &ValueRef) -> Result<NdArray, String> {
    let ValueRef::Map(fields) = value else { return Err("it is no array".into()) };
    let field = |name: &str| {
        let found = fields.iter().find(|(key, _)| text(key) == Some(name));
        found.map(|(_, value)| value).ok_or_else(|| format!("it has no `{name}`"))
    };
    if !matches!(field("nd")?, ValueRef::Boolean(true)) {
        return Err("it is no array".into());
    }
    let name = text(field("type")?).ok_or("its type is no text")?;
    let (dtype, big_endian) =
        Dtype::from_name(name).ok_or_else(|| format!("it holds items of type `{name}`"))?;
    let ValueRef::Array(shape) = field("shape")? else { return Err("its shape is no list".into()) };
    let size = |value: &ValueRef| match value {
        ValueRef::Integer(size) => size.as_u64().and_then(|size| usize::try_from(size).ok()),
        _ => None,
    };
    let shape: Option<Vec<usize>> = shape.iter().map(size).collect();
    let shape = shape.ok_or("its shape is no list of sizes")?;
    let data = bytes(field("data")?).ok_or("its data are no bytes")?;
    NdArray::from_layout(dtype, shape, data.into(), big_endian, false)
        .map_err(|fault| fault.to_string())
}

fn bytes<'a>(value: &'a ValueRef) -> Option<&'a [u8]> {
    match value {
        ValueRef::Binary(bytes) => Some(bytes),
        ValueRef::String(text) => Some(text.as_bytes()),
        _ => None,
    }
}

fn text<'a>(value: &'a ValueRef) -> Option<&'a str> {
    str::from_utf8(bytes(value)?).ok()
}

/// How a [`UniterSink`] writes values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UniterEncoding {
    /// msgpack of NumPy arrays.
    #[default]
    Msgpack,
    /// A deflated npz (UNITER's `--compress`).
    Npz,
}

/// Writes a folder with an LMDB directory and its list of counts, as UNITER's own conversion does.
pub struct UniterSink {
    folder: PathBuf,
    writer: DumpWriter,
    encoding: UniterEncoding,
    half: bool,
    counts: serde_json::Map<String, serde_json::Value>,
    left_out: LeftOut,
}

impl UniterSink {
    /// Begins a folder, which must not exist yet; `half` writes f16.
    ///
    /// # Errors
    /// If it exists or cannot be made.
    pub fn create(
        folder: &Path,
        encoding: UniterEncoding,
        half: bool,
    ) -> Result<UniterSink, FormatError> {
        std::fs::create_dir(folder).map_err(FormatError::io(folder))?;
        let suffix = if encoding == UniterEncoding::Npz { "_compressed" } else { "" };
        let writer = DumpWriter::create(&folder.join(format!("feat_{SETTINGS}{suffix}")))?;
        Ok(UniterSink {
            folder: folder.to_owned(),
            writer,
            encoding,
            half,
            counts: serde_json::Map::new(),
            left_out: LeftOut::new(),
        })
    }

    fn value(&self, regions: &Regions) -> Result<Vec<u8>, String> {
        let mut arrays = npz::arrays_of(regions, self.half)?;
        // The image data base holds no soft labels.
        arrays.retain(|(name, ..)| *name != "soft_labels");
        if self.encoding == UniterEncoding::Npz {
            return npz::serialise(&arrays, self.half, CompressionMethod::Deflated)
                .map_err(|error| error.to_string());
        }
        let dtype = if self.half { "<f2" } else { "<f4" };
        let fields = arrays.into_iter().map(|(name, shape, items)| {
            let shape = shape.into_iter().map(Value::from).collect();
            let fields = [
                ("nd", Value::Boolean(true)),
                ("type", Value::from(dtype)),
                ("kind", Value::Binary(Vec::new())),
                ("shape", Value::Array(shape)),
                ("data", Value::Binary(items)),
            ];
            let key = |name: &str| Value::Binary(name.as_bytes().to_vec());
            let fields = fields.into_iter().map(|(name, value)| (key(name), value)).collect();
            (Value::from(name), Value::Map(fields))
        });
        let mut out = Vec::new();
        rmpv::encode::write_value(&mut out, &Value::Map(fields.collect()))
            .map_err(|error| error.to_string())?;
        Ok(out)
    }
}

impl FeatureSink for UniterSink {
    fn append(&mut self, id: &str, regions: &Regions) -> Result<(), FormatError> {
        let value = self.value(regions).map_err(|what| FormatError::Unwritable {
            path: self.folder.clone(),
            id: id.to_owned(),
            what,
        })?;
        self.writer.put_image(id, ".npz", value)?;
        npz::note_left_out(&mut self.left_out, regions);
        self.left_out.note("class probabilities", regions.class_probabilities.is_some());
        self.counts.insert(format!("{id}.npz"), regions.len().into());
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), FormatError> {
        let keys: Vec<&String> = self.counts.keys().collect();
        let keys = serde_json::json!(keys).to_string();
        self.writer.put(KEYS.to_vec(), keys.into_bytes())?;
        self.writer.finish()?;
        let path = self.folder.join(format!("nbb_{SETTINGS}.json"));
        let text = serde_json::Value::Object(self.counts).to_string();
        std::fs::write(&path, text).map_err(FormatError::io(&path))
    }

    fn left_out(&self) -> BTreeMap<&'static str, u64> {
        self.left_out.0.clone()
    }
}
