//! safetensors files: the header is read at once, tensors as they are asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Mutex;

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::float::{Float, widened};
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
    others: BTreeSet<String>,
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
    let (mut places, mut others) = (BTreeMap::new(), BTreeSet::new());
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
        } else {
            others.insert(name);
        }
    }
    check_growth(size, places.values().map(|place| &place.shape))?;
    Ok(Safetensors { file: Mutex::new(file), places, others })
}

impl Source for Safetensors {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.places.iter().map(|(name, place)| (name.clone(), place.shape.clone())).collect()
    }

    fn others(&self) -> BTreeSet<String> {
        self.others.clone()
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
