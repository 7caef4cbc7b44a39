//! One image's regions as bytes.
//!
//! Little-endian throughout. A header of 64 bytes, then the body; `docs/formats.md` has the table of offsets. The body
//! holds boxes f32 `[n, 4]`; as flagged, object ids i64 `[n]`, object confidences f32 `[n]`, attribute ids, attribute
//! confidences, extents f32 `[n, 2]`, class probabilities f32 `[n, classes]`; scales f32 `[n]` if features are bytes;
//! zeros up to a multiple of 64 of the whole record; features `[n, dim]`. A compressed record has its body compressed.

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_64;

use crate::codec::VERSION;
use crate::precision::{self, RoundingError};
use crate::{Compression, Labels, Precision, Regions, compression};

const HEADER: usize = 64;
/// Where the number of regions stands in it.
const REGIONS: usize = 20;

/// Optional parts of a body, in their order: the flag and the bytes per region (class probabilities apart).
const OBJECT_IDS: u16 = 1;
const OBJECT_CONFIDENCES: u16 = 2;
const ATTRIBUTE_IDS: u16 = 4;
const ATTRIBUTE_CONFIDENCES: u16 = 8;
const EXTENTS: u16 = 16;
const CLASS_PROBABILITIES: u16 = 32;
const PARTS: [(u16, usize); 5] = [
    (OBJECT_IDS, 8),
    (OBJECT_CONFIDENCES, 4),
    (ATTRIBUTE_IDS, 8),
    (ATTRIBUTE_CONFIDENCES, 4),
    (EXTENTS, 8),
];

/// A record ready to be stored.
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) error: RoundingError,
    pub(crate) dim: usize,
}

impl Encoded {
    /// A record of a store, as it is: what the store knows of its rounding goes with it.
    pub(crate) fn copied(
        bytes: Vec<u8>,
        rounding: &RoundingError,
    ) -> Result<Encoded, &'static str> {
        let record = RecordView::parse(&bytes)?;
        let (dim, values) = (record.dim, record.regions * record.dim);
        drop(record);
        Ok(Encoded { bytes, error: RoundingError::none(values).after(rounding), dim })
    }

    /// The same in another compression: nothing is decoded, so nothing is rounded.
    pub(crate) fn repacked(self, compression: Compression) -> Result<Encoded, &'static str> {
        let record = RecordView::parse(&self.bytes)?;
        let mut bytes = self.bytes[..HEADER].to_vec();
        bytes.extend_from_slice(&record.body);
        let bytes = seal(bytes, record.precision, compression);
        Ok(Encoded { bytes, ..self })
    }
}

/// Whether a record's boxes are relative to an image whose size is not known, as in [`Regions::is_relative`].
pub(crate) fn is_relative(record: &[u8]) -> bool {
    record.get(12..20) == Some([1u32.to_le_bytes(); 2].as_flattened())
}

/// A record's header and where its parts are; everything is known to lie inside the bytes.
pub(crate) struct RecordView<'a> {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) regions: usize,
    pub(crate) dim: usize,
    pub(crate) precision: Precision,
    pub(crate) compression: Compression,
    classes: usize,
    flags: u16,
    /// The bytes as they are stored.
    stored: &'a [u8],
    /// What follows the header, uncompressed.
    body: Cow<'a, [u8]>,
    /// Where features begin in the body.
    features: usize,
}

/// The bytes of a record.
///
/// # Errors
/// What is wrong with the regions: lengths that disagree, more than 32 bits can count, values that int8 cannot hold.
pub(crate) fn encode(
    regions: &Regions,
    precision: Precision,
    compression: Compression,
) -> Result<Encoded, String> {
    regions.check()?;
    let n = regions.len();
    let (parts, flags) = parts(regions);
    let classes = regions.class_probabilities.as_ref().map_or(0, |values| values.len() / n.max(1));
    let scales = if precision == Precision::Int8 { 4 * n } else { 0 };
    let start = (HEADER + parts.len() + scales).next_multiple_of(64);
    let mut bytes = Vec::with_capacity(start + regions.features.len() * precision.size());
    bytes.resize(HEADER, 0);
    bytes.extend(parts);
    let scales_at = bytes.len();
    bytes.resize(start, 0);
    let scales = precision::narrow(&regions.features, regions.dim, precision, &mut bytes)?;
    for (place, scale) in bytes[scales_at..].as_chunks_mut().0.iter_mut().zip(&scales) {
        *place = scale.to_le_bytes();
    }
    let error = precision::rounding_error(
        &regions.features,
        regions.dim,
        precision,
        &bytes[start..],
        &scales,
    )
    .after(&regions.rounding);

    let small = |value: usize| u32::try_from(value).map_err(|_| format!("{value} is too many"));
    bytes[8] = VERSION;
    bytes[9] = precision.code();
    bytes[10..12].copy_from_slice(&u16::to_le_bytes(flags));
    let numbers = [regions.width, regions.height, small(n)?, small(regions.dim)?, small(classes)?];
    bytes[12..32].copy_from_slice(numbers.map(u32::to_le_bytes).as_flattened());
    Ok(Encoded { bytes: seal(bytes, precision, compression), error, dim: regions.dim })
}

