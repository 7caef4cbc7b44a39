//! UNITER's `.npz` files: a zip of `norm_bb` `[n, 6]`, `features` `[n, dim]`, `conf` `[n]` and `soft_labels`
//! `[n, classes]`, in f32 or f16. Boxes are relative to an image whose size is not stored.

use std::collections::BTreeMap;
use std::io::{BufReader, Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};

use half::f16;
use unpickle::NdArray;
use zip::result::ZipResult;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::folder::Folder;
use super::{FeatureSink, FeatureSource, FormatError, LeftOut, MAX_ARRAY_BYTES, RecordError};
use super::{Records, SourceInfo, SourceRecord, npy, numbers};
use crate::precision::check_range;
use crate::{Labels, Precision, Regions};

/// Arrays of other names that are told, at most.
const NAMED: usize = 8;

/// The arrays of one image as UNITER's files have them.
#[derive(Debug, Default)]
pub(super) struct UniterArrays {
    pub(super) norm_bb: Option<NdArray>,
    pub(super) features: Option<NdArray>,
    pub(super) conf: Option<NdArray>,
    pub(super) soft_labels: Option<NdArray>,
    /// What else there is, by name.
    pub(super) others: Vec<String>,
}

/// What is missing, and what is there instead.
fn lacks(name: &str, others: &[String]) -> String {
    match others.is_empty() {
        true => format!("it has no `{name}`"),
        false => format!("it has no `{name}`, as UNITER's have, but `{}`", others.join("`, `")),
    }
}

impl UniterArrays {
    /// Where an array of this name goes; others are of no interest.
    pub(super) fn slot(&mut self, name: &str) -> Option<&mut Option<NdArray>> {
        match name {
            "norm_bb" => Some(&mut self.norm_bb),
            "features" => Some(&mut self.features),
            "conf" => Some(&mut self.conf),
            "soft_labels" => Some(&mut self.soft_labels),
            _ => None,
        }
    }

    /// The regions, of which only the first `keep` are taken if it is given.
    pub(super) fn into_regions(self, keep: Option<usize>) -> Result<Regions, String> {
        let norm_bb = self.norm_bb.ok_or_else(|| lacks("norm_bb", &self.others))?;
        let features = self.features.ok_or("it has no `features`")?;
        let [rows, columns @ (4 | 6 | 7)] = *norm_bb.shape() else {
            return Err(format!("its `norm_bb` has the shape {:?}", norm_bb.shape()));
        };
        let [feature_rows, dim] = *features.shape() else {
            return Err(format!("its `features` have the shape {:?}", features.shape()));
        };
        if rows != feature_rows || rows == 0 {
            return Err(format!("{feature_rows} rows of `features` for {rows} of `norm_bb`"));
        }
        let n = keep.unwrap_or(rows);
        if n > rows || n == 0 {
            return Err(format!("it has {rows} boxes, the list of counts says {n}"));
        }
        let floats = |array: &NdArray, name: &str, width: usize| {
            let mut values = numbers::floats(array, name)?;
            values.truncate(n * width);
            Ok::<_, String>(values)
        };
        let corners = floats(&norm_bb, "norm_bb", columns)?;
        let conf = match self.conf {
            Some(conf) if conf.shape().iter().product::<usize>() == rows => {
                floats(&conf, "conf", 1)?
            }
            Some(conf) => return Err(format!("its `conf` has the shape {:?}", conf.shape())),
            None => Vec::new(),
        };
        let class_probabilities = match self.soft_labels {
            Some(labels) => match *labels.shape() {
                [label_rows, classes] if label_rows == rows => {
                    Some(floats(&labels, "soft_labels", classes)?)
                }
                _ => return Err(format!("its `soft_labels` have the shape {:?}", labels.shape())),
            },
            None => None,
        };
        let (mut values, rounding) = numbers::features(&features, "features")?;
        values.truncate(n * dim);
        let regions = Regions {
            width: 1,
            height: 1,
            boxes: corners.chunks(columns).map(|row| [row[0], row[1], row[2], row[3]]).collect(),
            features: values,
            dim,
            objects: (!conf.is_empty()).then_some(Labels { ids: Vec::new(), confidences: conf }),
            attributes: None,
            extents: (columns > 4)
                .then(|| corners.chunks(columns).map(|row| [row[4], row[5]]).collect()),
            class_probabilities,
            rounding,
        };
        regions.check()?;
        Ok(regions)
    }
}

/// Archives in files and in memory are one type, so that what reads them is compiled once.
trait Seekable: Read + Seek {}

