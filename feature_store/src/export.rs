//! From any source to a foreign format: written beside the target, renamed into place when complete.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use crate::chunks::{Chunks, Found};
use crate::convert::{ConvertError, Findings, OnError, Progress, SkippedRecord, Tally};
use crate::formats::hdf5::{Hdf5Sink, IndexedHdf5Sink};
use crate::formats::npy::NpySink;
use crate::formats::npz::NpzSink;
use crate::formats::tsv::{self, TsvCompression, TsvOrder, TsvSink};
use crate::formats::uniter::{UniterEncoding, UniterSink};
use crate::formats::volta::{VoltaEncoding, VoltaSink};
use crate::formats::{FeatureSink, FeatureSource, FormatError, RecordError};
use crate::lmdb::LmdbError;
use crate::target::{self, Claim};
use crate::validate::{Finding, check_regions};
use crate::{MAX_ID_BYTES, Regions, RoundingError, StoreError, record, writer};

/// A foreign format to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignFormat {
    /// VOLTA's LMDB directory.
    Volta(VoltaEncoding),
    /// UNITER's image LMDB with its list of counts; `half` for f16.
    Uniter {
        /// How values are written.
        encoding: UniterEncoding,
        /// f16 instead of f32.
        half: bool,
    },
    /// A folder of UNITER's npz files.
    Npz {
        /// f16 instead of f32.
        half: bool,
    },
    /// A TSV file.
    Tsv(TsvOrder, TsvCompression),
    /// VOLTA's HDF5 file.
    Hdf5,
    /// An HDF5 file with one dataset per field.
    IndexedHdf5,
    /// A folder of `.npy` and `_info.npy` files.
    Npy,
}

impl ForeignFormat {
    /// What [`SourceInfo::format`](crate::formats::SourceInfo::format) says of what is written.
    pub fn name(self) -> &'static str {
        match self {
            ForeignFormat::Volta(_) => "volta-lmdb",
            ForeignFormat::Uniter { .. } => "uniter-lmdb",
            ForeignFormat::Npz { .. } => "npz",
            ForeignFormat::Tsv(..) => "tsv",
            ForeignFormat::Hdf5 | ForeignFormat::IndexedHdf5 => "hdf5",
            ForeignFormat::Npy => "npy",
        }
    }

    /// Begins an output, which must not exist yet.
    ///
    /// # Errors
    /// If it exists or cannot be made.
    pub fn create(self, path: &Path) -> Result<Box<dyn FeatureSink>, FormatError> {
        Ok(match self {
            ForeignFormat::Volta(encoding) => Box::new(VoltaSink::create(path, encoding)?),
            ForeignFormat::Uniter { encoding, half } => {
                Box::new(UniterSink::create(path, encoding, half)?)
            }
            ForeignFormat::Npz { half } => Box::new(NpzSink::create(path, half)?),
            ForeignFormat::Tsv(order, compression) => {
                Box::new(TsvSink::create(path, order, compression)?)
            }
            ForeignFormat::Hdf5 => Box::new(Hdf5Sink::create(path)?),
            ForeignFormat::IndexedHdf5 => Box::new(IndexedHdf5Sink::create(path)?),
            ForeignFormat::Npy => Box::new(NpySink::create(path)?),
        })
    }

    /// Why this format has no place for an image, if that can be told before it is written.
    fn refusal(self, regions: &Regions) -> Option<&'static str> {
        match self {
            ForeignFormat::Tsv(order, _) => tsv::refusal(order, regions),
            _ => None,
        }
    }
}

/// An image to be written.
struct Image {
    id: String,
    regions: Regions,
    /// How far its features are from those first given.
    rounding: RoundingError,
    /// The checksum of the record that a store would have of it.
    contents: u64,
    /// The record's bytes, if they are to be kept should the format refuse it and the source has them.
    raw: Vec<u8>,
}

/// The next records, decoded in parallel; none at the end. With `keep` the bytes of records stay with them.
fn decode_next(chunks: &mut Chunks, source: &Path, keep: bool) -> Vec<Result<Image, RecordError>> {
    let decode = |record: Found| {
        let record = record?;
        let earlier = record.stored().map(|(store, _)| store.schema().rounding);
        let raw = if keep { record.raw().to_vec() } else { Vec::new() };
        let (id, regions) = record.decode()?;
        let rounding = RoundingError::none(regions.features.len())
            .after(&regions.rounding)
            .after(&earlier.unwrap_or_default());
        match record::checksum(&regions) {
            Ok(contents) => Ok(Image { id, regions, rounding, contents, raw }),
            Err(what) => Err(RecordError { raw, ..RecordError::new(source, id, what) }),
        }
    };
    chunks.next(decode, |image| match image {
        Ok(Image { regions, raw, .. }) => regions.bytes() + raw.len(),
        Err(error) => error.raw.len(),
    })
}

/// What has been written: no format may lose one of two images with one id, whatever it does with equal names.
#[derive(Default)]
struct Written(HashMap<u128, u64>);

impl Written {
    /// Whether an image is there already, with equal contents.
    ///
    /// # Errors
    /// [`FormatError::Duplicate`] if it is there with others.
    fn has(&self, image: &Image, target: &Path) -> Result<bool, FormatError> {
        match self.0.get(&xxh3_128(image.id.as_bytes())) {
            None => Ok(false),
            Some(contents) if *contents == image.contents => Ok(true),
            Some(_) => {
                Err(FormatError::Duplicate { path: target.to_owned(), id: image.id.clone() })
            }
        }
    }

    fn add(&mut self, id: &str, contents: u64) {
        self.0.insert(xxh3_128(id.as_bytes()), contents);
    }
}

