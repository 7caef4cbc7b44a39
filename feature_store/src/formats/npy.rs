//! NumPy's `.npy` files, and folders of `<image>.npy` with `<image>_info.npy` (Facebook's extraction script).

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use unpickle::{Dtype, NdArray, Value};

use super::folder::Folder;
use super::volta::{MAX_VALUES, float_array, integer_array, regions};
use super::{FeatureSink, FeatureSource, FormatError, LeftOut, MAX_ARRAY_BYTES, RecordError};
use super::{Records, SourceInfo, SourceRecord};
use crate::Regions;

const MAGIC: &[u8] = b"\x93NUMPY";
const INFO: &str = "_info.npy";

/// A parsed `.npy` header.
struct Header<'a> {
    /// `descr`, such as `<f4` or `|O`.
    descr: &'a str,
    fortran: bool,
    shape: Vec<usize>,
    /// Where the items begin.
    start: usize,
}

/// The array in the bytes of a `.npy` file.
///
/// # Errors
/// What is wrong with the file; a shape beyond its bytes is.
pub(super) fn parse(bytes: &[u8]) -> Result<NdArray, String> {
    let header = header(bytes)?;
    let (dtype, big_endian) = Dtype::from_name(header.descr)
        .ok_or_else(|| format!("it holds items of type `{}`", header.descr))?;
    let length = header.shape.iter().try_fold(dtype.size(), |size, &n| size.checked_mul(n));
    let items = length.and_then(|length| bytes[header.start..].get(..length));
    let items = items.ok_or_else(|| format!("it ends before its {:?} items do", header.shape))?;
    NdArray::from_layout(dtype, header.shape, items.into(), big_endian, header.fortran)
        .map_err(|fault| fault.to_string())
}

/// The one object in a 0-d `.npy` file of objects: a pickle, which is read and never run.
fn parse_object(bytes: &[u8]) -> Result<Value, String> {
    let header = header(bytes)?;
    if header.descr != "|O" {
        return Err(format!("it holds items of type `{}`, not an object", header.descr));
    }
    let value = unpickle::read_within(&bytes[header.start..], MAX_VALUES)
        .map_err(|error| error.to_string())?;
    match value {
        Value::ObjectArray { items, .. } if items.len() == 1 => {
            Ok(items.into_iter().next().unwrap_or(Value::None))
        }
        other => Ok(other),
    }
}

fn header(bytes: &[u8]) -> Result<Header<'_>, String> {
    let version = bytes.strip_prefix(MAGIC).and_then(|rest| rest.first());
    let (length, from) = match (version, bytes) {
        (Some(1), [_, _, _, _, _, _, _, _, a, b, ..]) => {
            (u32::from(u16::from_le_bytes([*a, *b])), 10)
        }
        (Some(2 | 3), [_, _, _, _, _, _, _, _, a, b, c, d, ..]) => {
            (u32::from_le_bytes([*a, *b, *c, *d]), 12)
        }
        _ => return Err("it does not begin as .npy files do".into()),
    };
    let start = from + length as usize;
    let text = bytes.get(from..start).ok_or("it ends inside its header")?;
    let text = str::from_utf8(text).map_err(|_| "its header is not text")?;
    let value_of = |key: &str| {
        let after = text.split_once(&format!("'{key}'"))?.1;
        Some(after.trim_start().strip_prefix(':')?.trim_start())
    };
    let malformed = || format!("its header is malformed: {}", text.trim());
    let descr =
        value_of("descr").and_then(|value| value.strip_prefix('\'')).ok_or_else(malformed)?;
    let descr = descr.split_once('\'').ok_or_else(malformed)?.0;
    let fortran = value_of("fortran_order").ok_or_else(malformed)?.starts_with("True");
    let shape =
        value_of("shape").and_then(|value| value.strip_prefix('(')).ok_or_else(malformed)?;
    let shape = shape.split_once(')').ok_or_else(malformed)?.0;
    let shape = shape
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty())
        .map(|size| size.parse().map_err(|_| malformed()))
        .collect::<Result<_, _>>()?;
    Ok(Header { descr, fortran, shape, start })
}

