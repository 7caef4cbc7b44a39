//! Optimised graphs on disk, each in a folder whose name is made of all that decides what it is.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ort::session::Session as OrtSession;
use ort::session::builder::GraphOptimizationLevel::Disable;
use xxhash_rust::xxh3::Xxh3;

use super::library::Library;
use super::session::not_loaded;
use super::{Options, RuntimeError};
use crate::file;

/// The graph, in its folder.
const GRAPH: &str = "graph.onnx";
/// Its larger constants, beside it: a file of one piece could not have more than 2 GiB.
const CONSTANTS: &str = "graph.data";
/// Smaller ones stay in the graph.
const SMALLEST_OUTSIDE: &str = "1024";

/// A session of a model, from its optimised form if that is there and sound; otherwise it is made now.
pub(super) fn open(
    folder: &Path,
    model: &Path,
    options: &Options,
    library: &Library,
) -> Result<OrtSession, RuntimeError> {
    let place = folder.join(name(model, options, library)?);
    match open_optimised(&place.join(GRAPH), options, library) {
        Some(session) => Ok(session),
        None => optimise(model, &place, options, library),
    }
}

fn open_optimised(graph: &Path, options: &Options, library: &Library) -> Option<OrtSession> {
    if !graph.is_file() {
        return None;
    }
    let builder = options.builder(library).ok()?;
    builder.with_optimization_level(Disable).ok()?.commit_from_file(graph).ok()
}

fn optimise(
    model: &Path,
    place: &Path,
    options: &Options,
    library: &Library,
) -> Result<OrtSession, RuntimeError> {
    // Another process may be at the same.
    let partial = place.with_extension(format!("{}.partial", std::process::id()));
    std::fs::create_dir_all(&partial)
        .map_err(|source| RuntimeError::Io { path: partial.clone(), source })?;
    let session = options.builder(library).and_then(|builder| {
        let commit = || -> ort::Result<OrtSession> {
            builder
                .with_optimized_model_path(partial.join(GRAPH))?
                .with_config_entry(
                    "session.optimized_model_external_initializers_file_name",
                    CONSTANTS,
                )?
                .with_config_entry(
                    "session.optimized_model_external_initializers_min_size_in_bytes",
                    SMALLEST_OUTSIDE,
                )?
                .commit_from_file(model)
        };
        let name = model.display().to_string();
        commit()
            .map_err(|error| not_loaded(&name, options.device, &error, || file::read(model).ok()))
    });
    // A graph that could not be kept is optimised again next time; what was there was not sound.
    let _ = std::fs::remove_dir_all(place);
    if session.is_err() || std::fs::rename(&partial, place).is_err() {
        let _ = std::fs::remove_dir_all(&partial);
    }
    session
}

/// By the bytes of the model and of its constants outside, the library, the device and the processor.
fn name(model: &Path, options: &Options, library: &Library) -> Result<String, RuntimeError> {
    let mut digest = Xxh3::new();
    let outside = file::outside(model).map_err(|error| RuntimeError::Model {
        model: model.display().to_string(),
        what: error.to_string(),
    })?;
    for path in [model.to_owned()].into_iter().chain(outside) {
        hash_file(&path, &mut digest)
            .map_err(|source| RuntimeError::Io { path: path.clone(), source })?;
    }
    for part in [library.build, &options.device.to_string(), &processor()] {
        digest.update(part.as_bytes());
        digest.update(&[0]);
    }
    Ok(format!("{:016x}", digest.digest()))
}

fn hash_file(path: &Path, digest: &mut Xxh3) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut block = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(());
        }
        digest.update(&block[..read]);
    }
}

/// Graphs are arranged for the vector width of the processor.
fn processor() -> String {
    #[cfg(target_arch = "x86_64")]
    let features = {
        use std::arch::is_x86_feature_detected as has;
        format!("{} {} {}", has!("avx2"), has!("avx512f"), has!("avx512vnni"))
    };
    #[cfg(not(target_arch = "x86_64"))]
    let features = "";
    format!("{} {features}", std::env::consts::ARCH)
}
