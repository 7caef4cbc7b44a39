//! What a run gives back.

use ort::memory::AllocationDevice;
use ort::value::{DynTensor, DynValue, TensorElementType};

use super::RuntimeError;
use crate::tensor::{Dtype, Elements, TensorData, TensorError};

/// A result, on the host or on the device that computed it.
pub struct Tensor {
    name: String,
    value: DynTensor,
}

impl Tensor {
    pub(super) fn new(name: String, value: DynValue) -> Result<Tensor, RuntimeError> {
        match value.downcast() {
            Ok(value) => Ok(Tensor { name, value }),
            Err(_) => Err(RuntimeError::Tensor { name, source: TensorError::Code(0) }),
        }
    }

    pub(super) fn value(&self) -> &DynTensor {
        &self.value
    }

    /// The output's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its shape.
    pub fn shape(&self) -> Vec<usize> {
        self.value.shape().iter().map(|side| usize::try_from(*side).unwrap_or(0)).collect()
    }

    /// Type of its elements.
    ///
    /// # Errors
    /// A type that is not known here.
    pub fn dtype(&self) -> Result<Dtype, RuntimeError> {
        from_ort(*self.value.data_type())
            .ok_or_else(|| self.fault(TensorError::Code(*self.value.data_type() as i32)))
    }

    /// True if its elements can be read without a copy from another device.
    pub fn is_on_host(&self) -> bool {
        self.value.memory_info().is_cpu_accessible()
    }

    /// Its elements where they lie, which must be f32 on the host.
    ///
    /// # Errors
    /// Another type; a tensor on a device.
    pub fn f32s(&self) -> Result<&[f32], RuntimeError> {
        self.slice::<f32>(Dtype::F32)
    }

    /// Its elements where they lie, which must be i64 on the host.
    ///
    /// # Errors
    /// Another type; a tensor on a device.
    pub fn i64s(&self) -> Result<&[i64], RuntimeError> {
        self.slice::<i64>(Dtype::I64)
    }

    /// A copy of it in host memory.
    ///
    /// # Errors
    /// A type that is not known here; a device that cannot be read.
    pub fn to_host(&self) -> Result<TensorData, RuntimeError> {
        if !self.is_on_host() {
            let value =
                self.value.to(AllocationDevice::CPU, 0).map_err(|error| self.failed(&error))?;
            return Tensor { name: self.name.clone(), value }.to_host();
        }
        let elements = match self.dtype()? {
            Dtype::F32 => Elements::F32(self.slice::<f32>(Dtype::F32)?.to_vec()),
            Dtype::F16 => Elements::F16(self.slice::<half::f16>(Dtype::F16)?.to_vec()),
            Dtype::I64 => Elements::I64(self.slice::<i64>(Dtype::I64)?.to_vec()),
            Dtype::I32 => Elements::I32(self.slice::<i32>(Dtype::I32)?.to_vec()),
            Dtype::I8 => Elements::I8(self.slice::<i8>(Dtype::I8)?.to_vec()),
            Dtype::U8 => Elements::U8(self.slice::<u8>(Dtype::U8)?.to_vec()),
            Dtype::Bool => Elements::Bool(self.slice::<bool>(Dtype::Bool)?.to_vec()),
        };
        TensorData::new(self.shape(), elements).map_err(|source| self.fault(source))
    }

    fn slice<T: ort::value::PrimitiveTensorElementType>(
        &self,
        wanted: Dtype,
    ) -> Result<&[T], RuntimeError> {
        let found = self.dtype()?;
        if found != wanted {
            return Err(self.fault(TensorError::Dtype { wanted, found }));
        }
        let (_, values) =
            self.value.try_extract_tensor::<T>().map_err(|error| self.failed(&error))?;
        Ok(values)
    }

    fn fault(&self, source: TensorError) -> RuntimeError {
        RuntimeError::Tensor { name: self.name.clone(), source }
    }

    fn failed(&self, error: &ort::Error) -> RuntimeError {
        RuntimeError::Run { model: format!("output `{}`", self.name), what: error.to_string() }
    }
}

/// The type under ONNX Runtime's name, if it is known here.
pub(super) fn from_ort(element: TensorElementType) -> Option<Dtype> {
    Some(match element {
        TensorElementType::Float32 => Dtype::F32,
        TensorElementType::Float16 => Dtype::F16,
        TensorElementType::Int64 => Dtype::I64,
        TensorElementType::Int32 => Dtype::I32,
        TensorElementType::Int8 => Dtype::I8,
        TensorElementType::Uint8 => Dtype::U8,
        TensorElementType::Bool => Dtype::Bool,
        _ => return None,
    })
}