impl<T: Read + Seek> Seekable for T {}

fn open(archive: &mut dyn Seekable) -> ZipResult<ZipArchive<&mut dyn Seekable>> {
    ZipArchive::new(archive)
}

/// Bytes that the entries of an `.npz` file say they unpack to; [`parse`] takes no more.
pub(super) fn unpacked_size(mut archive: impl Read + Seek) -> usize {
    let declared = open(&mut archive).ok().and_then(|archive| archive.decompressed_size());
    declared.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// Bytes of all arrays of an image that are read: two of the largest.
const MAX_IMAGE_BYTES: u64 = 2 * MAX_ARRAY_BYTES as u64;

/// Reads the arrays out of the bytes of an `.npz` file; unknown ones are passed over.
pub(super) fn parse(bytes: &[u8]) -> Result<UniterArrays, String> {
    let mut bytes = Cursor::new(bytes);
    let mut archive = open(&mut bytes).map_err(|error| error.to_string())?;
    let (mut arrays, mut left) = (UniterArrays::default(), MAX_IMAGE_BYTES);
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(|error| error.to_string())?;
        let name = entry.name().map_err(|error| error.to_string())?;
        let name = name.trim_end_matches(".npy").to_owned();
        let Some(slot) = arrays.slot(&name) else {
            if arrays.others.len() < NAMED {
                arrays.others.push(name);
            }
            continue;
        };
        if slot.is_some() {
            return Err(format!("it has `{name}` twice"));
        }
        let mut unpacked = Vec::new();
        // A declared size is no promise: what really comes out is counted.
        let limit = entry.size().min(MAX_ARRAY_BYTES as u64).min(left);
        entry
            .take(limit + 1)
            .read_to_end(&mut unpacked)
            .map_err(|error| format!("`{name}`: {error}"))?;
        if unpacked.len() as u64 > limit {
            return Err(format!("`{name}` unpacks to more than {limit} bytes"));
        }
        left -= unpacked.len() as u64;
        *slot = Some(npy::parse(&unpacked).map_err(|what| format!("`{name}`: {what}"))?);
    }
    Ok(arrays)
}

/// An array as UNITER writes it: the dtype's name, the shape, the items.
pub(super) type NamedArray = (&'static str, Vec<usize>, Vec<u8>);

/// UNITER's arrays of an image, in f32 or f16.
///
/// # Errors
/// A value that f16 cannot hold.
pub(super) fn arrays_of(regions: &Regions, half: bool) -> Result<Vec<NamedArray>, String> {
    if half {
        check_range(&regions.features, regions.dim, Precision::F16)?;
    }
    let n = regions.len();
    let bytes = |name: &str, values: &mut dyn Iterator<Item = f32>| -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        for value in values {
            if !half {
                bytes.extend(value.to_le_bytes());
                continue;
            }
            let half = f16::from_f32(value);
            if value.is_finite() && !half.is_finite() {
                return Err(format!("its `{name}` hold {value}, which f16 cannot hold"));
            }
            bytes.extend(half.to_le_bytes());
        }
        Ok(bytes)
    };
    let (w, h) = (regions.width as f32, regions.height as f32);
    let norm_bb = (0..n).flat_map(|region| {
        let [x1, y1, x2, y2] = regions.boxes[region];
        let [x1, y1, x2, y2] = [x1 / w, y1 / h, x2 / w, y2 / h];
        let [width, height] = match &regions.extents {
            Some(extents) => extents[region],
            None => [x2 - x1, y2 - y1],
        };
        [x1, y1, x2, y2, width, height]
    });
    let mut arrays = vec![
        ("norm_bb", vec![n, 6], bytes("norm_bb", &mut norm_bb.into_iter())?),
        (
            "features",
            vec![n, regions.dim],
            bytes("features", &mut regions.features.iter().copied())?,
        ),
    ];
    if let Some(objects) = regions.objects.as_ref().filter(|o| !o.confidences.is_empty()) {
        arrays.push(("conf", vec![n], bytes("conf", &mut objects.confidences.iter().copied())?));
    }
    if let Some(values) = regions.class_probabilities.as_ref().filter(|_| n > 0) {
        arrays.push((
            "soft_labels",
            vec![n, values.len() / n],
            bytes("soft_labels", &mut values.iter().copied())?,
        ));
    }
    Ok(arrays)
}

