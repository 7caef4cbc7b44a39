//! Libraries and programs: where they are, and what is missing.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::line;

/// ONNX Runtime and what it runs on.
#[derive(Serialize)]
pub struct OnnxRuntime {
    /// This program was built to use it.
    built_in: bool,
    /// The library.
    path: Option<PathBuf>,
    /// Its version.
    version: Option<String>,
    /// Ways to run models that it was built with.
    providers: Vec<String>,
    /// Why it cannot be used.
    fault: Option<String>,
    /// Version of the NVIDIA driver.
    driver: Option<String>,
    /// Libraries that GPUs need and that were found as Python wheels.
    cuda_libraries: Vec<PathBuf>,
    /// What can be given as `--device`.
    devices: Vec<Device>,
}

/// Something to run on.
#[derive(Serialize)]
struct Device {
    name: String,
    usable: bool,
    fault: Option<String>,
}

impl OnnxRuntime {
    #[cfg(feature = "onnx")]
    pub fn look() -> OnnxRuntime {
        use onnx::runtime::{self, Provider};
        let mut found = OnnxRuntime::nothing(true);
        found.driver = runtime::driver_version();
        match runtime::library() {
            Ok(library) => {
                found.version.clone_from(&library.version);
                found.providers = Provider::ALL
                    .into_iter()
                    .filter(|provider| library.has(*provider))
                    .map(|provider| provider.to_string())
                    .collect();
                let libraries = runtime::cuda_libraries(&library.path).into_iter();
                found.cuda_libraries = libraries.filter_map(|library| library.found).collect();
                found.path = Some(library.path.clone());
                found.devices = devices();
            }
            Err(error) => found.fault = Some(error.to_string()),
        }
        found
    }

    #[cfg(not(feature = "onnx"))]
    pub fn look() -> OnnxRuntime {
        let fault = Some("this program was built without it (feature `onnx`)".to_owned());
        OnnxRuntime { fault, ..OnnxRuntime::nothing(false) }
    }

    fn nothing(built_in: bool) -> OnnxRuntime {
        OnnxRuntime {
            built_in,
            path: None,
            version: None,
            providers: Vec::new(),
            fault: None,
            driver: None,
            cuda_libraries: Vec::new(),
            devices: Vec::new(),
        }
    }

    pub fn print(&self) {
        match (&self.path, &self.fault) {
            (Some(path), _) => {
                let version = self.version.as_deref().unwrap_or("of unknown version");
                line(
                    "onnxruntime",
                    &format!("{version}, for {}, {}", self.providers.join(" "), path.display()),
                );
            }
            (None, fault) => {
                line("onnxruntime", &format!("no: {}", fault.as_deref().unwrap_or("not found")))
            }
        }
        line(
            "nvidia",
            &self
                .driver
                .as_ref()
                .map_or_else(|| "no driver".to_owned(), |version| format!("driver {version}")),
        );
        for device in &self.devices {
            let words = device
                .fault
                .as_ref()
                .map_or_else(|| "usable".to_owned(), |fault| format!("no: {fault}"));
            line(&format!("  {}", device.name), &words);
        }
    }
}

/// Every device is tried out; GPUs beyond the first only while they are there.
#[cfg(feature = "onnx")]
fn devices() -> Vec<Device> {
    use onnx::runtime::{self, Device as Kind};
    let look = |kind: Kind| {
        let fault = runtime::probe(kind).err().map(|error| error.to_string());
        Device { name: kind.to_string(), usable: fault.is_none(), fault }
    };
    let mut devices = vec![look(Kind::Cpu)];
    for family in [Kind::Cuda as fn(i32) -> Kind, Kind::TensorRt] {
        for number in 0.. {
            let device = look(family(number));
            let usable = device.usable;
            if usable || number == 0 {
                devices.push(device);
            }
            if !usable {
                break;
            }
        }
    }
    devices
}

/// libtorch, which training needs.
#[derive(Serialize)]
pub struct Libtorch {
    /// This program was built with it.
    built_in: bool,
    /// Its folder.
    path: Option<PathBuf>,
    /// Its version.
    version: Option<String>,
}

impl Libtorch {
    pub fn look() -> Libtorch {
        let named = std::env::var_os("LIBTORCH").map(PathBuf::from);
        let linked = [std::env::current_dir(), std::env::current_exe()];
        let linked = linked.into_iter().flatten().flat_map(|folder| {
            folder.ancestors().map(|above| above.join(".runtime/torch")).collect::<Vec<_>>()
        });
        let path =
            in_use().into_iter().chain(named).chain(linked).find(|folder| holds_libtorch(folder));
        let version = path.as_deref().and_then(torch_version);
        Libtorch { built_in: cfg!(feature = "torch"), path, version }
    }

    pub fn print(&self) {
        let built = if self.built_in {
            ""
        } else {
            "; this program was built without it (feature `torch`)"
        };
        match &self.path {
            Some(path) => {
                let version = self.version.as_deref().unwrap_or("of unknown version");
                line("libtorch", &format!("{version}, {}{built}", path.display()));
            }
            None => line("libtorch", &format!("not found; run `make setup`{built}")),
        }
    }
}

/// The one that this very process has loaded, wherever it was found.
fn in_use() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let library = maps.lines().find_map(|line| {
        let path = Path::new(line.get(line.find('/')?..)?);
        path.file_name()?.to_str()?.starts_with("libtorch_cpu.").then_some(path)
    });
    Some(library?.parent()?.parent()?.to_owned())
}

fn holds_libtorch(folder: &Path) -> bool {
    let Ok(files) = std::fs::read_dir(folder.join("lib")) else { return false };
    files.flatten().any(|file| file.file_name().to_string_lossy().contains("torch_cpu"))
}

/// A download has a file with the version, a Python wheel a line with it.
fn torch_version(folder: &Path) -> Option<String> {
    if let Ok(version) = std::fs::read_to_string(folder.join("build-version")) {
        return Some(version.trim().to_owned());
    }
    let python = std::fs::read_to_string(folder.join("version.py")).ok()?;
    let line = python.lines().find(|line| line.starts_with("__version__"))?;
    Some(line.split(['\'', '"']).nth(1)?.to_owned())
}

/// The launcher of training on several machines.
#[derive(Serialize)]
pub struct Mpi {
    /// This program was built with it.
    built_in: bool,
    /// `mpirun` or `mpiexec`.
    launcher: Option<PathBuf>,
}

impl Mpi {
    pub fn look() -> Mpi {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<_> = std::env::split_paths(&path).collect();
        let launcher = ["mpirun", "mpiexec"]
            .into_iter()
            .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
            .find(|file| file.is_file());
        Mpi { built_in: cfg!(feature = "mpi"), launcher }
    }

    pub fn print(&self) {
        let built =
            if self.built_in { "" } else { "; this program was built without it (feature `mpi`)" };
        let found = self
            .launcher
            .as_ref()
            .map_or_else(|| "no mpirun".to_owned(), |path| path.display().to_string());
        line("mpi", &format!("{found}{built}"));
    }
}
