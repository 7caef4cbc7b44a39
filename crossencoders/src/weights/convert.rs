//! From one file of weights to another.

use std::io;
use std::path::Path;

use serde::Serialize;
use tch::Kind;

use super::file::{Format, WeightsFile};
use super::names::{Convention, Table};
use super::save::{SaveAs, write_as};
use super::{WeightsError, tied};
use crate::config::ModelConfig;

/// What the new file is to be.
#[derive(Debug, Clone, Copy)]
pub struct Conversion {
    /// Its format.
    pub format: SaveAs,
    /// The type of floating-point tensors; `None` keeps theirs.
    pub kind: Option<Kind>,
    /// Whose names it uses; `None` for VOLTA's.
    pub names: Option<Convention>,
    /// Replace the target if it exists.
    pub force: bool,
}

/// What was converted.
#[derive(Debug, Serialize)]
pub struct ConvertReport {
    /// Format that was read.
    pub format: Format,
    /// Convention that was read.
    pub from: Convention,
    /// Convention that was written.
    pub to: Convention,
    /// Tensors that were written, second names of tied parameters included.
    pub written: usize,
    /// Second names that were left out: the parameters are there under their first.
    pub tied: Vec<String>,
    /// Tensors that were left out because the new convention has no name for them.
    pub left_out: Vec<String>,
}

/// Converts a file of weights. With a configuration, names may change their convention, safetensors files get every tied
/// parameter once, and PyTorch files get all names that VOLTA gives them.
///
/// # Errors
/// [`WeightsError`].
pub fn convert(
    source: &Path,
    target: &Path,
    config: Option<&ModelConfig>,
    conversion: &Conversion,
) -> Result<ConvertReport, WeightsError> {
    if target.exists() && !conversion.force {
        return Err(WeightsError::Exists { path: target.to_owned() });
    }
    let WeightsFile { format, convention: from, mut tensors, .. } = WeightsFile::open(source)?;
    let to = conversion.names.unwrap_or(match from {
        Convention::Unknown => Convention::Unknown,
        _ => Convention::Volta,
    });
    let (mut left_out, mut twins) = (Vec::new(), Vec::new());
    if let Some(config) = config {
        if let Some(table) = Table::new(from, config) {
            let renamed = table.to_volta(tensors);
            tensors = renamed.tensors;
            left_out.extend(renamed.left);
        }
        twins = tied::drop_twins(&mut tensors);
        if let Some(table) = Table::new(to, config) {
            let renamed = table.to_convention(tensors);
            tensors = renamed.tensors;
            left_out.extend(renamed.left);
        }
    } else if from != to && (from.is_foreign() || to.is_foreign()) {
        let (path, from, to) = (source.to_owned(), from.name(), to.name());
        return Err(WeightsError::NeedsConfig { path, from, to });
    }
    if let Some(kind) = conversion.kind {
        for tensor in tensors.values_mut().filter(|tensor| tensor.is_floating_point()) {
            *tensor = tensor.to_kind(kind);
        }
    }
    if let (Some(config), SaveAs::Pytorch, false) = (config, conversion.format, to.is_foreign()) {
        tied::add_twins(config, &mut tensors);
        twins.retain(|twin| !tensors.contains_key(twin));
    }
    if tensors.is_empty() {
        let source = io::Error::other(format!("nothing is left under {}'s names", to.name()));
        return Err(WeightsError::Unwritable { path: target.to_owned(), source });
    }
    let written = tensors.len();
    write_as(conversion.format, &tensors.into_iter().collect::<Vec<_>>(), target)?;
    Ok(ConvertReport { format, from, to, written, tied: twins, left_out })
}