/// The bytes of an `.npz` file.
pub(super) fn serialise(
    arrays: &[NamedArray],
    half: bool,
    method: CompressionMethod,
) -> ZipResult<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, shape, items) in arrays {
        archive.start_file(format!("{name}.npy"), options)?;
        archive.write_all(&npy::serialise(if half { "<f2" } else { "<f4" }, shape, items))?;
    }
    archive.finish().map(Cursor::into_inner)
}

/// Notes what UNITER's files have no place for.
pub(super) fn note_left_out(left_out: &mut LeftOut, regions: &Regions) {
    left_out.note("object ids", regions.objects.as_ref().is_some_and(|o| !o.ids.is_empty()));
    left_out.note("attributes", regions.attributes.is_some());
    left_out.note("image size", !regions.is_relative());
}

/// A folder of `<image>.npz`, searched with all folders below it.
pub struct NpzFolder {
    info: SourceInfo,
    files: Vec<PathBuf>,
}

impl NpzFolder {
    /// Finds the files.
    ///
    /// # Errors
    /// If a folder cannot be listed.
    pub fn open(path: &Path) -> Result<NpzFolder, FormatError> {
        Ok(NpzFolder::of(path, Folder::whole(path)?.archives))
    }

    /// One file alone.
    ///
    /// # Errors
    /// None yet; a file that cannot be read is an error of its record.
    pub fn file(path: &Path) -> Result<NpzFolder, FormatError> {
        Ok(NpzFolder::of(path, vec![path.to_owned()]))
    }

    fn of(path: &Path, files: Vec<PathBuf>) -> NpzFolder {
        let fingerprint = super::fingerprint_of_all(&files);
        let count = Some(files.len() as u64);
        let info = SourceInfo { format: "npz", path: path.to_owned(), count, fingerprint };
        NpzFolder { info, files }
    }
}

impl FeatureSource for NpzFolder {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn records(self: Box<Self>) -> Result<Records, FormatError> {
        Ok(Box::new(self.files.into_iter().map(|file| {
            let name = file.file_stem().unwrap_or_default();
            match name.to_str() {
                Some(id) => {
                    Ok(Box::new(NpzRecord { id: id.to_owned(), file }) as Box<dyn SourceRecord>)
                }
                None => {
                    Err(RecordError::new(&file, name.to_string_lossy(), "its name is not UTF-8"))
                }
            }
        })))
    }
}

struct NpzRecord {
    id: String,
    file: PathBuf,
}

impl SourceRecord for NpzRecord {
    fn id(&self) -> &str {
        &self.id
    }

    fn size(&self) -> usize {
        // What cannot be opened is told when it is decoded.
        let Ok(file) = std::fs::File::open(&self.file) else { return 0 };
        let packed = file.metadata().map_or(0, |metadata| metadata.len() as usize);
        unpacked_size(BufReader::new(file)).max(packed)
    }

    fn decode(self: Box<Self>) -> Result<(String, Regions), RecordError> {
        let failed = |reason| RecordError::new(&self.file, self.id.clone(), reason);
        let bytes = npy::read(&self.file).map_err(failed)?;
        match parse(&bytes).and_then(|arrays| arrays.into_regions(None)) {
            Ok(regions) => Ok((self.id, regions)),
            Err(reason) => Err(RecordError { raw: bytes, ..failed(reason) }),
        }
    }
}

/// Writes a folder of `<image>.npz`, stored, as `numpy.savez` does.
pub struct NpzSink {
    folder: PathBuf,
    half: bool,
    left_out: LeftOut,
}

impl NpzSink {
    /// Begins a folder, which must not exist yet; `half` writes f16.
    ///
    /// # Errors
    /// If it exists or cannot be made.
    pub fn create(folder: &Path, half: bool) -> Result<NpzSink, FormatError> {
        std::fs::create_dir(folder).map_err(FormatError::io(folder))?;
        Ok(NpzSink { folder: folder.to_owned(), half, left_out: LeftOut::new() })
    }
}

impl FeatureSink for NpzSink {
    fn append(&mut self, id: &str, regions: &Regions) -> Result<(), FormatError> {
        let path = super::file_of(&self.folder, id, ".npz")?;
        let unwritable =
            |what| FormatError::Unwritable { path: self.folder.clone(), id: id.to_owned(), what };
        let arrays = arrays_of(regions, self.half).map_err(unwritable)?;
        let bytes = serialise(&arrays, self.half, CompressionMethod::Stored)
            .map_err(|error| unwritable(error.to_string()))?;
        let file = std::fs::File::create_new(&path);
        file.and_then(|mut file| file.write_all(&bytes)).map_err(FormatError::io(&path))?;
        note_left_out(&mut self.left_out, regions);
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
