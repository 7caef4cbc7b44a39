//! VOLTA's LMDB directories: image id -> pickled dictionary, and `keys` -> pickled list of the ids.
//!
//! The dictionaries come in several spellings: arrays as base64 (text or bytes) or as NumPy arrays, numbers as `int`, as
//! NumPy scalars or as text, labels named after the TSV (`objects_id`) or the HDF5 file (`obj_id`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use unpickle::{Dtype, NdArray, Value};

use super::lmdb_dump::{DumpReader, DumpWriter};
use super::{FeatureSink, FeatureSource, FormatError, LeftOut, Listing, RecordError, Records};
use super::{SourceInfo, SourceRecord, base64, numbers};
use crate::{Labels, Regions, RoundingError};

/// Values in a record's dictionary: its fields, and what describes each array.
pub(super) const MAX_VALUES: usize = 1 << 14;
/// The record that lists all ids.
pub(super) const KEYS: &[u8] = b"keys";

/// An LMDB directory of VOLTA's.
pub struct VoltaSource {
    info: SourceInfo,
    reader: DumpReader,
}

impl VoltaSource {
    pub(super) fn new(reader: DumpReader) -> Result<VoltaSource, FormatError> {
        let info = SourceInfo {
            format: "volta-lmdb",
            path: reader.path().to_owned(),
            count: Some(reader.entries() - u64::from(reader.holds(KEYS)?)),
            fingerprint: reader.fingerprint()?,
        };
        Ok(VoltaSource { info, reader })
    }
}

impl FeatureSource for VoltaSource {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn listings(&self) -> Vec<Result<Listing, String>> {
        let limit = usize::try_from(self.reader.entries()).map_or(usize::MAX, |n| n + MAX_VALUES);
        let value = self.reader.get(KEYS);
        let ids = value.and_then(|value| listed(&value.ok_or("it is missing")?, limit));
        let listing = ids.map(|ids| Listing {
            name: "`keys`".into(),
            ids,
            use_of: "VOLTA's readers do not find what it leaves out",
        });
        vec![listing.map_err(|what| format!("`keys`, the list of ids: {what}"))]
    }

    fn records(self: Box<Self>) -> Result<Records, FormatError> {
        let path = self.info.path;
        let entries = self.reader.into_entries(&[KEYS]);
        Ok(Box::new(entries.map(move |entry| {
            let (key, pickle) = entry?;
            let id = String::from_utf8(key).map_err(|error| {
                let key = String::from_utf8_lossy(error.as_bytes()).into_owned();
                RecordError::new(&path, key, "its id is not UTF-8")
            })?;
            Ok(Box::new(VoltaRecord { path: path.clone(), id, pickle }) as Box<dyn SourceRecord>)
        })))
    }
}

/// The ids in a pickled list, which are about as many as there are records.
fn listed(pickle: &[u8], limit: usize) -> Result<Vec<String>, String> {
    let value = unpickle::read_within(pickle, limit).map_err(|error| error.to_string())?;
    let Value::List(ids) = value else { return Err("it is no list".into()) };
    let id = |id: &Value| Some(str::from_utf8(id.as_bytes()?).ok()?.to_owned());
    let ids: Option<Vec<String>> = ids.iter().map(id).collect();
    ids.ok_or_else(|| "it holds something else than ids".into())
}

struct VoltaRecord {
    path: PathBuf,
    id: String,
    pickle: Vec<u8>,
}

impl SourceRecord for VoltaRecord {
    fn id(&self) -> &str {
        &self.id
    }

    fn size(&self) -> usize {
        self.pickle.len()
    }

    fn decode(self: Box<Self>) -> Result<(String, Regions), RecordError> {
        let decoded = unpickle::read_within(&self.pickle, MAX_VALUES)
            .map_err(|error| error.to_string())
            .and_then(|value| regions(&value));
        match decoded {
            Ok(regions) => Ok((self.id, regions)),
            Err(reason) => {
                Err(RecordError { path: self.path, key: self.id, reason, raw: self.pickle })
            }
        }
    }

    fn raw(&self) -> &[u8] {
        &self.pickle
    }
}

