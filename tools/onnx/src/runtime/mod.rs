//! Running model files through the ONNX Runtime that is on the machine.

mod cache;
mod cuda;
mod device;
mod library;
mod options;
mod ort_format;
mod session;
mod tensor;

use std::path::PathBuf;

pub use cuda::{CudaLibrary, cuda_libraries, driver_version};
pub use device::{Device, DeviceError};
pub use library::{Library, Provider, find, library};
pub use options::Options;
pub use ort_format::{ORT_ENDING, names_a_model, write_ort};
pub use session::{Input, Session, probe};
pub use tensor::Tensor;

use crate::shape::Shape;
use crate::tensor::{Dtype, TensorError};

/// What can go wrong with ONNX Runtime and a model in it.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The library is nowhere.
    #[error(
        "ONNX Runtime was not found; run `make setup`, or set ORT_DYLIB_PATH to the library. Looked for {}",
        .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NotFound(Vec<PathBuf>),
    /// The library cannot be used.
    #[error("ONNX Runtime at {path} cannot be used: {what}")]
    Library {
        /// The library.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The device cannot be used.
    #[error("device {device} cannot be used: {what}")]
    Device {
        /// The device asked for.
        device: Device,
        /// What is missing.
        what: String,
    },
    /// Some operators would run on the CPU although another device was asked for.
    #[error("on {device} the CPU would have to run {}: no kernel for them there", .operators.join(", "))]
    Placement {
        /// The device asked for.
        device: Device,
        /// The operators, or what ONNX Runtime says of them.
        operators: Vec<String>,
    },
    /// There is no such file, or a folder or a device of that name.
    #[error("{path} cannot be loaded: {what}")]
    NoFile {
        /// The path.
        path: PathBuf,
        /// What is there instead.
        what: &'static str,
    },
    /// The file cannot be loaded.
    #[error(
        "{model} cannot be loaded: {what}; if it is a file that was cut or changed, export it again (`xenc export`)"
    )]
    Model {
        /// The file, or `a model in memory`.
        model: String,
        /// What ONNX Runtime says.
        what: String,
    },
    /// An input that the model does not have.
    #[error("the model has no input `{name}`; it has {}", .known.join(", "))]
    UnknownInput {
        /// The name given.
        name: String,
        /// Its inputs.
        known: Vec<String>,
    },
    /// An input that was not given.
    #[error("input `{0}` of the model is missing")]
    MissingInput(String),
    /// An input of another type or shape.
    #[error("input `{name}` is {found_dtype} {found:?}, the model takes {dtype} {shape}")]
    WrongInput {
        /// Its name.
        name: String,
        /// Type given.
        found_dtype: Dtype,
        /// Shape given.
        found: Vec<usize>,
        /// Type wanted.
        dtype: Dtype,
        /// Shape wanted.
        shape: Shape,
    },
    /// An output that the model does not have.
    #[error("the model has no output `{name}`; it has {}", .known.join(", "))]
    UnknownOutput {
        /// The name asked for.
        name: String,
        /// Its outputs.
        known: Vec<String>,
    },
    /// The run failed.
    #[error("{model}: the run failed: {what}")]
    Run {
        /// The file.
        model: String,
        /// What ONNX Runtime says.
        what: String,
    },
    /// A tensor of a type that is not known here, or not the expected one.
    #[error("`{name}`: {source}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        source: TensorError,
    },
    /// A file or a folder for optimised graphs cannot be used.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// What ONNX Runtime says, without the place in its own source that it begins with.
fn words_of<R>(error: &ort::Error<R>) -> String {
    plain(error.message())
}

fn plain(message: &str) -> String {
    let rest = message.split_once("[ONNXRuntimeError] : ").map_or(message, |(_, rest)| rest);
    // The number and the name of the fault.
    let rest = if rest.len() < message.len() {
        rest.splitn(3, " : ").nth(2).unwrap_or(rest)
    } else {
        rest
    };
    // The file is named already.
    let rest = match rest.split_once(" failed:") {
        Some((start, rest)) if start.starts_with("Load model from ") => rest,
        _ => rest,
    };
    match rest.split_once("/onnxruntime_src/") {
        Some((before, place)) => format!("{before}{}", behind_place(place)).trim().to_owned(),
        None => rest.trim().to_owned(),
    }
}

/// What follows a place in the library's source (`FILE:LINE `) and the signature of the function there.
fn behind_place(text: &str) -> &str {
    let Some((_, rest)) = text.split_once(' ') else { return text };
    let mut depth = 0;
    for (at, letter) in rest.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 1 => return rest[at + 1..].trim_start().trim_start_matches("const "),
            ')' => depth -= 1,
            _ => {}
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lose_the_place_in_the_librarys_source() {
        let message = "/src/provider_bridge.cc:2043 Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load x : y\n";
        assert_eq!(plain(message), "Failed to load x : y");
        assert_eq!(plain("No such file : x"), "No such file : x");
        let message = "Load model from a.onnx failed:/onnxruntime_src/core/model.cc:256 \
                       onnx::Model::Model(const std::function<void (int)>&, int) const IR version 9 (or so)";
        assert_eq!(plain(message), "IR version 9 (or so)");
    }
}
