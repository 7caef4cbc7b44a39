//! UNITER's text LMDB, to read: id -> lz4 frame of msgpack `{id, img_fname, input_ids, toked_caption, target, …}`.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::lmdb_dump::DumpReader;
use super::{FormatError, RecordError, msgpack};

/// Longest text record that is unpacked.
const MAX_RECORD: u64 = 16 << 20;

/// A text record: what UNITER stores of one description, as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct TextRecord {
    /// The key: the description's id.
    pub id: String,
    /// The fields, their order kept; bytes become text.
    pub fields: serde_json::Map<String, Value>,
}

/// Opens a text data base and reads its records in the order of their keys.
///
/// # Errors
/// What is no sound LMDB directory; then, for each record, one that cannot be read.
pub fn records(
    path: &Path,
) -> Result<impl Iterator<Item = Result<TextRecord, RecordError>>, FormatError> {
    let reader = DumpReader::open(path)?;
    let first = reader.first(&[super::uniter::KEYS])?;
    if !first.is_some_and(|(_, value)| value.starts_with(super::detect::LZ4_FRAME)) {
        let what = "it is not UNITER's text data base; `xenc store info` tells what else it is";
        return Err(FormatError::Malformed { path: path.to_owned(), what: what.into() });
    }
    let entries = reader.into_entries(&[super::uniter::KEYS]);
    let path: PathBuf = path.to_owned();
    Ok(entries.map(move |entry| {
        let (key, value) = entry?;
        let id = String::from_utf8_lossy(&key).into_owned();
        match fields(&value) {
            Ok(fields) => Ok(TextRecord { id, fields }),
            Err(reason) => Err(RecordError { path: path.clone(), key: id, reason, raw: value }),
        }
    }))
}

fn fields(frame: &[u8]) -> Result<serde_json::Map<String, Value>, String> {
    let mut bytes = Vec::new();
    let decoder = lz4_flex::frame::FrameDecoder::new(frame);
    decoder
        .take(MAX_RECORD + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("it is no lz4 frame: {error}"))?;
    if bytes.len() as u64 > MAX_RECORD {
        return Err(format!("it unpacks to more than {MAX_RECORD} bytes"));
    }
    match json(msgpack::read(&bytes)?.to_owned()) {
        Value::Object(fields) => Ok(fields),
        _ => Err("it is no map".into()),
    }
}

fn json(value: rmpv::Value) -> Value {
    use rmpv::Value as Msgpack;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match value {
        Msgpack::Nil => Value::Null,
        Msgpack::Boolean(truth) => truth.into(),
        Msgpack::Integer(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => Value::Null,
        },
        Msgpack::F32(number) => f64::from(number).into(),
        Msgpack::F64(number) => number.into(),
        Msgpack::String(string) => text(string.as_bytes()).into(),
        Msgpack::Binary(bytes) | Msgpack::Ext(_, bytes) => text(&bytes).into(),
        Msgpack::Array(items) => items.into_iter().map(json).collect(),
        Msgpack::Map(pairs) => {
            let pairs = pairs.into_iter().map(|(key, value)| {
                let key = match json(key) {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                (key, json(value))
            });
            Value::Object(pairs.collect())
        }
    }
}
