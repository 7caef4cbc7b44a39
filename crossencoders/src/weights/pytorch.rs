//! PyTorch files, through a reader that executes nothing.

use std::path::Path;

use pytorch_reader::{DType, PytorchReader};
use tch::{Kind, Tensor};

/// Where training checkpoints keep their weights: VOLTA's, then the usual one.
const WEIGHT_KEYS: [&str; 2] = ["model_state_dict", "state_dict"];

/// All tensors, or what is wrong with the file.
pub(super) fn read(path: &Path) -> Result<Vec<(String, Tensor)>, String> {
    let nested = WEIGHT_KEYS.iter().find_map(|key| {
        PytorchReader::with_top_level_key(path, key).ok().filter(|reader| !reader.is_empty())
    });
    let reader = match nested {
        Some(reader) => reader,
        None => PytorchReader::new(path).map_err(|error| error.to_string())?,
    };
    reader.into_tensors().into_iter().map(|(name, tensor)| Ok((name, to_tch(&tensor)?))).collect()
}

fn to_tch(tensor: &pytorch_reader::Tensor) -> Result<Tensor, String> {
    let kind = match tensor.dtype() {
        DType::F64 => Kind::Double,
        DType::F32 => Kind::Float,
        DType::F16 => Kind::Half,
        DType::BF16 => Kind::BFloat16,
        DType::I64 => Kind::Int64,
        DType::I32 => Kind::Int,
        DType::I16 => Kind::Int16,
        DType::I8 => Kind::Int8,
        DType::U8 => Kind::Uint8,
        DType::Bool => Kind::Bool,
        other => return Err(format!("`{}` holds {other:?}, which is not supported", tensor.name)),
    };
    let shape: Vec<i64> = tensor.shape().iter().map(|&size| size as i64).collect();
    let bytes = tensor.read().map_err(|error| error.to_string())?;
    Tensor::f_from_data_size(&bytes, &shape, kind).map_err(|error| error.to_string())
}
