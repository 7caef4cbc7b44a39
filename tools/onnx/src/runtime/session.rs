//! A model that is ready to run.

use std::borrow::Cow;
use std::path::Path;

use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{Session as OrtSession, SessionInputValue};
use ort::value::{Outlet, TensorRef, ValueType};
use prost::Message;

use super::ort_format::is_ort;
use super::tensor::from_ort;
use super::{Device, ORT_ENDING, Options, RuntimeError, Tensor, cache, library};
use crate::shape::{Dim, Shape};
use crate::tensor::{Dtype, Elements, TensorData};
use crate::{Model, kernels};

/// An input of a run.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// In host memory.
    Host(&'a TensorData),
    /// f32 in host memory: shape and elements.
    Slice(&'a [usize], &'a [f32]),
    /// An earlier result, wherever it lies.
    Result(&'a Tensor),
}

impl<'a> From<&'a TensorData> for Input<'a> {
    fn from(tensor: &'a TensorData) -> Input<'a> {
        Input::Host(tensor)
    }
}

impl<'a> From<&'a Tensor> for Input<'a> {
    fn from(tensor: &'a Tensor) -> Input<'a> {
        Input::Result(tensor)
    }
}

impl Input<'_> {
    fn shape(&self) -> Vec<usize> {
        match self {
            Input::Host(tensor) => tensor.shape().to_vec(),
            Input::Slice(shape, _) => shape.to_vec(),
            Input::Result(tensor) => tensor.shape(),
        }
    }

    fn dtype(&self) -> Result<Dtype, RuntimeError> {
        match self {
            Input::Host(tensor) => Ok(tensor.dtype()),
            Input::Slice(..) => Ok(Dtype::F32),
            Input::Result(tensor) => tensor.dtype(),
        }
    }
}

/// Name, type and shape of an input or output.
type Described = (String, Dtype, Shape);

/// A model that is ready to run.
///
/// ```
/// use onnx::runtime::{Options, Session};
/// use onnx::{Dtype, GraphBuilder, TensorData};
///
/// let mut graph = GraphBuilder::new("double");
/// let x = graph.input("x", Dtype::F32, &["n".into()])?;
/// let y = graph.add(x, x)?;
/// graph.output("y", y)?;
/// let mut session = Session::from_model(&graph.finish()?, &Options::default())?;
/// let x = TensorData::new([2], vec![1.0f32, -3.0])?;
/// assert_eq!(session.run(&[("x", (&x).into())])?[0].f32s()?, [2.0, -6.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Session {
    inner: OrtSession,
    inputs: Vec<Described>,
    outputs: Vec<Described>,
    device: Device,
    /// The file, for errors.
    model: String,
}

impl Session {
    /// Opens a model file. With a folder for optimised graphs, the graph is optimised once and read from there later; the
    /// folder may be emptied at any time.
    ///
    /// # Errors
    /// [`RuntimeError::NotFound`] and [`RuntimeError::Library`] without a usable ONNX Runtime; [`RuntimeError::Device`]
    /// and [`RuntimeError::Placement`] if the device cannot run all of it; [`RuntimeError::NoFile`];
    /// [`RuntimeError::Model`] for a file that is no model.
    pub fn open(path: &Path, options: &Options) -> Result<Session, RuntimeError> {
        let name = path.display().to_string();
        let library = library()?;
        if !path.is_file() {
            let what =
                if path.exists() { "it is no regular file" } else { "there is no such file" };
            return Err(RuntimeError::NoFile { path: path.to_owned(), what });
        }
        if is_ort(path) && path.extension().is_none_or(|ending| ending != ORT_ENDING) {
            let what = "it is in ONNX Runtime's own format: let its name end with .ort".into();
            return Err(RuntimeError::Model { model: name, what });
        }
        let inner = match &options.cache {
            Some(folder) if path.extension().is_none_or(|ending| ending != ORT_ENDING) => {
                cache::open(folder, path, options, library)?
            }
            _ => options.builder(library)?.commit_from_file(path).map_err(|error| {
                not_loaded(&name, options.device, &error, || crate::file::read(path).ok())
            })?,
        };
        Session::new(inner, options.device, name)
    }

