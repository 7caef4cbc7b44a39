//! A file of weights, whatever its format.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::names::Convention;
use super::tied::{same, twin_of};
use super::{WeightsError, pytorch, safetensors};

/// What a file's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// safetensors.
    Safetensors,
    /// PyTorch since 1.6: a zip archive.
    PytorchZip,
    /// PyTorch 0.1.10 to 1.5: a sequence of pickles. VOLTA's released weights are of this kind.
    PytorchLegacy,
    /// PyTorch before that: a tar archive.
    PytorchTar,
    /// A bare pickle.
    Pickle,
}

impl Format {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Format::Safetensors => "safetensors",
            Format::PytorchZip => "PyTorch, zip",
            Format::PytorchLegacy => "PyTorch before 1.6",
            Format::PytorchTar => "PyTorch before 0.1.10, tar",
            Format::Pickle => "pickle",
        }
    }
}

/// All tensors of a file, and what they came in.
#[derive(Debug)]
pub struct WeightsFile {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// The key of a training checkpoint that the tensors were found under.
    pub key: Option<&'static str>,
    /// Whether names began with `module.`, which is cut off.
    pub module_prefix: bool,
    /// Whose names these are.
    pub convention: Convention,
    /// The tensors, on the CPU.
    pub tensors: BTreeMap<String, Tensor>,
}

impl WeightsFile {
    /// Reads all tensors of a safetensors or PyTorch file (zip or the older formats; of a training checkpoint its
    /// `model_state_dict`), without `module.` before their names. Nothing in the file is executed.
    ///
    /// # Errors
    /// [`WeightsError::Unreadable`], also for a file without a single tensor.
    pub fn open(path: &Path) -> Result<WeightsFile, WeightsError> {
        let unreadable =
            |reason: String| WeightsError::Unreadable { path: path.to_owned(), reason };
        if !path.is_file() {
            let what = if path.exists() { "it is no regular file" } else { "no such file" };
            return Err(unreadable(what.into()));
        }
        let (format, key, tensors) =
            if is_safetensors(path).map_err(|error| unreadable(error.to_string()))? {
                (Format::Safetensors, None, safetensors::read(path).map_err(unreadable)?)
            } else {
                pytorch::read(path).map_err(unreadable)?
            };
        if tensors.is_empty() {
            return Err(unreadable("it holds no tensors".into()));
        }
        if let Some((name, _)) = tensors.iter().find(|(name, _)| name.chars().any(char::is_control))
        {
            return Err(unreadable(format!("a tensor's name has control characters: {name:?}")));
        }
        let module_prefix = tensors.iter().any(|(name, _)| name.starts_with(MODULE));
        let tensors: BTreeMap<String, Tensor> =
            tensors.into_iter().map(|(name, tensor)| (without_module(name), tensor)).collect();
        let convention = Convention::detect(tensors.keys().map(String::as_str));
        Ok(WeightsFile { path: path.to_owned(), format, key, module_prefix, convention, tensors })
    }
}

/// Reads all tensors of a file; see [`WeightsFile::open`].
///
/// # Errors
/// [`WeightsError::Unreadable`].
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>, WeightsError> {
    Ok(WeightsFile::open(path)?.tensors)
}

/// Most dimensions of a tensor that libtorch can work with.
const MAX_DIMS: usize = 64;

/// A tensor of a file, once it is known that libtorch can hold it.
pub(super) fn tensor(
    name: &str,
    shape: &[usize],
    kind: Kind,
    bytes: &[u8],
) -> Result<Tensor, String> {
    if shape.len() > MAX_DIMS {
        return Err(format!("{name:?} has {} dimensions, libtorch {MAX_DIMS}", shape.len()));
    }
    // Also where a 0 makes the product small, libtorch multiplies the other sizes.
    let count = shape
        .iter()
        .try_fold(1i64, |product, &size| product.checked_mul(i64::try_from(size).ok()?.max(1)));
    if count.and_then(|count| count.checked_mul(8)).is_none() {
        return Err(format!("{name:?} has the impossible shape {shape:?}"));
    }
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    Tensor::f_from_data_size(bytes, &shape, kind).map_err(|error| {
        format!("{name:?}: {}", error.to_string().lines().next().unwrap_or_default())
    })
}

/// A tensor as it can be written: contiguous, on the CPU.
pub(super) fn on_cpu(tensor: &Tensor) -> Tensor {
    tensor.detach().to_device(Device::Cpu).contiguous()
}

/// The values of such a tensor: C order, little-endian as every machine that libtorch runs on.
pub(super) fn bytes(tensor: &Tensor) -> Vec<u8> {
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

/// What PyTorch's data-parallel wrappers put before every name.
const MODULE: &str = "module.";

pub(super) fn without_module(name: String) -> String {
    name.strip_prefix(MODULE).map(str::to_owned).unwrap_or(name)
}

/// A safetensors file begins with the length of its JSON header, then the header.
fn is_safetensors(path: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    std::fs::File::open(path)?.take(9).read_to_end(&mut start)?;
    Ok(start.get(8) == Some(&b'{'))
}

/// One tensor of a file.
#[derive(Debug, Serialize)]
pub struct TensorInfo {
    /// Its name, without `module.`.
    pub name: String,
    /// "f32", "f16", "i64", …
    pub dtype: &'static str,
    /// Its shape.
    pub shape: Vec<i64>,
    /// How many numbers it holds.
    pub count: usize,
    /// Whether none of them is NaN or infinite.
    pub finite: bool,
}

impl WeightsFile {
    /// Every tensor, by name.
    pub fn listing(&self) -> Vec<TensorInfo> {
        let info = |(name, tensor): (&String, &Tensor)| TensorInfo {
            name: name.clone(),
            dtype: dtype(tensor.kind()),
            shape: tensor.size(),
            count: tensor.numel(),
            finite: tensor.isfinite().all().int64_value(&[]) == 1,
        };
        self.tensors.iter().map(info).collect()
    }

    /// How many floating-point numbers there are, those of tied names counted once.
    pub fn parameters(&self) -> usize {
        let counted = |(name, tensor): (&String, &Tensor)| {
            let twin = twin_of(name).and_then(|of| self.tensors.get(&of));
            let again = twin.is_some_and(|twin| same(twin, tensor));
            if again || !tensor.is_floating_point() { 0 } else { tensor.numel() }
        };
        self.tensors.iter().map(counted).sum()
    }
}

fn dtype(kind: Kind) -> &'static str {
    match kind {
        Kind::Double => "f64",
        Kind::Float => "f32",
        Kind::Half => "f16",
        Kind::BFloat16 => "bf16",
        Kind::Int64 => "i64",
        Kind::Int => "i32",
        Kind::Int16 => "i16",
        Kind::Int8 => "i8",
        Kind::Uint8 => "u8",
        Kind::Bool => "bool",
        _ => "other",
    }
}
