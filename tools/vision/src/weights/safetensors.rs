//! safetensors files: the header is read at once, tensors as they are asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Mutex;

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::{Source, check_growth};

/// Longest header that is read; that of a model of a thousand tensors has 100 kB.
const MAX_HEADER: u64 = 64 << 20;

struct Place {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Byte offset in the file.
    offset: u64,
    bytes: usize,
}

pub(super) struct Safetensors {
    file: Mutex<File>,
    places: BTreeMap<String, Place>,
}

pub(super) fn open(path: &Path) -> Result<Safetensors, String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|error| error.to_string())?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER.min(size) {
        return Err(format!("its header claims {length} bytes"));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(|error| error.to_string())?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| error.to_string())?;
    let mut places = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let (start, end) = info.data_offsets;
        let shape = info.shape.clone();
        let bits = shape.iter().try_fold(info.dtype.bitsize(), |bits, &n| bits.checked_mul(n));
        let bytes = end.checked_sub(start).filter(|bytes| bytes.checked_mul(8) == bits);
        let bytes =
            bytes.ok_or_else(|| format!("`{name}` has not as many bytes as its shape says"))?;
        if (end as u64).checked_add(8 + length).is_none_or(|end| end > size) {
            return Err(format!("truncated: `{name}` lies beyond its end"));
        }
        let offset = 8 + length + start as u64;
        if matches!(info.dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64) {
            places.insert(name, Place { dtype: info.dtype, shape, offset, bytes });
        }
    }
    check_growth(size, places.values().map(|place| &place.shape))?;
    Ok(Safetensors { file: Mutex::new(file), places })
}

impl Source for Safetensors {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.places.iter().map(|(name, place)| (name.clone(), place.shape.clone())).collect()
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, String> {
        let place = self.places.get(name).ok_or("no such tensor")?;
        let mut bytes = vec![0; place.bytes];
        {
            let mut file = self.file.lock().map_err(|_| "another reader failed".to_owned())?;
            file.seek(SeekFrom::Start(place.offset))
                .and_then(|_| file.read_exact(&mut bytes))
                .map_err(|error| error.to_string())?;
        }
        let kind = match place.dtype {
            Dtype::F16 => Float::F16,
            Dtype::BF16 => Float::Bf16,
            Dtype::F64 => Float::F64,
            _ => Float::F32,
        };
        Ok(widened(&bytes, kind))
    }
}

/// The floating-point types of the containers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Float {
    F16,
    Bf16,
    F32,
    F64,
}

impl Float {
    /// Bytes per value.
    pub(super) fn size(self) -> usize {
        match self {
            Float::F16 | Float::Bf16 => 2,
            Float::F32 => 4,
            Float::F64 => 8,
        }
    }
}

/// Little-endian bytes as f32.
pub(super) fn widened(bytes: &[u8], kind: Float) -> Vec<f32> {
    let two = |c: &[u8]| [c[0], c[1]];
    match kind {
        Float::F16 => bytes.chunks_exact(2).map(|c| f16::from_le_bytes(two(c)).to_f32()).collect(),
        Float::Bf16 => {
            bytes.chunks_exact(2).map(|c| bf16::from_le_bytes(two(c)).to_f32()).collect()
        }
        Float::F32 => {
            bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
        }
        Float::F64 => bytes
            .chunks_exact(8)
            .map(|c| f64::from_le_bytes(std::array::from_fn(|n| c[n])) as f32)
            .collect(),
    }
}