    /// Makes a model that is in memory ready to run.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn from_model(model: &Model, options: &Options) -> Result<Session, RuntimeError> {
        let name = "a model in memory";
        let bytes = model.proto().encode_to_vec();
        let inner = options.builder(library()?)?.commit_from_memory(&bytes);
        let inner = inner
            .map_err(|error| not_loaded(name, options.device, &error, || Some(model.clone())))?;
        Session::new(inner, options.device, name.to_owned())
    }

    fn new(inner: OrtSession, device: Device, model: String) -> Result<Session, RuntimeError> {
        let described =
            |outlets: &[Outlet]| outlets.iter().map(describe).collect::<Result<Vec<_>, _>>();
        let (inputs, outputs) = (described(inner.inputs())?, described(inner.outputs())?);
        Ok(Session { inner, inputs, outputs, device, model })
    }

    /// Inputs: name, type, shape.
    pub fn inputs(&self) -> &[Described] {
        &self.inputs
    }

    /// Outputs: name, type, shape.
    pub fn outputs(&self) -> &[Described] {
        &self.outputs
    }

    /// What it runs on.
    pub fn device(&self) -> Device {
        self.device
    }

    /// What the file's metadata says under this key.
    pub fn metadata(&self, key: &str) -> Option<String> {
        self.inner.metadata().ok()?.custom(key)
    }

    /// Runs it; all outputs come back in host memory, in the order of [`Session::outputs`].
    ///
    /// # Errors
    /// Inputs that are missing, unknown or of another type or shape; [`RuntimeError::Run`].
    pub fn run(&mut self, inputs: &[(&str, Input)]) -> Result<Vec<Tensor>, RuntimeError> {
        self.run_keeping(inputs, &[])
    }

    /// As [`Session::run`], but the outputs named stay on the device, as inputs of a later run there.
    ///
    /// # Errors
    /// As [`Session::run`]; [`RuntimeError::UnknownOutput`].
    pub fn run_keeping(
        &mut self,
        inputs: &[(&str, Input)],
        kept: &[&str],
    ) -> Result<Vec<Tensor>, RuntimeError> {
        self.check(inputs, kept)?;
        let values = inputs
            .iter()
            .map(|(name, input)| Ok((*name, value(input)?)))
            .collect::<ort::Result<Vec<_>>>();
        let values = values.map_err(|error| run_error(&self.model, &error))?;
        let outputs = match self.device {
            Device::Cpu => self.run_on_host(values),
            Device::Cuda(number) | Device::TensorRt(number) => self.run_bound(values, kept, number),
        };
        let outputs = outputs.map_err(|error| run_error(&self.model, &error))?;
        outputs.into_iter().map(|(name, value)| Tensor::new(name, value)).collect()
    }

    fn run_on_host(&mut self, values: Values) -> ort::Result<Vec<(String, ort::value::DynValue)>> {
        let values: Vec<_> =
            values.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect();
        let outputs = self.inner.run(values)?;
        Ok(outputs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// Inputs go to the device once; outputs are left there or fetched by ONNX Runtime itself.
    fn run_bound(
        &mut self,
        values: Values,
        kept: &[&str],
        number: i32,
    ) -> ort::Result<Vec<(String, ort::value::DynValue)>> {
        let mut binding = self.inner.create_binding()?;
        for (name, value) in &values {
            binding.bind_input(*name, value)?;
        }
        let host = MemoryInfo::new(
            AllocationDevice::CPU,
            0,
            AllocatorType::Device,
            MemoryType::CPUOutput,
        )?;
        let device = MemoryInfo::new(
            AllocationDevice::CUDA,
            number,
            AllocatorType::Device,
            MemoryType::Default,
        )?;
        for (name, ..) in &self.outputs {
            let place = if kept.contains(&name.as_str()) { &device } else { &host };
            binding.bind_output_to_device(name.as_str(), place)?;
        }
        binding.synchronize_inputs()?;
        let outputs = self.inner.run_binding(&binding)?;
        binding.synchronize_outputs()?;
        Ok(outputs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    fn check(&self, inputs: &[(&str, Input)], kept: &[&str]) -> Result<(), RuntimeError> {
        for (name, input) in inputs {
            let Some((_, dtype, shape)) = self.inputs.iter().find(|(known, ..)| known == name)
            else {
                return Err(RuntimeError::UnknownInput {
                    name: (*name).to_owned(),
                    known: names(&self.inputs),
                });
            };
            let (found_dtype, found) = (input.dtype()?, input.shape());
            let fits = shape.rank() == found.len()
                && shape.0.iter().zip(&found).all(|(dim, side)| dim.may_equal(&Dim::Fixed(*side)));
            if found_dtype != *dtype || !fits {
                let (name, shape) = ((*name).to_owned(), shape.clone());
                return Err(RuntimeError::WrongInput {
                    name,
                    found_dtype,
                    found,
                    dtype: *dtype,
                    shape,
                });
            }
        }
        let given = |name: &str| inputs.iter().any(|(known, _)| *known == name);
        if let Some((name, ..)) = self.inputs.iter().find(|(name, ..)| !given(name)) {
            return Err(RuntimeError::MissingInput(name.clone()));
        }
        match kept.iter().find(|name| !self.outputs.iter().any(|(known, ..)| known == *name)) {
            Some(name) => Err(RuntimeError::UnknownOutput {
                name: (*name).to_owned(),
                known: names(&self.outputs),
            }),
            None => Ok(()),
        }
    }
}

/// Runs a graph of one operator on a device: an error says why the device cannot be used.
///
/// # Errors
/// As [`Session::open`] and [`Session::run`].
pub fn probe(device: Device) -> Result<(), RuntimeError> {
    let unbuilt = |error: crate::BuildError| RuntimeError::Model {
        model: "the probe".into(),
        what: error.to_string(),
    };
    let mut graph = crate::GraphBuilder::new("probe");
    let x = graph.input("x", Dtype::F32, &[Dim::Fixed(1)]).map_err(unbuilt)?;
    let y = graph.relu(x).map_err(unbuilt)?;
    graph.output("y", y).map_err(unbuilt)?;
    let model = graph.finish().map_err(unbuilt)?;
    let mut session = Session::from_model(&model, &Options::on(device))?;
    session.run(&[("x", Input::Slice(&[1], &[1.0]))]).map(|_| ())
}

type Values<'n, 'v> = Vec<(&'n str, SessionInputValue<'v>)>;

fn value<'v>(input: &Input<'v>) -> ort::Result<SessionInputValue<'v>> {
    let tensor = match input {
        Input::Slice(shape, values) => {
            return Ok(TensorRef::from_array_view((*shape, *values))?.into());
        }
        Input::Result(tensor) => return Ok(tensor.value().view().into()),
        Input::Host(tensor) => *tensor,
    };
    let shape = tensor.shape();
    Ok(match tensor.elements() {
        Elements::F32(values) => TensorRef::from_array_view((shape, &values[..]))?.into(),
        Elements::F16(values) => TensorRef::from_array_view((shape, &values[..]))?.into(),
        Elements::I64(values) => TensorRef::from_array_view((shape, &values[..]))?.into(),
        Elements::I32(values) => TensorRef::from_array_view((shape, &values[..]))?.into(),
        Elements::I8(values) => TensorRef::from_array_view((shape, &values[..]))?.into(),
        Elements::U8(values) => TensorRef::from_array_view((shape, &values[..]))?.into(),
        Elements::Bool(values) => TensorRef::from_array_view((shape, &values[..]))?.into(),
    })
}

fn describe(outlet: &Outlet) -> Result<Described, RuntimeError> {
    let unknown = |code| RuntimeError::Tensor {
        name: outlet.name().to_owned(),
        source: crate::tensor::TensorError::Code(code),
    };
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
        return Err(unknown(0));
    };
    let dtype = from_ort(*ty).ok_or_else(|| unknown(*ty as i32))?;
    let dims =
        shape.iter().zip(dimension_symbols.iter()).map(|(side, name)| {
            match usize::try_from(*side) {
                Ok(side) => Dim::Fixed(side),
                Err(_) if name.is_empty() => Dim::Any,
                Err(_) => Dim::named(name),
            }
        });
    Ok((outlet.name().to_owned(), dtype, dims.collect()))
}

/// Tells a model that does not fit the device from one that is unsound.
pub(super) fn not_loaded(
    name: &str,
    device: Device,
    error: &ort::Error,
    model: impl FnOnce() -> Option<Model>,
) -> RuntimeError {
    let what = super::words_of(error);
    if device != Device::Cpu && what.contains("fallback to CPU EP has been explicitly disabled") {
        let operators = model().map(|model| kernels::without_cuda(&model)).unwrap_or_default();
        let operators = if operators.is_empty() { vec![what] } else { operators };
        return RuntimeError::Placement { device, operators };
    }
    RuntimeError::Model { model: name.to_owned(), what }
}

fn names(described: &[Described]) -> Vec<String> {
    described.iter().map(|(name, ..)| name.clone()).collect()
}

fn run_error(model: &str, error: &ort::Error) -> RuntimeError {
    RuntimeError::Run { model: model.to_owned(), what: super::words_of(error) }
}
