//! Finding and opening the library.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::environment::Environment;
use ort::ep::{self, ExecutionProvider};

use super::RuntimeError;

/// The library's file name on this system.
#[cfg(target_os = "windows")]
const FILE: &str = "onnxruntime.dll";
#[cfg(target_os = "macos")]
const FILE: &str = "libonnxruntime.dylib";
#[cfg(not(any(target_os = "windows", target_os = "macos")))]
const FILE: &str = "libonnxruntime.so";

/// The opened library; there is one for the whole process.
pub struct Library {
    /// Where it lies.
    pub path: PathBuf,
    /// Its version, where the file's name tells.
    pub version: Option<String>,
    /// What it says about itself.
    pub build: &'static str,
    pub(super) environment: Environment,
}

/// A way to run models that a library may have been built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// The processor.
    Cpu,
    /// NVIDIA GPUs.
    Cuda,
    /// NVIDIA GPUs with graphs compiled for them.
    TensorRt,
}

impl Provider {
    /// All that are known here.
    pub const ALL: [Provider; 3] = [Provider::Cpu, Provider::Cuda, Provider::TensorRt];
}

impl std::fmt::Display for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Provider::Cpu => "CPU",
            Provider::Cuda => "CUDA",
            Provider::TensorRt => "TensorRT",
        })
    }
}

impl Library {
    /// True if the library was built with this provider; whether it works on this machine is another question.
    pub fn has(&self, provider: Provider) -> bool {
        let available = match provider {
            Provider::Cpu => ep::CPU::is_available(),
            Provider::Cuda => ep::CUDA::is_available(),
            Provider::TensorRt => ep::TensorRT::is_available(),
        };
        available.unwrap_or(false)
    }
}

/// Where the library lies: `ORT_DYLIB_PATH`; else `.runtime/onnxruntime` beside or above the working directory or the
/// program, where `make setup` links it; else the cache that `make setup` fills.
///
/// # Errors
/// [`RuntimeError::NotFound`] with every place that was looked at.
pub fn find() -> Result<PathBuf, RuntimeError> {
    search().map_err(RuntimeError::NotFound)
}

/// The library, or every place that was looked at.
fn search() -> Result<PathBuf, Vec<PathBuf>> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return if path.is_file() { Ok(path) } else { Err(vec![path]) };
    }
    let mut looked = Vec::new();
    for folder in std::env::current_dir().into_iter().chain(std::env::current_exe()) {
        for above in folder.ancestors() {
            let path = above.join(".runtime/onnxruntime").join(FILE);
            if path.is_file() {
                return Ok(path);
            }
            looked.push(path);
        }
    }
    looked.truncate(1);
    looked.extend(
        std::env::current_exe()
            .ok()
            .and_then(|exe| Some(exe.parent()?.join(".runtime/onnxruntime").join(FILE))),
    );
    if let Some(cache) = cache_folder() {
        if let Some(path) = find_in_cache(&cache) {
            return Ok(path);
        }
        looked.push(cache.join("onnxruntime-*/onnxruntime/capi").join(FILE));
    }
    Err(looked)
}

/// `${XDG_CACHE_HOME:-~/.cache}/xenc`, as in tools/setup/runtime.sh.
pub(super) fn cache_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    Some(set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?.join("xenc"))
}

/// The last by name: those with GPU support (`onnxruntime-gpu-…`) come after those without, newer ones after older.
fn find_in_cache(cache: &Path) -> Option<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(cache)
        .ok()?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("onnxruntime-"))
        .map(|entry| entry.path().join("onnxruntime/capi").join(FILE))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found.pop()
}

/// Opens the library, once for the whole process.
///
/// # Errors
/// [`RuntimeError::NotFound`], or [`RuntimeError::Library`] for a file that is no ONNX Runtime or too old a one.
pub fn library() -> Result<&'static Library, RuntimeError> {
    static LIBRARY: OnceLock<Result<Library, Fault>> = OnceLock::new();
    LIBRARY.get_or_init(open).as_ref().map_err(|fault| match fault.clone() {
        Fault::NotFound(looked) => RuntimeError::NotFound(looked),
        Fault::Unusable(path, what) => RuntimeError::Library { path, what },
    })
}

/// Why there is no library; told to everyone who asks.
#[derive(Clone)]
enum Fault {
    NotFound(Vec<PathBuf>),
    Unusable(PathBuf, String),
}

fn open() -> Result<Library, Fault> {
    let path = search().map_err(Fault::NotFound)?;
    // The loader searches names without a folder elsewhere.
    let path = path.canonicalize().unwrap_or(path);
    let fault = |what: String| Fault::Unusable(path.clone(), what);
    let builder = ort::init_from(&path).map_err(|error| fault(error.to_string()))?;
    // Without telemetry; what ONNX Runtime has to say goes to the errors.
    let environment = builder
        .with_name("xenc")
        .with_telemetry(false)
        .build()
        .map_err(|error| fault(error.to_string()))?;
    environment.set_log_level(ort::logging::LogLevel::Fatal);
    let version = version_of(&path);
    Ok(Library { version, build: ort::info(), environment, path })
}

/// `1.31.1` of `libonnxruntime.so.1.31.1` or `libonnxruntime.1.31.1.dylib`.
fn version_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    let start = name.find(|c: char| c.is_ascii_digit())?;
    let version: String =
        name[start..].chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    Some(version.trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_off_the_name() {
        let version = |name: &str| version_of(Path::new(name));
        assert_eq!(version("/x/libonnxruntime.so.1.31.1").as_deref(), Some("1.31.1"));
        assert_eq!(version("libonnxruntime.1.31.1.dylib").as_deref(), Some("1.31.1"));
        assert_eq!(version("libonnxruntime.so"), None);
    }

    #[test]
    fn the_cache_prefers_what_supports_gpus() -> std::io::Result<()> {
        let cache = tempfile::tempdir()?;
        assert_eq!(find_in_cache(cache.path()), None);
        for name in [
            "onnxruntime-1.31.1",
            "onnxruntime-gpu-1.31.1",
            "torch-2.11.0-cpu",
            "onnxruntime-1.32.0.partial",
        ] {
            let folder = cache.path().join(name).join("onnxruntime/capi");
            std::fs::create_dir_all(&folder)?;
            if !name.ends_with("partial") {
                std::fs::write(folder.join(FILE), "")?;
            }
        }
        let found = find_in_cache(cache.path()).unwrap_or_default();
        assert!(
            found.starts_with(cache.path().join("onnxruntime-gpu-1.31.1")),
            "{}",
            found.display()
        );
        Ok(())
    }
}
