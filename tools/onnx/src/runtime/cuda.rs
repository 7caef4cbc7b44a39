//! The libraries that ONNX Runtime's CUDA provider needs. Those that come as Python wheels (with `make setup-cuda`) lie
//! where the system's loader does not look: they are opened before the provider is.

use std::path::{Path, PathBuf};

use super::library::cache_folder;

/// Names without version, in the order in which they need each other.
const NAMES: [&str; 5] = ["libcudart", "libcublasLt", "libcublas", "libcurand", "libcudnn"];

/// A library that the CUDA provider needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaLibrary {
    /// Its name without version.
    pub name: &'static str,
    /// Where it was found; without a folder, it is the system's.
    pub found: Option<PathBuf>,
}

/// Looks for the libraries in the folders of wheels beside libtorch and ONNX Runtime.
pub fn cuda_libraries(onnxruntime: &Path) -> Vec<CudaLibrary> {
    let folders = wheel_folders(onnxruntime);
    NAMES.map(|name| CudaLibrary { name, found: find_library(name, &folders) }).to_vec()
}

/// The driver's version as the kernel module tells it; nothing where there is no NVIDIA driver.
pub fn driver_version() -> Option<String> {
    std::fs::read_to_string("/sys/module/nvidia/version").ok().map(|text| text.trim().to_owned())
}

/// Opens the libraries for the whole process; those that are not found are left to the system's loader, whose error
/// names them.
pub(super) fn open_libraries(onnxruntime: &Path) {
    for library in cuda_libraries(onnxruntime) {
        if let Some(path) = library.found {
            // What cannot be opened here shows in the provider's own error.
            let _ = ort::util::preload_dylib(path);
        }
    }
}

/// `nvidia/*/lib` in the folders that hold ONNX Runtime and, where `make setup-cuda` put or linked it, libtorch.
fn wheel_folders(onnxruntime: &Path) -> Vec<PathBuf> {
    let torch = std::env::var_os("LIBTORCH").map(PathBuf::from);
    let linked = std::env::current_dir().ok().map(|folder| folder.join(".runtime/torch"));
    let roots = onnxruntime.ancestors().skip(1).take(3).map(Path::to_path_buf);
    let torches = torch.into_iter().chain(linked).chain(cached_torches());
    let torches = torches.filter_map(|path| path.canonicalize().ok());
    let beside_torch = torches.filter_map(|path| path.parent().map(Path::to_path_buf));
    let wheels =
        roots.chain(beside_torch).filter_map(|root| std::fs::read_dir(root.join("nvidia")).ok());
    let mut folders: Vec<_> =
        wheels.flatten().flatten().map(|entry| entry.path().join("lib")).collect();
    folders.sort();
    folders.dedup();
    folders
}

/// libtorch in the cache that `make setup-cuda` fills.
fn cached_torches() -> Vec<PathBuf> {
    let entries = cache_folder().and_then(|cache| std::fs::read_dir(cache).ok());
    let named = |entry: &std::fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("torch-") && name.ends_with("-cuda")
    };
    let folders = entries.into_iter().flatten().flatten().filter(named);
    folders.map(|entry| entry.path().join("torch")).collect()
}

fn find_library(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let wanted = format!("{name}.so.");
    folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten().find_map(
        |entry| entry.file_name().to_string_lossy().starts_with(&wanted).then(|| entry.path()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_wheels_beside_onnxruntime_are_found() -> std::io::Result<()> {
        let root = tempfile::tempdir()?;
        let capi = root.path().join("onnxruntime/capi");
        let lib = root.path().join("nvidia/cu13/lib");
        std::fs::create_dir_all(&capi)?;
        std::fs::create_dir_all(&lib)?;
        std::fs::write(lib.join("libcublasLt.so.13"), "")?;
        std::fs::write(lib.join("libcublas.so.13"), "")?;
        let found = cuda_libraries(&capi.join("libonnxruntime.so"));
        let of = |name| {
            found
                .iter()
                .find(|library| library.name == name)
                .and_then(|library| library.found.clone())
        };
        assert_eq!(of("libcublas"), Some(lib.join("libcublas.so.13")));
        assert_eq!(of("libcublasLt"), Some(lib.join("libcublasLt.so.13")));
        assert_eq!(of("libcurand"), None);
        Ok(())
    }
}
