//! PyTorch files, through a reader that executes nothing.

mod outline;
mod write;

use std::path::Path;

use pytorch_reader::{DType, FileFormat, PytorchReader};
use tch::{Kind, Tensor};

use super::file::{self, Format};

pub(super) use outline::{StateDict, outline};
pub(super) use write::write;

/// Where training checkpoints keep their weights: VOLTA's, then the usual ones.
pub(super) const WEIGHT_KEYS: [&str; 3] = ["model_state_dict", "state_dict", "model"];

/// Most bytes of tensors for each byte of the file: tied tensors share their storage, and views may repeat theirs.
const MAX_REPEATED: u64 = 16;

/// Format, the key the tensors lie under, and all tensors; or what is wrong with the file.
type Contents = (Format, Option<&'static str>, Vec<(String, Tensor)>);

/// Reads a file, or says what is wrong with it.
pub(super) fn read(path: &Path) -> Result<Contents, String> {
    let nested = WEIGHT_KEYS.iter().find_map(|key| {
        let reader = PytorchReader::with_top_level_key(path, key).ok()?;
        (!reader.is_empty()).then_some((Some(*key), reader))
    });
    let (key, reader) = match nested {
        Some(found) => found,
        None => (None, PytorchReader::new(path).map_err(|error| why(path, error.to_string()))?),
    };
    if reader.is_empty() {
        return Err(why(path, "it holds no tensors".to_owned()));
    }
    let format = match reader.metadata().format_type {
        FileFormat::Zip => Format::PytorchZip,
        FileFormat::Legacy => Format::PytorchLegacy,
        FileFormat::Tar => Format::PytorchTar,
        FileFormat::Pickle => Format::Pickle,
    };
    Ok((format, key, to_tensors(path, reader)?))
}

/// What is wrong with a file from which no tensors come: what it holds instead, if that can be seen.
fn why(path: &Path, otherwise: String) -> String {
    outline::instead_of_tensors(path).unwrap_or(otherwise)
}

/// Copies all tensors, once it is known that they are not out of all proportion to the file.
fn to_tensors(path: &Path, reader: PytorchReader) -> Result<Vec<(String, Tensor)>, String> {
    let file = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    let tensors = reader.into_tensors();
    let bytes = tensors.values().fold(0u64, |sum, tensor| {
        let size = tensor.shape().iter().fold(1u64, |size, &n| size.saturating_mul(n as u64));
        sum.saturating_add(size.saturating_mul(tensor.dtype().size() as u64))
    });
    if bytes > file.saturating_mul(MAX_REPEATED) {
        return Err(format!("its tensors would take {bytes} bytes, the file has {file}"));
    }
    tensors.into_iter().map(|(name, tensor)| Ok((name, to_tch(&tensor)?))).collect()
}

/// All tensors below a top-level key, by their path in it ("state.0.exp_avg").
pub(super) fn read_key(path: &Path, key: &str) -> Result<Vec<(String, Tensor)>, String> {
    let reader = PytorchReader::with_top_level_key(path, key).map_err(|error| error.to_string())?;
    to_tensors(path, reader)
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
    let bytes = tensor.read().map_err(|error| error.to_string())?;
    file::tensor(&tensor.name, tensor.shape(), kind, &bytes)
}