/// Compresses a record's body, if that pays, and writes the checksum.
fn seal(mut bytes: Vec<u8>, precision: Precision, compression: Compression) -> Vec<u8> {
    let mut used = Compression::None;
    if let Some(packed) = compression::compress(&bytes[HEADER..], compression, precision.size()) {
        used = compression;
        bytes.truncate(HEADER);
        bytes.extend(packed);
    }
    bytes[32] = used.code();
    let checksum = xxh3_64(&bytes[8..]);
    bytes[..8].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The checksum of a record in f32, uncompressed: what tells two images' contents apart.
///
/// # Errors
/// As [`encode`].
pub(crate) fn checksum(regions: &Regions) -> Result<u64, String> {
    let Encoded { bytes, .. } = encode(regions, Precision::F32, Compression::None)?;
    Ok(u64::from_le_bytes(std::array::from_fn(|i| bytes[i])))
}

/// What a body holds before the scales, and the flags of the optional parts of it.
fn parts(regions: &Regions) -> (Vec<u8>, u16) {
    let (mut flags, mut parts) = (0, Vec::new());
    put_floats(&mut parts, regions.boxes.as_flattened());
    for (labels, ids, confidences) in [
        (&regions.objects, OBJECT_IDS, OBJECT_CONFIDENCES),
        (&regions.attributes, ATTRIBUTE_IDS, ATTRIBUTE_CONFIDENCES),
    ] {
        let Some(labels) = labels else { continue };
        if !labels.ids.is_empty() {
            flags |= ids;
            labels.ids.iter().for_each(|id| parts.extend(id.to_le_bytes()));
        }
        if !labels.confidences.is_empty() {
            flags |= confidences;
            put_floats(&mut parts, &labels.confidences);
        }
    }
    if let Some(extents) = &regions.extents {
        flags |= EXTENTS;
        put_floats(&mut parts, extents.as_flattened());
    }
    if let Some(values) = regions.class_probabilities.as_ref().filter(|_| !regions.is_empty()) {
        flags |= CLASS_PROBABILITIES;
        put_floats(&mut parts, values);
    }
    (parts, flags)
}

fn put_floats(out: &mut Vec<u8>, values: &[f32]) {
    values.iter().for_each(|x| out.extend(x.to_le_bytes()));
}

/// How many regions a record has, by its header alone.
pub(crate) fn stored_regions(stored: &[u8]) -> Result<usize, &'static str> {
    let header = stored.first_chunk::<HEADER>().ok_or("it is shorter than a header")?;
    Ok(u32_in(header, REGIONS) as usize)
}

