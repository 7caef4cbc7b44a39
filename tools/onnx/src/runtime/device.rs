//! What a model runs on.

use std::fmt;
use std::str::FromStr;

/// What a model runs on: `cpu`, `cuda:N` or `tensorrt:N`.
///
/// ```
/// use onnx::runtime::Device;
///
/// assert_eq!("cuda:1".parse(), Ok(Device::Cuda(1)));
/// assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
/// assert!("gpu".parse::<Device>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// A GPU of this number, through CUDA.
    Cuda(i32),
    /// A GPU of this number, through TensorRT; what TensorRT does not take runs through CUDA.
    TensorRt(i32),
}

/// Words that name no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no device: cpu, cuda, cuda:N, tensorrt or tensorrt:N")]
pub struct DeviceError(String);

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(words: &str) -> Result<Device, DeviceError> {
        let fault = || DeviceError(words.to_owned());
        let (kind, number) = words.split_once(':').unwrap_or((words, "0"));
        let number = number.parse::<u16>().map_err(|_| fault())?.into();
        match kind {
            "cpu" if words == "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(number)),
            "tensorrt" => Ok(Device::TensorRt(number)),
            _ => Err(fault()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
            Device::TensorRt(number) => write!(f, "tensorrt:{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_survive_their_words_and_others_are_refused() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(7), Device::TensorRt(3)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for words in ["", "cpu:0", "cuda:", "cuda:-1", "cuda:x", "gpu", "CPU", "cuda:99999"] {
            assert_eq!(words.parse::<Device>(), Err(DeviceError(words.to_owned())));
        }
    }
}
