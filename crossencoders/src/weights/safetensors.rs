//! safetensors files.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, View, serialize_to_file};
use tch::{Kind, Tensor};

use super::file::{bytes, on_cpu, tensor};

/// The types of tensors that there are on both sides.
const KINDS: [(Dtype, Kind); 10] = [
    (Dtype::F64, Kind::Double),
    (Dtype::F32, Kind::Float),
    (Dtype::F16, Kind::Half),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::I64, Kind::Int64),
    (Dtype::I32, Kind::Int),
    (Dtype::I16, Kind::Int16),
    (Dtype::I8, Kind::Int8),
    (Dtype::U8, Kind::Uint8),
    (Dtype::BOOL, Kind::Bool),
];

/// All tensors of a file, or what is wrong with it.
pub(super) fn read(path: &Path) -> Result<Vec<(String, Tensor)>, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| explain(&error))?;
    let tensors = file.iter().map(|(name, view)| {
        let dtype = view.dtype();
        let (_, kind) = KINDS
            .into_iter()
            .find(|pair| pair.0 == dtype)
            .ok_or_else(|| format!("`{name}` holds {dtype:?}, which is not supported"))?;
        Ok((name.to_owned(), tensor(name, view.shape(), kind, view.data())?))
    });
    tensors.collect()
}

/// Writes named tensors into a new file.
pub(super) fn write(tensors: &[(String, Tensor)], path: &Path) -> io::Result<()> {
    let stored = tensors.iter().map(|(name, tensor)| Ok((name, Stored::new(name, tensor)?)));
    let stored = stored.collect::<io::Result<Vec<_>>>()?;
    serialize_to_file(stored, None, path).map_err(|error| match error {
        SafeTensorError::IoError(error) => error,
        other => io::Error::other(other),
    })
}

/// A tensor as a file has it.
struct Stored {
    tensor: Tensor,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl Stored {
    fn new(name: &str, tensor: &Tensor) -> io::Result<Stored> {
        let kind = tensor.kind();
        let (dtype, _) = KINDS.into_iter().find(|pair| pair.1 == kind).ok_or_else(|| {
            io::Error::other(format!("`{name}`: {kind:?} has no place in a safetensors file"))
        })?;
        let shape = tensor.size().into_iter().map(|size| size as usize).collect();
        Ok(Stored { tensor: on_cpu(tensor), dtype, shape })
    }
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        bytes(&self.tensor).into()
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
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
