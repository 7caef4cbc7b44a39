//! Where models run.

use std::str::FromStr;

use tch::Cuda;

/// A device by name: `cpu`, `cuda`, `cuda:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device(tch::Device);

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Not a device's name.
    #[error("`{0}` is no device: cpu, cuda and cuda:N are")]
    Unknown(String),
    /// No such GPU for libtorch.
    #[error(
        "cuda:{0} was asked for, but libtorch sees {1} GPUs; `make setup-cuda` installs what it needs"
    )]
    NoGpu(usize, i64),
}

impl Device {
    /// The processor.
    pub const CPU: Device = Device(tch::Device::Cpu);

    /// For tch.
    pub fn get(self) -> tch::Device {
        self.0
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    /// # Errors
    /// [`DeviceError`]: a GPU that is asked for and not there is never replaced by the processor.
    fn from_str(name: &str) -> Result<Device, DeviceError> {
        let index = match name {
            "cpu" => return Ok(Device::CPU),
            "cuda" => Some(0),
            _ => name.strip_prefix("cuda:").and_then(|index| index.parse().ok()),
        };
        let index: usize = index.ok_or_else(|| DeviceError::Unknown(name.to_owned()))?;
        load_cuda();
        let count = if Cuda::is_available() { Cuda::device_count() } else { 0 };
        if index as i64 >= count {
            return Err(DeviceError::NoGpu(index, count));
        }
        Ok(Device(tch::Device::Cuda(index)))
    }
}

/// Loads libtorch's CUDA library, which registers itself. The program links only the part for the processor, so that it
/// starts without a GPU.
fn load_cuda() {
    #[cfg(target_os = "linux")]
    {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        // SAFETY: the library is libtorch's own, of the version that is linked; its initialisers register operators.
        let library = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) };
        if let Ok(library) = library {
            // Never unloaded: its operators stay registered.
            std::mem::forget(library);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_what_it_says_or_an_error() {
        assert_eq!("cpu".parse::<Device>().unwrap(), Device::CPU);
        assert!(matches!("gpu".parse::<Device>(), Err(DeviceError::Unknown(_))));
        assert!(matches!("cuda:x".parse::<Device>(), Err(DeviceError::Unknown(_))));
        assert!(matches!("cuda:999".parse::<Device>(), Err(DeviceError::NoGpu(999, _))));
    }
}
