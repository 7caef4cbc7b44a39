//! Weights by name: loaded from safetensors and PyTorch files, saved as safetensors.

mod pytorch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::nn::VarStore;
use tch::{Kind, Tensor};

/// What loading has done.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// Parameters that got their values.
    pub loaded: usize,
    /// Parameters that the file lacks and that were allowed to be missing.
    pub missing: Vec<String>,
    /// Tensors of the file that the model has no place for.
    pub unexpected: Vec<String>,
}

/// Why weights cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be read, or is neither a safetensors nor a sound PyTorch file.
    #[error("{path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file cannot be written.
    #[error("{path} cannot be written: {reason}")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The weights are those of another model.
    #[error("{path} does not fit the model: {}", problems.join("; "))]
    Misfit {
        /// The file.
        path: PathBuf,
        /// Missing and mis-shaped tensors.
        problems: Vec<String>,
    },
}

/// Reads all tensors of a safetensors or PyTorch file (zip or the older format; of a training checkpoint its
/// `model_state_dict`), without `module.` before their names. Nothing in the file is executed.
///
/// # Errors
/// [`WeightsError::Unreadable`], also for a file without a single tensor.
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>, WeightsError> {
    let unreadable = |reason: String| WeightsError::Unreadable { path: path.to_owned(), reason };
    if !path.is_file() {
        return Err(unreadable("no such file".into()));
    }
    let tensors = if is_safetensors(path).map_err(|error| unreadable(error.to_string()))? {
        Tensor::read_safetensors(path).map_err(|error| unreadable(error.to_string()))?
    } else {
        pytorch::read(path).map_err(unreadable)?
    };
    if tensors.is_empty() {
        return Err(unreadable("it holds no tensors".into()));
    }
    let stripped = |name: String| name.strip_prefix("module.").map(str::to_owned).unwrap_or(name);
    Ok(tensors.into_iter().map(|(name, tensor)| (stripped(name), tensor)).collect())
}

/// Writes a model's parameters as safetensors under VOLTA's names.
///
/// # Errors
/// [`WeightsError::Unwritable`].
pub fn save(variables: &VarStore, path: &Path) -> Result<(), WeightsError> {
    let mut tensors: Vec<(String, Tensor)> = variables.variables().into_iter().collect();
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    write(&tensors, path)
}

/// Writes tensors as safetensors, and to the disk before it returns.
pub(crate) fn write(tensors: &[(String, Tensor)], path: &Path) -> Result<(), WeightsError> {
    let unwritable = |reason: String| WeightsError::Unwritable { path: path.to_owned(), reason };
    Tensor::write_safetensors(tensors, path).map_err(|error| unwritable(error.to_string()))?;
    std::fs::File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|error| unwritable(error.to_string()))
}

/// A safetensors file begins with the length of its JSON header, then the header.
fn is_safetensors(path: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    std::io::Read::read_to_end(
        &mut std::io::Read::take(std::fs::File::open(path)?, 9),
        &mut start,
    )?;
    Ok(start.get(8) == Some(&b'{'))
}

/// Loads a file into a model's variables by VOLTA's names; see [`read`] for what files.
///
/// A parameter that the file lacks is an error unless its name begins with one of `allow_missing`. Nothing is changed
/// unless everything fits.
///
/// # Errors
/// [`WeightsError::Unreadable`]; [`WeightsError::Misfit`] with every missing and mis-shaped tensor.
pub fn load(
    variables: &VarStore,
    path: &Path,
    allow_missing: &[&str],
) -> Result<LoadReport, WeightsError> {
    let mut tensors = read(path)?;
    let mut report = LoadReport::default();
    let mut problems = Vec::new();
    let mut pairs = Vec::new();
    let mut variables: Vec<(String, Tensor)> = variables.variables().into_iter().collect();
    variables.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (name, variable) in variables {
        match tensors.remove(&name) {
            Some(tensor) if tensor.size() == variable.size() => pairs.push((variable, tensor)),
            Some(tensor) => {
                problems.push(format!(
                    "`{name}` is {:?} instead of {:?}",
                    tensor.size(),
                    variable.size()
                ));
            }
            None if allow_missing.iter().any(|start| name.starts_with(start)) => {
                report.missing.push(name)
            }
            None => problems.push(format!("`{name}` is missing")),
        }
    }
    if !problems.is_empty() {
        return Err(WeightsError::Misfit { path: path.to_owned(), problems });
    }
    report.loaded = pairs.len();
    report.unexpected = tensors.into_keys().collect();
    tch::no_grad(|| {
        for (mut variable, tensor) in pairs {
            variable.copy_(&tensor.to_kind(Kind::Double).to_kind(variable.kind()));
        }
    });
    Ok(report)
}