/// The regions in a record's dictionary; also of the npy folders, whose dictionaries have the same fields.
pub(super) fn regions(record: &Value) -> Result<Regions, String> {
    if !matches!(record, Value::Dict(_)) {
        return Err("it is no dictionary".into());
    }
    let box_field = field(record, &["boxes", "bbox"]).ok_or("it has no `boxes`")?;
    let feature_field = field(record, &["features"]).ok_or("it has no `features`")?;
    let count = field(record, &["num_boxes"]).map(|value| numbers::integer(value, "num_boxes"));
    let count = count.transpose()?;
    let boxes = match box_field {
        Value::Array(array) => numbers::floats(array, "boxes")?,
        other => base64::boxes(text(other, "boxes")?, count.and_then(|n| usize::try_from(n).ok()))?,
    };
    let (features, rounding) = match feature_field {
        Value::Array(array) => numbers::features(array, "features")?,
        other => (floats(other, "features")?, RoundingError::default()),
    };
    let (boxes, rest) = boxes.as_chunks::<4>();
    if !rest.is_empty() || boxes.is_empty() {
        return Err(format!("its `boxes` hold {} numbers", 4 * boxes.len() + rest.len()));
    }
    if let Some(count) = count.filter(|count| *count != boxes.len() as i64) {
        return Err(format!("`num_boxes` is {count}, its `boxes` are {}", boxes.len()));
    }
    let n = boxes.len();
    check_rows(box_field, "boxes", n)?;
    if !features.len().is_multiple_of(n) {
        return Err(format!("its `features` hold {} numbers for {n} boxes", features.len()));
    }
    check_rows(feature_field, "features", n)?;
    let regions = Regions {
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
        extents: None,
        class_probabilities: match field(record, &["cls_prob"]) {
            Some(value) => {
                check_rows(value, "cls_prob", n)?;
                Some(floats(value, "cls_prob")?)
            }
            None => None,
        },
        rounding,
    };
    regions.check()?;
    Ok(regions)
}

/// Refuses an array that is no matrix with a row for each of `n` boxes, whose numbers would be taken for others. What has no
/// shape, base64 and plain lists, is divided as it comes.
fn check_rows(value: &Value, name: &str, n: usize) -> Result<(), String> {
    match value {
        Value::Array(array) => super::check_rows(array.shape(), name, n),
        _ => Ok(()),
    }
}

/// The first of several spellings of a field that is there and not `None`.
fn field<'a>(record: &'a Value, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|name| record.get(name)).filter(|value| !matches!(value, Value::None))
}

/// How a record spells a field, or its first spelling.
fn spelling<'a>(record: &Value, names: &[&'a str]) -> &'a str {
    names.iter().find(|name| field(record, &[name]).is_some()).unwrap_or(&names[0])
}

fn size(record: &Value, names: &[&str]) -> Result<u32, String> {
    let name = names.iter().find(|name| record.get(name).is_some()).copied();
    let (Some(name), Some(value)) = (name, field(record, names)) else {
        return Err(format!("it has no `{}`", names.join("` or `")));
    };
    let value = numbers::integer(value, name)?;
    u32::try_from(value).map_err(|_| format!("its `{name}` is {value}"))
}

fn labels(
    record: &Value,
    ids: &[&str],
    confidences: &[&str],
    n: usize,
) -> Result<Option<Labels>, String> {
    let labels = Labels {
        ids: field(record, ids)
            .map_or(Ok(Vec::new()), |value| integers(value, spelling(record, ids)))?,
        confidences: field(record, confidences)
            .map_or(Ok(Vec::new()), |value| floats(value, spelling(record, confidences)))?,
    };
    for (length, names) in [(labels.ids.len(), ids), (labels.confidences.len(), confidences)] {
        if length != 0 && length != n {
            let name = spelling(record, names);
            return Err(format!("its `{name}` are {length} for {n} boxes"));
        }
    }
    Ok((labels != Labels::default()).then_some(labels))
}

fn floats(value: &Value, name: &str) -> Result<Vec<f32>, String> {
    match value {
        Value::Array(array) => numbers::floats(array, name),
        other => base64::decode(text(other, name)?, name),
    }
}

