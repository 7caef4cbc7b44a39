//! ONNX Runtime's own file format: a graph that is optimised already.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ort::session::builder::GraphOptimizationLevel::Level2;
use prost::Message;

use super::session::not_loaded;
use super::{Device, Options, RuntimeError, library};
use crate::Model;

/// What the names of such files end with.
pub const ORT_ENDING: &str = "ort";

/// Where such files say what they are, and what they say.
const MARK: (usize, &[u8]) = (4, b"ORTM");

/// Whether a path names an exported model, in either format: by its end, as [`Session::open`](super::Session::open) tells them.
pub fn names_a_model(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "onnx" || ending == ORT_ENDING)
}

/// Whether a file is in ONNX Runtime's own format, whatever it is called.
pub(super) fn is_ort(path: &Path) -> bool {
    let mut start = [0; 8];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start[MARK.0..].starts_with(MARK.1)
}

/// Writes a model in ONNX Runtime's own format: with its fused operators, but arranged for no processor in particular, so
/// that other machines can run it. [`Session::open`](super::Session::open) takes it, on the CPU. The file appears when it is
/// complete.
///
/// # Errors
/// [`RuntimeError::NotFound`] and [`RuntimeError::Library`] without a usable ONNX Runtime; [`RuntimeError::Model`] if it
/// cannot run the model or write the file; [`RuntimeError::Io`].
pub fn write_ort(model: &Model, path: &Path) -> Result<(), RuntimeError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!(".{name}.partial"));
    // ONNX Runtime would say less of a file that cannot be written.
    File::create(&partial).map_err(io(&partial))?;
    let written = save(model, &partial)
        .and_then(|()| File::open(&partial).and_then(|file| file.sync_all()).map_err(io(&partial)))
        .and_then(|()| fs::rename(&partial, path).map_err(io(path)));
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written
}

/// What ONNX Runtime says, besides nothing that helps, if it cannot write.
const NOT_SAVED: &str = "SaveToOrtFormat";

fn save(model: &Model, path: &Path) -> Result<(), RuntimeError> {
    let builder = Options::default().builder(library()?)?;
    let commit = || -> ort::Result<()> {
        let session = builder
            .with_optimization_level(Level2)?
            .with_config_entry("session.save_model_format", "ORT")?
            .with_optimized_model_path(path)?
            .commit_from_memory(&model.proto().encode_to_vec())?;
        drop(session);
        Ok(())
    };
    commit().map_err(|error| match error.to_string().contains(NOT_SAVED) {
        true => io(path)(io::Error::other("it cannot be written: is there room on the disk?")),
        false => not_loaded("the model", Device::Cpu, &error, || None),
    })
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> RuntimeError + use<> {
    let path: PathBuf = path.to_owned();
    move |source| RuntimeError::Io { path, source }
}
