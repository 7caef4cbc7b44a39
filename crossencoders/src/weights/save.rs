//! From a model's variables into a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tch::Tensor;
use tch::nn::VarStore;

use super::{WeightsError, pytorch, safetensors, tied};
use crate::config::ModelConfig;

/// A format to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SaveAs {
    /// safetensors.
    Safetensors,
    /// A state dictionary in PyTorch's zip format.
    Pytorch,
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

/// Writes a model's parameters as a PyTorch file that `torch.load` and VOLTA's own loader read: a state dictionary in
/// which tied parameters have all the names that VOLTA gives them.
///
/// # Errors
/// [`WeightsError::Unwritable`].
pub fn save_pytorch(
    variables: &VarStore,
    config: &ModelConfig,
    path: &Path,
) -> Result<(), WeightsError> {
    let mut tensors: BTreeMap<String, Tensor> = variables.variables().into_iter().collect();
    tied::add_twins(config, &mut tensors);
    write_as(SaveAs::Pytorch, &tensors.into_iter().collect::<Vec<_>>(), path)
}

/// Writes tensors as safetensors, and to the disk before it returns.
pub(crate) fn write(tensors: &[(String, Tensor)], path: &Path) -> Result<(), WeightsError> {
    write_as(SaveAs::Safetensors, tensors, path)
}

/// Writes beside the target and renames, so that no half-written file ever has the target's name.
pub(super) fn write_as(
    format: SaveAs,
    tensors: &[(String, Tensor)],
    path: &Path,
) -> Result<(), WeightsError> {
    if path.exists() && !path.is_file() {
        // Renaming would put a file in place of a device or a folder.
        let source = io::Error::other("it is there, and no regular file");
        return Err(WeightsError::Unwritable { path: path.to_owned(), source });
    }
    let beside = beside(path);
    let written = (|| {
        match format {
            SaveAs::Safetensors => safetensors::write(tensors, &beside)?,
            SaveAs::Pytorch => pytorch::write(tensors, BufWriter::new(File::create(&beside)?))?,
        }
        File::open(&beside)?.sync_all()?;
        std::fs::rename(&beside, path)
    })();
    written.map_err(|source| {
        // Best effort: the error that matters is the one that came before.
        let _ = std::fs::remove_file(&beside);
        WeightsError::Unwritable { path: path.to_owned(), source }
    })
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.partial", std::process::id()))
}
