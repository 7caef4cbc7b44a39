//! The detectron2 fork's pickle of NumPy arrays: `{"model": {name: array}, "__author__": …}`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use unpickle::{Fault, NdArray, Value};

use super::{Source, WeightsError};

/// Largest file that is read; the published ones have 250 MB.
const MAX_BYTES: u64 = 4 << 30;

pub(super) struct Arrays {
    arrays: BTreeMap<String, NdArray>,
    others: BTreeSet<String>,
}

pub(super) fn open(path: &Path) -> Result<Arrays, WeightsError> {
    let unreadable = |reason: String| WeightsError::Unreadable { path: path.to_owned(), reason };
    let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(unreadable(format!("{size} bytes are too many for a pickle of weights")));
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let value = unpickle::read(&bytes).map_err(|error| match error.fault {
        Fault::Global(call) => WeightsError::Refused { path: path.to_owned(), call },
        _ => unreadable(error.to_string()),
    })?;
    if value.get("__author__").is_none() {
        let reason = "a pickle without `__author__`: its tensors have Caffe2's names. The detector's file is \
                      faster_rcnn_from_caffe_attr.pkl";
        return Err(unreadable(reason.to_owned()));
    }
    let Some(Value::Dict(model)) = value.get("model") else {
        return Err(unreadable("a pickle without a dictionary `model`".to_owned()));
    };
    let (mut arrays, mut others) = (BTreeMap::new(), BTreeSet::new());
    for (name, value) in model {
        let name = name.as_str().ok_or_else(|| unreadable("a name that is no text".into()))?;
        let Value::Array(array) = value else {
            return Err(unreadable(format!("`{name}` is no array")));
        };
        if array.dtype().name().starts_with('f') {
            arrays.insert(name.to_owned(), array.clone());
        } else {
            others.insert(name.to_owned());
        }
    }
    Ok(Arrays { arrays, others })
}

impl Source for Arrays {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.arrays.iter().map(|(name, array)| (name.clone(), array.shape().to_vec())).collect()
    }

    fn others(&self) -> BTreeSet<String> {
        self.others.clone()
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, String> {
        let array = self.arrays.get(name).ok_or("no such array")?;
        array.to_f32s().ok_or_else(|| "no floating-point array".to_owned())
    }
}
