//! How a model is run.

use std::path::PathBuf;

use ort::ep;
use ort::session::builder::SessionBuilder;

use super::library::{Library, Provider};
use super::{Device, RuntimeError, cuda};

/// How a model is run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// On what.
    pub device: Device,
    /// Threads of an operator; without, one per core.
    pub threads: Option<usize>,
    /// Lets idle threads sleep at once instead of waiting for work: for programs that have other work for the cores.
    pub quiet: bool,
    /// Folder for optimised graphs, so that the next start need not optimise; see [`super::Session::open`].
    pub cache: Option<PathBuf>,
    /// Products of f32 matrices on a GPU with inputs rounded to 10 bits: faster, but results differ in the third digit.
    pub tf32: bool,
}

impl Options {
    /// On this device, else as by default.
    pub fn on(device: Device) -> Options {
        Options { device, ..Options::default() }
    }

    /// A builder that does what is asked for or fails: no other device is ever taken instead.
    pub(super) fn builder(&self, library: &Library) -> Result<SessionBuilder, RuntimeError> {
        let fault = |what: String| RuntimeError::Device { device: self.device, what };
        let providers = self.providers(library)?;
        let build = || -> ort::Result<SessionBuilder> {
            let mut builder = ort::session::Session::builder(&library.environment)?
                .with_no_environment_execution_providers()?;
            builder = builder.with_log_level(ort::logging::LogLevel::Fatal)?;
            if let Some(threads) = self.threads {
                builder = builder.with_intra_threads(threads)?;
            }
            // Without it, 8-bit products overflow on processors that have no instruction for them.
            builder = builder.with_precise_qmm()?;
            if self.quiet {
                builder = builder.with_intra_op_spinning(false)?;
            }
            if self.device != Device::Cpu {
                builder = builder.with_disable_cpu_fallback()?;
            }
            Ok(builder.with_execution_providers(providers)?)
        };
        build().map_err(|error| fault(self.explained(super::words_of(&error))))
    }

    /// A fault of a GPU with what is missing on this machine.
    fn explained(&self, what: String) -> String {
        if self.device == Device::Cpu {
            return what;
        }
        let driver =
            if cuda::driver_version().is_none() { "; no NVIDIA driver is loaded" } else { "" };
        let libraries = if what.contains("cannot open shared object file") {
            "; `make setup-cuda` installs the libraries that a GPU needs"
        } else {
            ""
        };
        format!("{what}{libraries}{driver}")
    }

    fn providers(
        &self,
        library: &Library,
    ) -> Result<Vec<ep::ExecutionProviderDispatch>, RuntimeError> {
        let need = |provider| {
            let what = format!(
                "the ONNX Runtime at {} was built without {provider}; run `make setup-cuda`, or name another with \
                 ORT_DYLIB_PATH",
                library.path.display()
            );
            let missing = RuntimeError::Device { device: self.device, what };
            if library.has(provider) { Ok(()) } else { Err(missing) }
        };
        let cuda = |number| {
            let provider = ep::CUDA::default().with_device_id(number).with_tf32(self.tf32);
            provider.build().error_on_failure()
        };
        match self.device {
            Device::Cpu => Ok(Vec::new()),
            Device::Cuda(number) => {
                need(Provider::Cuda)?;
                cuda::open_libraries(&library.path);
                Ok(vec![cuda(number)])
            }
            Device::TensorRt(number) => {
                need(Provider::TensorRt)?;
                cuda::open_libraries(&library.path);
                let tensorrt = ep::TensorRT::default().with_device_id(number);
                Ok(vec![tensorrt.build().error_on_failure(), cuda(number)])
            }
        }
    }
}
