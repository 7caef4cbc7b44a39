//! One image's regions as bytes.
//!
//! Little-endian throughout. Header of 64 bytes: xxh3 of everything after it (u64), format version (u8), precision (u8),
//! flags (u16), width, height, regions, dim (u32 each), zeros. Then boxes f32 `[n, 4]`; if flagged, object ids i64
//! `[n]`, object confidences f32 `[n]`, attribute ids, attribute confidences; zeros up to a multiple of 64; features
//! `[n, dim]` in the precision of the header.

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::codec::VERSION;
use crate::{Labels, Regions};

const HEADER: usize = 64;
const OBJECTS: u16 = 1;
const OBJECT_CONFIDENCES: u16 = 2;
const ATTRIBUTES: u16 = 4;
const ATTRIBUTE_CONFIDENCES: u16 = 8;

/// How features are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point: lossless for every known dump.
    #[default]
    F32,
    /// 16-bit floating point, rounded to nearest even.
    F16,
}

impl Precision {
    /// Bytes per value.
    pub fn size(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::F16 => 2,
        }
    }

    fn from_code(code: u8) -> Option<Precision> {
        [Precision::F32, Precision::F16].into_iter().find(|&precision| precision as u8 == code)
    }
}

/// A record's header and where its parts are; everything is known to lie inside the bytes.
pub(crate) struct RecordView<'a> {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) regions: usize,
    pub(crate) dim: usize,
    pub(crate) precision: Precision,
    checksum: u64,
    flags: u16,
    bytes: &'a [u8],
    features: &'a [u8],
}

/// The bytes of a record.
///
/// # Errors
/// What is wrong with the regions: lengths that disagree, or more than 32 bits can count.
pub(crate) fn encode(regions: &Regions, precision: Precision) -> Result<Vec<u8>, String> {
    let n = regions.len();
    if Some(regions.features.len()) != n.checked_mul(regions.dim) {
        return Err(format!(
            "{} values for {n} regions of {}",
            regions.features.len(),
            regions.dim
        ));
    }
    let mut flags = 0;
    let mut labels = Vec::new();
    for (these, ids, confidences) in [
        (&regions.objects, OBJECTS, OBJECT_CONFIDENCES),
        (&regions.attributes, ATTRIBUTES, ATTRIBUTE_CONFIDENCES),
    ] {
        let Some(these) = these else { continue };
        if these.ids.len() != n || !(these.confidences.is_empty() || these.confidences.len() == n) {
            return Err(format!("{} labels for {n} regions", these.ids.len()));
        }
        flags |= ids;
        these.ids.iter().for_each(|id| labels.extend(id.to_le_bytes()));
        if !these.confidences.is_empty() {
            flags |= confidences;
            these.confidences.iter().for_each(|c| labels.extend(c.to_le_bytes()));
        }
    }
    let small = |value: usize| u32::try_from(value).map_err(|_| format!("{value} is too many"));
    let mut out = vec![0; HEADER];
    out.reserve(n * 16 + labels.len() + HEADER + regions.features.len() * precision.size());
    regions.boxes.iter().flatten().for_each(|x| out.extend(x.to_le_bytes()));
    out.extend(labels);
    out.resize(out.len().next_multiple_of(64), 0);
    append_features(&mut out, &regions.features, precision);

    out[8] = VERSION;
    out[9] = precision as u8;
    out[10..12].copy_from_slice(&flags.to_le_bytes());
    for (slot, value) in
        [regions.width, regions.height, small(n)?, small(regions.dim)?].into_iter().enumerate()
    {
        out[12 + 4 * slot..16 + 4 * slot].copy_from_slice(&value.to_le_bytes());
    }
    let checksum = xxh3_64(&out[8..]);
    out[..8].copy_from_slice(&checksum.to_le_bytes());
    Ok(out)
}

fn append_features(out: &mut Vec<u8>, features: &[f32], precision: Precision) {
    match precision {
        Precision::F32 if cfg!(target_endian = "little") => {
            out.extend_from_slice(bytemuck::cast_slice(features))
        }
        Precision::F32 => features.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Precision::F16 => {
            let mut narrow = vec![f16::ZERO; features.len()];
            narrow.convert_from_f32_slice(features);
            narrow.reinterpret_cast().iter().for_each(|x| out.extend(x.to_le_bytes()));
        }
    }
}

