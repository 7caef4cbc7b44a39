//! safetensors files.

use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors};
use tch::{Kind, Tensor};

use super::file::tensor;

/// All tensors of a file, or what is wrong with it.
pub(super) fn read(path: &Path) -> Result<Vec<(String, Tensor)>, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| explain(&error))?;
    let tensors = file.iter().map(|(name, view)| {
        let kind = kind(view.dtype())
            .ok_or_else(|| format!("`{name}` holds {:?}, which is not supported", view.dtype()))?;
        Ok((name.to_owned(), tensor(name, view.shape(), kind, view.data())?))
    });
    tensors.collect()
}

fn kind(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        _ => return None,
    })
}

/// What an error means for whoever has the file.
fn explain(error: &SafeTensorError) -> String {
    let meaning = match error {
        SafeTensorError::HeaderTooLarge
        | SafeTensorError::HeaderTooSmall
        | SafeTensorError::InvalidHeaderLength => {
            "it is cut off within its header, or no safetensors file"
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            "its header tells of more or fewer bytes than there are: it is cut off, or something was added"
        }
        SafeTensorError::TensorInvalidInfo | SafeTensorError::ValidationOverflow => {
            "the shape of a tensor does not fit its bytes"
        }
        SafeTensorError::InvalidOffset(_) => "tensors overlap or leave gaps",
        _ => "its header is broken",
    };
    format!("{meaning} ({error})")
}