fn u32_in(header: &[u8; HEADER], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

impl<'a> RecordView<'a> {
    /// Reads the header, unpacks the body if it is compressed, and checks that every part lies inside it; the checksum
    /// is not computed.
    pub(crate) fn parse(stored: &'a [u8]) -> Result<RecordView<'a>, &'static str> {
        let (header, rest) =
            stored.split_first_chunk::<HEADER>().ok_or("it is shorter than a header")?;
        let u32_at = |at: usize| u32_in(header, at);
        if header[8] != VERSION {
            return Err("its version is unknown");
        }
        let precision = Precision::from_code(header[9]).ok_or("its precision is unknown")?;
        let compression = Compression::from_code(header[32]).ok_or("its compression is unknown")?;
        let flags = u16::from_le_bytes([header[10], header[11]]);
        if flags >= CLASS_PROBABILITIES << 1 {
            return Err("it has parts that this version does not know");
        }
        let (regions, dim, classes) = (u32_at(REGIONS) as usize, u32_at(24) as usize, u32_at(28));
        let (start, length) = body_layout(precision, flags, regions, dim, classes as usize)
            .ok_or("its header counts more than can be")?;
        let body = match compression {
            Compression::None if rest.len() != length => {
                return Err("its length is not what its header says");
            }
            Compression::None => Cow::Borrowed(rest),
            packed => Cow::Owned(compression::decompress(rest, packed, precision.size(), length)?),
        };
        Ok(RecordView {
            width: u32_at(12),
            height: u32_at(16),
            regions,
            dim,
            precision,
            compression,
            classes: classes as usize,
            flags,
            stored,
            body,
            features: start,
        })
    }

    /// The checksum that the record carries.
    pub(crate) fn checksum(&self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|i| self.stored[i]))
    }

    /// Whether the checksum fits the bytes.
    pub(crate) fn is_intact(&self) -> bool {
        xxh3_64(&self.stored[8..]) == self.checksum()
    }

    /// Box of a region: x1, y1, x2, y2 in pixels.
    pub(crate) fn bounding_box(&self, region: usize) -> [f32; 4] {
        std::array::from_fn(|i| f32_at(&self.body, 16 * region + 4 * i))
    }

    /// Width and height of a region relative to the image, if they are stored apart.
    pub(crate) fn extent(&self, region: usize) -> Option<[f32; 2]> {
        let start = self.part(EXTENTS)? + 8 * region;
        Some([f32_at(&self.body, start), f32_at(&self.body, start + 4)])
    }

    /// Widens the features of the first regions into `out`, `[n, dim]`.
    pub(crate) fn features_into(&self, out: &mut [f32]) {
        // Scales stand before the zeros that fill up to the features; all parts before them have known sizes.
        let scales = self.parts_end();
        let scale = |row: usize| f32_at(&self.body, scales + 4 * row);
        precision::widen(&self.body[self.features..], self.dim, self.precision, scale, out);
    }

    /// Everything, as owned values.
    pub(crate) fn to_regions(&self) -> Regions {
        let mut features = vec![0.0; self.regions * self.dim];
        self.features_into(&mut features);
        let n = self.regions;
        let floats = |start: usize, count: usize| -> Vec<f32> {
            (0..count).map(|i| f32_at(&self.body, start + 4 * i)).collect()
        };
        let labels = |ids: u16, confidences: u16| {
            let (ids, confidences) = (self.part(ids), self.part(confidences));
            (ids.is_some() || confidences.is_some()).then(|| Labels {
                ids: ids.map_or(Vec::new(), |at| {
                    (0..n).map(|i| i64_at(&self.body, at + 8 * i)).collect()
                }),
                confidences: confidences.map_or(Vec::new(), |at| floats(at, n)),
            })
        };
        Regions {
            width: self.width,
            height: self.height,
            boxes: (0..n).map(|region| self.bounding_box(region)).collect(),
            features,
            dim: self.dim,
            objects: labels(OBJECT_IDS, OBJECT_CONFIDENCES),
            attributes: labels(ATTRIBUTE_IDS, ATTRIBUTE_CONFIDENCES),
            extents: self.part(EXTENTS).map(|at| floats(at, 2 * n).as_chunks::<2>().0.to_vec()),
            class_probabilities: (self.flags & CLASS_PROBABILITIES != 0)
                .then(|| floats(self.parts_end() - 4 * n * self.classes, n * self.classes)),
            rounding: RoundingError::default(),
        }
    }

    /// Where a part of fixed size per region begins in the body, if it is there.
    fn part(&self, wanted: u16) -> Option<usize> {
        let before = PARTS.iter().take_while(|(flag, _)| *flag != wanted);
        let before: usize =
            before.filter(|(flag, _)| self.flags & flag != 0).map(|(_, size)| size).sum();
        (self.flags & wanted != 0).then_some(self.regions * (16 + before))
    }

    /// Where the flagged parts end in the body.
    fn parts_end(&self) -> usize {
        let parts = PARTS.iter().filter(|(flag, _)| self.flags & flag != 0);
        self.regions * (16 + parts.map(|(_, size)| size).sum::<usize>() + 4 * self.classes)
    }
}

/// Where features begin in a body, and its length; `None` if that overflows.
fn body_layout(
    precision: Precision,
    flags: u16,
    regions: usize,
    dim: usize,
    classes: usize,
) -> Option<(usize, usize)> {
    if (flags & CLASS_PROBABILITIES == 0) != (classes == 0) {
        return None;
    }
    let parts = PARTS.iter().filter(|(flag, _)| flags & flag != 0);
    let scale = if precision == Precision::Int8 { 4 } else { 0 };
    let per_region =
        16 + parts.map(|(_, size)| size).sum::<usize>() + scale + classes.checked_mul(4)?;
    let end = regions.checked_mul(per_region)?.checked_add(HEADER)?;
    let start = end.checked_next_multiple_of(64)? - HEADER;
    let values = regions.checked_mul(dim)?.checked_mul(precision.size())?;
    Some((start, start.checked_add(values)?))
}

fn f32_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}