impl<'a> RecordView<'a> {
    /// Reads the header and checks that every part lies inside the bytes; the checksum is not computed.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<RecordView<'a>, &'static str> {
        let header = bytes.get(..HEADER).ok_or("it is shorter than a header")?;
        let u32_at = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        if header[8] != VERSION {
            return Err("its version is unknown");
        }
        let precision = Precision::from_code(header[9]).ok_or("its precision is unknown")?;
        let flags = u16::from_le_bytes([header[10], header[11]]);
        let (regions, dim) = (u32_at(20) as usize, u32_at(24) as usize);
        let per_region = 16
            + 8 * usize::from(flags & OBJECTS != 0)
            + 4 * usize::from(flags & OBJECT_CONFIDENCES != 0)
            + 8 * usize::from(flags & ATTRIBUTES != 0)
            + 4 * usize::from(flags & ATTRIBUTE_CONFIDENCES != 0);
        let start = (HEADER as u64 + regions as u64 * per_region as u64).next_multiple_of(64);
        let values = (regions as u64).checked_mul(dim as u64 * precision.size() as u64);
        if values.and_then(|size| size.checked_add(start)) != Some(bytes.len() as u64) {
            return Err("its length is not what its header says");
        }
        let checksum = u64::from_le_bytes([
            header[0], header[1], header[2], header[3], header[4], header[5], header[6], header[7],
        ]);
        let features = &bytes[start as usize..];
        let (width, height) = (u32_at(12), u32_at(16));
        Ok(RecordView { width, height, regions, dim, precision, checksum, flags, bytes, features })
    }

    /// The checksum that the record carries.
    pub(crate) fn checksum(&self) -> u64 {
        self.checksum
    }

    /// Whether the checksum fits the bytes.
    pub(crate) fn is_intact(&self) -> bool {
        xxh3_64(&self.bytes[8..]) == self.checksum
    }

    /// Box of a region: x1, y1, x2, y2 in pixels.
    pub(crate) fn bounding_box(&self, region: usize) -> [f32; 4] {
        let start = HEADER + 16 * region;
        std::array::from_fn(|i| f32_at(self.bytes, start + 4 * i))
    }

    /// Widens the features of the first regions into `out`, `[n, dim]`.
    pub(crate) fn features_into(&self, out: &mut [f32]) {
        let bytes = &self.features[..out.len() * self.precision.size()];
        match self.precision {
            Precision::F32 if cfg!(target_endian = "little") => {
                bytemuck::cast_slice_mut::<f32, u8>(out).copy_from_slice(bytes);
            }
            Precision::F32 => {
                out.iter_mut().enumerate().for_each(|(i, x)| *x = f32_at(bytes, 4 * i))
            }
            Precision::F16 => match bytemuck::try_cast_slice::<u8, u16>(bytes) {
                Ok(halves) if cfg!(target_endian = "little") => {
                    halves.reinterpret_cast::<f16>().convert_to_f32_slice(out);
                }
                _ => out
                    .iter_mut()
                    .zip(bytes.chunks_exact(2))
                    .for_each(|(x, b)| *x = f16::from_le_bytes([b[0], b[1]]).to_f32()),
            },
        }
    }

    /// Everything, as owned values.
    pub(crate) fn to_regions(&self) -> Regions {
        let mut features = vec![0.0; self.regions * self.dim];
        self.features_into(&mut features);
        let mut at = HEADER + 16 * self.regions;
        let mut labels = |ids: u16, confidences: u16| {
            (self.flags & ids != 0).then(|| {
                let start = at;
                at += 8 * self.regions;
                let ids = (0..self.regions).map(|i| i64_at(self.bytes, start + 8 * i)).collect();
                let start = at;
                let n = if self.flags & confidences != 0 { self.regions } else { 0 };
                at += 4 * n;
                Labels {
                    ids,
                    confidences: (0..n).map(|i| f32_at(self.bytes, start + 4 * i)).collect(),
                }
            })
        };
        let objects = labels(OBJECTS, OBJECT_CONFIDENCES);
        let attributes = labels(ATTRIBUTES, ATTRIBUTE_CONFIDENCES);
        Regions {
            width: self.width,
            height: self.height,
            boxes: (0..self.regions).map(|region| self.bounding_box(region)).collect(),
            features,
            dim: self.dim,
            objects,
            attributes,
        }
    }
}

fn f32_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    let mut array = [0; 8];
    array.copy_from_slice(&bytes[at..at + 8]);
    i64::from_le_bytes(array)
}