/// What an export has done.
#[derive(Debug, Serialize)]
pub struct ExportReport {
    /// Images written.
    pub images: u64,
    /// Images that came again with equal contents, which are written once.
    pub repeated: u64,
    /// Records that could not be read, or that the format cannot hold, and why.
    pub skipped: Vec<SkippedRecord>,
    /// Images written as they are that [`validate`](crate::validate) finds something wrong with.
    pub findings: Findings,
    /// Parts that the format has no place for, and how many images have them.
    pub left_out: BTreeMap<&'static str, u64>,
    /// How far the features that were read are from those first given: a store's rounding, or f64 made f32. What f16
    /// rounds in what is written comes on top.
    pub source_rounding: RoundingError,
}

/// Writes a source in a foreign format at `target`. An interrupted export starts anew; what an interrupted run has left
/// of a store at the same place is dropped only to overwrite it.
///
/// # Errors
/// [`ConvertError`], [`FormatError::Duplicate`] for two images of one id among them; whatever it is, the target is
/// untouched.
pub fn export(
    source: Box<dyn FeatureSource>,
    target: &Path,
    format: ForeignFormat,
    overwrite: bool,
    on_error: &OnError,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<ExportReport, ConvertError> {
    target::check(target, format.name(), overwrite, &[&source.info().path])?;
    on_error.check(target, &source.info().path)?;
    let claim = Claim::take(target)?;
    let target = claim.target();
    writer::check_progress(&claim, overwrite)?;
    let partial = claim.beside("export")?;
    let written = write(source, target, &partial, format, on_error, cancelled, progress)
        .map_err(|error| of_target(error, &partial, target));
    let report = written.and_then(|report| {
        target::publish(&partial, &claim, format.name(), overwrite)?;
        Ok(report)
    });
    // After a success there is none left; after a failure what is there is of no use.
    let _ = target::remove(&partial);
    report
}

/// An error of what is written tells of the target, not of the name that it has until it is complete.
fn of_target(mut error: ConvertError, partial: &Path, target: &Path) -> ConvertError {
    let path = match &mut error {
        ConvertError::Source(
            FormatError::Io { path, .. }
            | FormatError::Malformed { path, .. }
            | FormatError::Unwritable { path, .. }
            | FormatError::Lmdb(LmdbError::Io { path, .. } | LmdbError::Heed { path, .. })
            | FormatError::Store(StoreError::Io { path, .. }),
        ) => path,
        _ => return error,
    };
    if let Ok(below) = path.strip_prefix(partial) {
        // Joined with nothing it would end with a slash.
        *path = if below.as_os_str().is_empty() { target.into() } else { target.join(below) };
    }
    error
}

/// What a validation of the target will say of an image; `dim` is that of the first.
fn check_image(id: &str, regions: &Regions, dim: usize) -> Result<(), String> {
    if !(1..=MAX_ID_BYTES).contains(&id.len()) {
        return Err(StoreError::IdLength { id: String::new(), bytes: id.len() }.reason());
    }
    if regions.dim != dim {
        return Err(format!("{} values per region, the first image has {dim}", regions.dim));
    }
    check_regions(regions)
}

fn write(
    source: Box<dyn FeatureSource>,
    target: &Path,
    path: &Path,
    format: ForeignFormat,
    on_error: &OnError,
    cancelled: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<ExportReport, ConvertError> {
    let info = source.info().clone();
    let mut tally = Tally::new(on_error, 0, info.count);
    let mut chunks = Chunks::new(source.records()?);
    let keep = tally.keeps_bytes();
    let mut decoded = decode_next(&mut chunks, &info.path, keep);
    // What the format has no place for is seen in the first image, before anything is made.
    let refused = decoded.iter().flatten().find_map(|image| {
        format.refusal(&image.regions).map(|what| (image.id.clone(), what.to_owned()))
    });
    if let Some((id, what)) = refused.filter(|_| *on_error == OnError::Fail) {
        return Err(FormatError::Unwritable { path: target.to_owned(), id, what }.into());
    }
    let mut sink = format.create(path)?;
    let (mut there, mut repeated) = (Written::default(), 0);
    let (mut source_rounding, mut dim) = (RoundingError::default(), None);
    while !decoded.is_empty() {
        for outcome in decoded {
            if cancelled.load(Ordering::Relaxed) {
                return Err(ConvertError::Abandoned);
            }
            match outcome {
                Ok(image) if there.has(&image, target)? => repeated += 1,
                Ok(Image { id, regions, rounding, contents, raw }) => match sink
                    .append(&id, &regions)
                {
                    Ok(()) => {
                        there.add(&id, contents);
                        source_rounding.add(&rounding);
                        let first = *dim.get_or_insert(regions.dim);
                        let finding = check_image(&id, &regions, first).err();
                        tally.take(finding.map(|what| Finding { id, what }));
                    }
                    // Refused before anything was written of it.
                    Err(FormatError::Unwritable { id, what, .. }) if *on_error != OnError::Fail => {
                        let what = format!("it cannot be written: {what}");
                        tally
                            .skip(RecordError { raw, ..RecordError::new(&info.path, id, what) })?;
                    }
                    Err(error) => return Err(error.into()),
                },
                Err(error) => tally.skip(error)?,
            }
            progress(tally.progress());
        }
        decoded = decode_next(&mut chunks, &info.path, keep);
    }
    if tally.images == 0 {
        return Err(tally.empty(&info));
    }
    let left_out = sink.left_out();
    sink.finish()?;
    let Tally { images, skipped, findings, .. } = tally;
    Ok(ExportReport { images, repeated, skipped, findings, left_out, source_rounding })
}