/// The bytes of a `.npy` file.
pub(super) fn serialise(descr: &str, shape: &[usize], items: &[u8]) -> Vec<u8> {
    let shape = match shape {
        [one] => format!("({one},)"),
        sizes => format!("({})", sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    };
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    // Items begin at a multiple of 64, after a line end.
    let padding = (MAGIC.len() + 4 + text.len() + 1).next_multiple_of(64)
        - (MAGIC.len() + 4 + text.len() + 1);
    text.push_str(&" ".repeat(padding));
    text.push('\n');
    let mut bytes = [MAGIC, &[1, 0], &(text.len() as u16).to_le_bytes(), text.as_bytes()].concat();
    bytes.extend(items);
    bytes
}

/// A folder of `<image>.npy` and `<image>_info.npy`, searched with all folders below it.
pub struct NpyFolder {
    info: SourceInfo,
    infos: Vec<PathBuf>,
    /// Arrays without a file that says what they are of.
    undescribed: Vec<PathBuf>,
}

impl NpyFolder {
    /// Finds the files.
    ///
    /// # Errors
    /// If a folder cannot be listed.
    pub fn open(path: &Path) -> Result<NpyFolder, FormatError> {
        let Folder { infos, mut arrays, .. } = Folder::whole(path)?;
        let files: Vec<PathBuf> = infos.iter().chain(&arrays).cloned().collect();
        let fingerprint = super::fingerprint_of_all(&files);
        let count = Some(infos.len() as u64);
        let described: HashSet<PathBuf> = infos.iter().map(|info| array_of(info)).collect();
        arrays.retain(|array| !described.contains(array));
        let info = SourceInfo { format: "npy", path: path.to_owned(), count, fingerprint };
        Ok(NpyFolder { info, infos, undescribed: arrays })
    }
}

/// The file of features that belongs to one of the rest.
fn array_of(info: &Path) -> PathBuf {
    let name = info.to_string_lossy();
    PathBuf::from(format!("{}.npy", name.strip_suffix(INFO).unwrap_or(&name)))
}

impl FeatureSource for NpyFolder {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn records(self: Box<Self>) -> Result<Records, FormatError> {
        let undescribed = self.undescribed.into_iter().map(|array| {
            let id = array.file_stem().unwrap_or_default().to_string_lossy();
            let what = format!("there is no {id}{INFO} beside it, which has its boxes");
            Err(RecordError::new(&array, id, what))
        });
        let described = self.infos.into_iter().map(|info| {
            let name = info.file_name().unwrap_or_default();
            match name.to_str().and_then(|name| name.strip_suffix(INFO)) {
                Some(id) => {
                    Ok(Box::new(NpyRecord { id: id.to_owned(), info }) as Box<dyn SourceRecord>)
                }
                None => {
                    Err(RecordError::new(&info, name.to_string_lossy(), "its name is not UTF-8"))
                }
            }
        });
        Ok(Box::new(described.chain(undescribed)))
    }
}

struct NpyRecord {
    id: String,
    info: PathBuf,
}

impl NpyRecord {
    fn regions(&self) -> Result<Regions, RecordError> {
        let features_file = self.info.with_file_name(format!("{}.npy", self.id));
        let features = self.read_as(&features_file, parse)?;
        self.read_as(&self.info, |bytes| {
            let Value::Dict(mut fields) = parse_object(bytes)? else {
                return Err("it holds no dictionary".into());
            };
            fields.push((Value::Str("features".into()), Value::Array(features)));
            regions(&Value::Dict(fields))
        })
    }

    /// What one of its files holds; an error has the bytes of that file.
    fn read_as<T>(
        &self,
        file: &Path,
        parse: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<T, RecordError> {
        let failed = |reason| RecordError::new(file, self.id.clone(), reason);
        let bytes = read(file).map_err(failed)?;
        parse(&bytes).map_err(|reason| RecordError { raw: bytes, ..failed(reason) })
    }
}

impl SourceRecord for NpyRecord {
    fn id(&self) -> &str {
        &self.id
    }

    fn size(&self) -> usize {
        [&self.info, &array_of(&self.info)]
            .iter()
            .map(|file| std::fs::metadata(file).map_or(0, |metadata| metadata.len() as usize))
            .sum()
    }

    fn decode(self: Box<Self>) -> Result<(String, Regions), RecordError> {
        self.regions().map(|regions| (self.id, regions))
    }
}

/// A file's bytes, within reason.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    // Opening a pipe would wait for somebody to write to it.
    if path.exists() && !path.is_file() {
        return Err("it is no regular file".into());
    }
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(MAX_ARRAY_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() > MAX_ARRAY_BYTES {
        return Err(format!("it has more than {MAX_ARRAY_BYTES} bytes"));
    }
    Ok(bytes)
}

/// Writes a folder of `<image>.npy` and `<image>_info.npy`.
pub struct NpySink {
    folder: PathBuf,
    left_out: LeftOut,
}

impl NpySink {
    /// Begins a folder, which must not exist yet.
    ///
    /// # Errors
    /// If it exists or cannot be made.
    pub fn create(folder: &Path) -> Result<NpySink, FormatError> {
        std::fs::create_dir(folder).map_err(FormatError::io(folder))?;
        Ok(NpySink { folder: folder.to_owned(), left_out: LeftOut::new() })
    }
}

/// The dictionary that goes with an image's features.
fn info_of(regions: &Regions) -> Result<Value, unpickle::Fault> {
    let n = regions.len();
    let text = |name: &str| Value::Str(name.into());
    let ids = regions.objects.as_ref().map(|labels| &labels.ids).filter(|ids| !ids.is_empty());
    Ok(Value::Dict(vec![
        (text("bbox"), float_array(regions.boxes.as_flattened(), vec![n, 4])?),
        (text("num_boxes"), Value::Int(n as i64)),
        (text("objects"), ids.map_or(Ok(Value::None), |ids| integer_array(ids))?),
        (text("image_width"), Value::Int(i64::from(regions.width))),
        (text("image_height"), Value::Int(i64::from(regions.height))),
        (
            text("cls_prob"),
            match regions.class_probabilities.as_ref().filter(|_| n > 0) {
                Some(values) => float_array(values, vec![n, values.len() / n])?,
                None => Value::None,
            },
        ),
    ]))
}

impl FeatureSink for NpySink {
    fn append(&mut self, id: &str, regions: &Regions) -> Result<(), FormatError> {
        let refused =
            |what| FormatError::Unwritable { path: self.folder.clone(), id: id.to_owned(), what };
        if let Some(other) = id.strip_suffix("_info") {
            let what =
                format!("{id}.npy would be what is known of the image `{other}`; use --rename");
            return Err(refused(what));
        }
        // Of an image that is refused nothing is written, so both names are looked at first.
        let files = [".npy", INFO].map(|suffix| super::file_of(&self.folder, id, suffix));
        let unwritable = |fault: unpickle::Fault| refused(fault.to_string());
        let object = Value::ObjectArray {
            shape: Vec::new(),
            items: vec![info_of(regions).map_err(unwritable)?],
        };
        let pickle = unpickle::write(&object).map_err(unwritable)?;
        let features: Vec<u8> = regions.features.iter().flat_map(|x| x.to_le_bytes()).collect();
        let arrays = [
            serialise("<f4", &[regions.len(), regions.dim], &features),
            serialise("|O", &[], &pickle),
        ];
        let [array, info] = files;
        for (path, bytes) in [array?, info?].into_iter().zip(arrays) {
            let file = std::fs::File::create_new(&path);
            file.and_then(|mut file| file.write_all(&bytes)).map_err(FormatError::io(&path))?;
        }
        let confidences = regions.objects.as_ref().is_some_and(|o| !o.confidences.is_empty());
        self.left_out.note("object confidences", confidences);
        self.left_out.note("attributes", regions.attributes.is_some());
        self.left_out.note("extents", regions.extents.is_some());
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), FormatError> {
        let folder = std::fs::File::open(&self.folder).map_err(FormatError::io(&self.folder))?;
        folder.sync_all().map_err(FormatError::io(&self.folder))
    }

    fn left_out(&self) -> BTreeMap<&'static str, u64> {
        self.left_out.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_serialised_is_parsed() {
        let items: Vec<u8> = (0..24).collect();
        for shape in [vec![24], vec![2, 12], vec![2, 3, 4]] {
            let bytes = serialise("|u1", &shape, &items);
            assert_eq!((bytes.len() - 24) % 64, 0);
            let array = parse(&bytes).unwrap();
            assert_eq!((array.shape(), array.bytes()), (shape.as_slice(), items.as_slice()));
        }
        assert!(parse(&serialise("<f4", &[1 << 40, 1 << 40], &items)).is_err());
        assert!(parse(&serialise("<f4", &[7], &items)).unwrap_err().contains("ends before"));
        assert!(parse(&serialise("|O", &[], &items)).unwrap_err().contains("|O"));
    }
}