fn integers(value: &Value, name: &str) -> Result<Vec<i64>, String> {
    match value {
        Value::Array(array) => numbers::integers(array, name),
        other => base64::decode(text(other, name)?, name),
    }
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a [u8], String> {
    value.as_bytes().ok_or_else(|| format!("its {name} are neither an array nor base64"))
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

/// Writes an LMDB directory that VOLTA's Python readers read.
pub struct VoltaSink {
    writer: DumpWriter,
    encoding: VoltaEncoding,
    keys: Vec<Value>,
    left_out: LeftOut,
}

impl VoltaSink {
    /// Begins a directory, which must not exist yet.
    ///
    /// # Errors
    /// If it exists or cannot be made.
    pub fn create(path: &Path, encoding: VoltaEncoding) -> Result<VoltaSink, FormatError> {
        let writer = DumpWriter::create(path)?;
        Ok(VoltaSink { writer, encoding, keys: Vec::new(), left_out: LeftOut::new() })
    }

    fn record(&self, id: &str, regions: &Regions) -> Result<Value, unpickle::Fault> {
        let n = regions.len();
        let text = |name: &str| Value::Str(name.into());
        let floats = |values: &[f32], shape: Vec<usize>| match self.encoding {
            VoltaEncoding::Base64 => Ok(Value::Bytes(base64::encode(values).into_bytes().into())),
            VoltaEncoding::Raw => float_array(values, shape),
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
            if !labels.ids.is_empty() {
                fields.push((text(ids), integer_array(&labels.ids)?));
            }
            if !labels.confidences.is_empty() {
                fields.push((text(confidences), float_array(&labels.confidences, vec![n])?));
            }
        }
        if let Some(values) = regions.class_probabilities.as_ref().filter(|_| n > 0) {
            fields.push((text("cls_prob"), float_array(values, vec![n, values.len() / n])?));
        }
        Ok(Value::Dict(fields))
    }
}

impl FeatureSink for VoltaSink {
    fn append(&mut self, id: &str, regions: &Regions) -> Result<(), FormatError> {
        let unwritable = |what: String| FormatError::Unwritable {
            path: self.writer.path().to_owned(),
            id: id.to_owned(),
            what,
        };
        if id.as_bytes() == KEYS {
            return Err(unwritable("`keys` is the name of the list of ids; use --rename".into()));
        }
        let pickle = self.record(id, regions).and_then(|record| unpickle::write(&record));
        let pickle = pickle.map_err(|fault| unwritable(fault.to_string()))?;
        self.writer.put_image(id, "", pickle)?;
        self.left_out.note("extents", regions.extents.is_some());
        self.keys.push(Value::Bytes(id.as_bytes().into()));
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), FormatError> {
        let keys = unpickle::write(&Value::List(std::mem::take(&mut self.keys)));
        let keys = keys.map_err(|fault| FormatError::Malformed {
            path: self.writer.path().to_owned(),
            what: fault.to_string(),
        })?;
        self.writer.put(KEYS.to_vec(), keys)?;
        self.writer.finish()
    }

    fn left_out(&self) -> BTreeMap<&'static str, u64> {
        self.left_out.0.clone()
    }
}

fn array(dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Value, unpickle::Fault> {
    NdArray::new(dtype, shape, bytes.into()).map(Value::Array)
}

/// A NumPy array of f32.
pub(super) fn float_array(values: &[f32], shape: Vec<usize>) -> Result<Value, unpickle::Fault> {
    array(Dtype::F32, shape, values.iter().flat_map(|x| x.to_le_bytes()).collect())
}

/// A NumPy array of i64, `[n]`.
pub(super) fn integer_array(values: &[i64]) -> Result<Value, unpickle::Fault> {
    array(Dtype::I64, vec![values.len()], values.iter().flat_map(|x| x.to_le_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of two boxes and features of four values with these shapes.
    fn record(boxes: Value, features: Value) -> Result<Regions, String> {
        let fields = [
            ("img_w", Value::Int(9)),
            ("img_h", Value::Int(9)),
            ("boxes", boxes),
            ("features", features),
        ];
        let fields = fields.map(|(name, value)| (Value::Str(name.into()), value));
        regions(&Value::Dict(fields.into()))
    }

    #[test]
    fn arrays_are_read_in_their_own_shape_only() {
        let numbers: Vec<f32> = (0..8u8).map(f32::from).collect();
        let array = |shape: &[usize]| float_array(&numbers, shape.into()).unwrap();
        let sound = record(array(&[2, 4]), array(&[2, 4])).unwrap();
        assert_eq!((sound.len(), sound.dim), (2, 4));
        assert_eq!(record(array(&[8]), array(&[8])).unwrap(), sound);
        let text = || Value::Bytes(base64::encode(&numbers).into_bytes().into());
        assert_eq!(record(text(), text()).unwrap(), sound);
        for (boxes, features, name) in [
            ([4, 2].as_slice(), [2, 4].as_slice(), "`boxes` have the shape [4, 2]"),
            (&[1, 8], &[2, 4], "`boxes` have"),
            (&[2, 4], &[4, 2], "`features` have the shape [4, 2]"),
            (&[2, 4], &[2, 2, 2], "`features` have"),
        ] {
            let error = record(array(boxes), array(features)).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn boxes_of_whole_numbers_are_read_to_the_value() {
        let features = || float_array(&[0.5; 4], vec![2, 2]).unwrap();
        let boxes = |last: i64| {
            let corners = [0i64, 1, 5, 6, 2, 3, 7, last];
            let bytes = corners.iter().flat_map(|x| x.to_le_bytes()).collect();
            array(Dtype::I64, vec![2, 4], bytes).unwrap()
        };
        let read = record(boxes(9), features()).unwrap();
        assert_eq!(read.boxes, [[0.0, 1.0, 5.0, 6.0], [2.0, 3.0, 7.0, 9.0]]);
        let error = record(boxes((1 << 24) + 1), features()).unwrap_err();
        assert!(error.contains("16777217, which f32 cannot hold exactly"), "{error}");
    }

    #[test]
    fn a_field_that_is_wrong_is_named_as_the_record_spells_it() {
        let said = |name: &str, values: &[f32]| {
            let value = Value::Bytes(base64::encode(values).into_bytes().into());
            let record = Value::Dict(vec![(Value::Str(name.into()), value)]);
            labels(&record, &["obj_id", "objects_id"], &["obj_conf", "objects_conf"], 2)
                .unwrap_err()
        };
        for name in ["obj_conf", "objects_conf"] {
            assert_eq!(said(name, &[0.5; 4]), format!("its `{name}` are 4 for 2 boxes"));
        }
        assert_eq!(said("objects_id", &[0.5; 6]), "its `objects_id` are 3 for 2 boxes");
        assert!(said("objects_id", &[0.5; 5]).contains("objects_id are 20 bytes"));
    }
}
