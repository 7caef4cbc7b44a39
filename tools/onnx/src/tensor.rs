//! Numbers with a type and a shape: constants of a graph, inputs and outputs of a session.

use bytes::Bytes;
use half::f16;

use crate::proto::{self, TensorProto};

/// Type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point.
    F16,
    /// 64-bit signed integer.
    I64,
    /// 32-bit signed integer.
    I32,
    /// 8-bit signed integer.
    I8,
    /// 8-bit unsigned integer.
    U8,
    /// One byte, 0 or 1.
    Bool,
}

impl Dtype {
    /// All of them.
    pub const ALL: [Dtype; 7] =
        [Dtype::F32, Dtype::F16, Dtype::I64, Dtype::I32, Dtype::I8, Dtype::U8, Dtype::Bool];

    /// Its code in files (`TensorProto.DataType`).
    pub fn code(self) -> i32 {
        match self {
            Dtype::F32 => 1,
            Dtype::U8 => 2,
            Dtype::I8 => 3,
            Dtype::I32 => 6,
            Dtype::I64 => 7,
            Dtype::Bool => 9,
            Dtype::F16 => 10,
        }
    }

    /// The type with this code, if it is one of these.
    pub fn from_code(code: i32) -> Option<Dtype> {
        Dtype::ALL.into_iter().find(|dtype| dtype.code() == code)
    }

    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::I64 => 8,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F16 => 2,
            Dtype::I8 | Dtype::U8 | Dtype::Bool => 1,
        }
    }

    /// f32 or f16.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F32 | Dtype::F16)
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::I64 => "i64",
            Dtype::I32 => "i32",
            Dtype::I8 => "i8",
            Dtype::U8 => "u8",
            Dtype::Bool => "bool",
        })
    }
}

/// Elements of a tensor, row by row.
#[derive(Debug, Clone, PartialEq)]
pub enum Elements {
    /// [`Dtype::F32`]
    F32(Vec<f32>),
    /// [`Dtype::F16`]
    F16(Vec<f16>),
    /// [`Dtype::I64`]
    I64(Vec<i64>),
    /// [`Dtype::I32`]
    I32(Vec<i32>),
    /// [`Dtype::I8`]
    I8(Vec<i8>),
    /// [`Dtype::U8`]
    U8(Vec<u8>),
    /// [`Dtype::Bool`]
    Bool(Vec<bool>),
}

macro_rules! of_elements {
    ($elements:expr, $values:ident => $what:expr) => {
        match $elements {
            Elements::F32($values) => $what,
            Elements::F16($values) => $what,
            Elements::I64($values) => $what,
            Elements::I32($values) => $what,
            Elements::I8($values) => $what,
            Elements::U8($values) => $what,
            Elements::Bool($values) => $what,
        }
    };
}

impl Elements {
    /// Number of elements.
    pub fn len(&self) -> usize {
        of_elements!(self, values => values.len())
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their type.
    pub fn dtype(&self) -> Dtype {
        match self {
            Elements::F32(_) => Dtype::F32,
            Elements::F16(_) => Dtype::F16,
            Elements::I64(_) => Dtype::I64,
            Elements::I32(_) => Dtype::I32,
            Elements::I8(_) => Dtype::I8,
            Elements::U8(_) => Dtype::U8,
            Elements::Bool(_) => Dtype::Bool,
        }
    }
}

macro_rules! from_vec {
    ($($rust:ty => $variant:ident),+) => {$(
        impl From<Vec<$rust>> for Elements {
            fn from(values: Vec<$rust>) -> Elements {
                Elements::$variant(values)
            }
        }
    )+};
}

from_vec!(f32 => F32, f16 => F16, i64 => I64, i32 => I32, i8 => I8, u8 => U8, bool => Bool);

/// What can be wrong with a tensor.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TensorError {
    /// The shape needs another number of elements.
    #[error("shape {shape:?} needs {} elements, there are {found}", shape.iter().product::<usize>())]
    Count {
        /// The shape.
        shape: Vec<usize>,
        /// Elements that are there.
        found: usize,
    },
    /// The elements are of another type.
    #[error("it holds {found}, not {wanted}")]
    Dtype {
        /// Type that was asked for.
        wanted: Dtype,
        /// Type that is there.
        found: Dtype,
    },
    /// A type in a file that is not known here.
    #[error("type code {0} is not supported (f32, f16, i64, i32, i8, u8 and bool are)")]
    Code(i32),
    /// A negative side in a file.
    #[error("shape {0:?} has a negative side")]
    Negative(Vec<i64>),
    /// Bytes in a file do not fit the shape.
    #[error("shape {shape:?} of {dtype} needs {needed} bytes, the file holds {found}")]
    Bytes {
        /// The shape.
        shape: Vec<usize>,
        /// The type.
        dtype: Dtype,
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        found: usize,
    },
}

/// A tensor in host memory, contiguous, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorData {
    shape: Vec<usize>,
    elements: Elements,
}

impl TensorData {
    /// A tensor of this shape.
    ///
    /// # Errors
    /// [`TensorError::Count`] if the shape needs another number of elements.
    pub fn new(
        shape: impl Into<Vec<usize>>,
        elements: impl Into<Elements>,
    ) -> Result<TensorData, TensorError> {
        let (shape, elements) = (shape.into(), elements.into());
        let needed = shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side));
        if needed != Some(elements.len()) {
            return Err(TensorError::Count { shape, found: elements.len() });
        }
        Ok(TensorData { shape, elements })
    }

    /// A single number, of rank 0.
    pub fn scalar(value: f32) -> TensorData {
        TensorData { shape: Vec::new(), elements: Elements::F32(vec![value]) }
    }

    /// A list of integers, of rank 1.
    pub fn ints(values: &[i64]) -> TensorData {
        TensorData { shape: vec![values.len()], elements: Elements::I64(values.to_vec()) }
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Type of its elements.
    pub fn dtype(&self) -> Dtype {
        self.elements.dtype()
    }

    /// Its elements.
    pub fn elements(&self) -> &Elements {
        &self.elements
    }

    /// Shape and elements, taken apart.
    pub fn into_parts(self) -> (Vec<usize>, Elements) {
        (self.shape, self.elements)
    }

    /// Its elements, which must be f32.
    ///
    /// # Errors
    /// [`TensorError::Dtype`].
    pub fn f32s(&self) -> Result<&[f32], TensorError> {
        match &self.elements {
            Elements::F32(values) => Ok(values),
            other => Err(TensorError::Dtype { wanted: Dtype::F32, found: other.dtype() }),
        }
    }

    /// Its elements, which must be i64.
    ///
    /// # Errors
    /// [`TensorError::Dtype`].
    pub fn i64s(&self) -> Result<&[i64], TensorError> {
        match &self.elements {
            Elements::I64(values) => Ok(values),
            other => Err(TensorError::Dtype { wanted: Dtype::I64, found: other.dtype() }),
        }
    }

    /// The same numbers in f16, rounded to nearest; what is too large becomes the largest finite f16, so that a mask of
    /// -1e9 stays a number (for weights see [`crate::passes::half`], which refuses them then). Other types than f32 stay as
    /// they are.
    pub fn to_f16(&self) -> TensorData {
        let elements = match &self.elements {
            Elements::F32(values) => {
                Elements::F16(values.iter().map(|value| to_f16(*value)).collect())
            }
            other => other.clone(),
        };
        TensorData { shape: self.shape.clone(), elements }
    }

    /// The same numbers in f32; other types than f16 stay as they are.
    pub fn to_f32(&self) -> TensorData {
        let elements = match &self.elements {
            Elements::F16(values) => {
                Elements::F32(values.iter().map(|value| value.to_f32()).collect())
            }
            other => other.clone(),
        };
        TensorData { shape: self.shape.clone(), elements }
    }

    /// Bytes of its elements, little-endian.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.elements {
            Elements::F32(values) => bytemuck::cast_slice(values),
            Elements::F16(values) => bytemuck::cast_slice(values),
            Elements::I64(values) => bytemuck::cast_slice(values),
            Elements::I32(values) => bytemuck::cast_slice(values),
            Elements::I8(values) => bytemuck::cast_slice(values),
            Elements::U8(values) => values,
            Elements::Bool(values) => bytemuck::cast_slice(values),
        }
    }

    /// As a constant of a file; the numbers are not copied.
    pub(crate) fn into_proto(self, name: String) -> TensorProto {
        let dims = self.shape.iter().map(|side| *side as i64).collect();
        let data_type = self.dtype().code();
        let raw_data = Some(Bytes::from_owner(Owned(self)));
        TensorProto { dims, data_type, name, raw_data, ..TensorProto::default() }
    }

    /// The values of a constant whose bytes lie in the file.
    ///
    /// # Errors
    /// [`TensorError`] for types that are not known here, and bytes that do not fit the shape.
    pub(crate) fn from_proto(proto: &TensorProto) -> Result<TensorData, TensorError> {
        let dtype = Dtype::from_code(proto.data_type).ok_or(TensorError::Code(proto.data_type))?;
        let shape = shape_of(proto)?;
        let elements = match &proto.raw_data {
            Some(bytes) => raw_elements(dtype, &shape, bytes)?,
            None => typed_elements(dtype, proto),
        };
        TensorData::new(shape, elements)
    }
}

/// The sides of a constant.
pub(crate) fn shape_of(proto: &TensorProto) -> Result<Vec<usize>, TensorError> {
    let sides = proto.dims.iter().map(|side| usize::try_from(*side).ok());
    sides.collect::<Option<_>>().ok_or_else(|| TensorError::Negative(proto.dims.clone()))
}

fn to_f16(value: f32) -> f16 {
    if value.is_finite() {
        f16::from_f32(value.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()))
    } else {
        f16::from_f32(value)
    }
}

fn raw_elements(dtype: Dtype, shape: &[usize], bytes: &[u8]) -> Result<Elements, TensorError> {
    let needed = shape.iter().try_fold(dtype.bytes(), |product, side| product.checked_mul(*side));
    if needed != Some(bytes.len()) {
        return Err(TensorError::Bytes {
            shape: shape.to_vec(),
            dtype,
            needed: needed.unwrap_or(usize::MAX),
            found: bytes.len(),
        });
    }
    // The bytes may lie at any offset of the file: copied, not cast.
    Ok(match dtype {
        Dtype::F32 => Elements::F32(bytemuck::pod_collect_to_vec(bytes)),
        Dtype::F16 => Elements::F16(bytemuck::pod_collect_to_vec(bytes)),
        Dtype::I64 => Elements::I64(bytemuck::pod_collect_to_vec(bytes)),
        Dtype::I32 => Elements::I32(bytemuck::pod_collect_to_vec(bytes)),
        Dtype::I8 => Elements::I8(bytemuck::pod_collect_to_vec(bytes)),
        Dtype::U8 => Elements::U8(bytes.to_vec()),
        Dtype::Bool => Elements::Bool(bytes.iter().map(|byte| *byte != 0).collect()),
    })
}

fn typed_elements(dtype: Dtype, proto: &proto::TensorProto) -> Elements {
    let small = &proto.int32_data;
    match dtype {
        Dtype::F32 => Elements::F32(proto.float_data.clone()),
        Dtype::F16 => {
            Elements::F16(small.iter().map(|bits| f16::from_bits(*bits as u16)).collect())
        }
        Dtype::I64 => Elements::I64(proto.int64_data.clone()),
        Dtype::I32 => Elements::I32(small.clone()),
        Dtype::I8 => Elements::I8(small.iter().map(|value| *value as i8).collect()),
        Dtype::U8 => Elements::U8(small.iter().map(|value| *value as u8).collect()),
        Dtype::Bool => Elements::Bool(small.iter().map(|value| *value != 0).collect()),
    }
}

/// Lends a tensor's bytes to a message without copying them.
struct Owned(TensorData);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives_a_message() -> Result<(), TensorError> {
        let tensors = [
            TensorData::new([2], vec![1.5f32, -0.0])?,
            TensorData::new([1, 2], vec![f16::from_f32(0.5), f16::MAX])?,
            TensorData::new([2], vec![i64::MIN, 7])?,
            TensorData::new([2], vec![i32::MIN, 7])?,
            TensorData::new([2], vec![-128i8, 7])?,
            TensorData::new([2], vec![255u8, 7])?,
            TensorData::new([2], vec![true, false])?,
            TensorData::new([0, 3], Vec::<f32>::new())?,
            TensorData::scalar(3.0),
        ];
        for tensor in tensors {
            assert_eq!(TensorData::from_proto(&tensor.clone().into_proto("x".into()))?, tensor);
        }
        Ok(())
    }

    #[test]
    fn too_few_elements_are_refused() {
        let error = TensorData::new([2, 3], vec![1.0f32]).unwrap_err();
        assert_eq!(error.to_string(), "shape [2, 3] needs 6 elements, there are 1");
        let mut proto = TensorData::scalar(1.0).into_proto("x".into());
        proto.dims = vec![i64::MAX, i64::MAX];
        assert!(matches!(TensorData::from_proto(&proto), Err(TensorError::Bytes { .. })));
        proto.dims = vec![-1];
        assert!(matches!(TensorData::from_proto(&proto), Err(TensorError::Negative(_))));
    }

    #[test]
    fn large_numbers_stay_finite_in_f16() -> Result<(), TensorError> {
        let tensor = TensorData::new([3], vec![-1e9f32, f32::NEG_INFINITY, 1.0])?.to_f16();
        assert_eq!(*tensor.elements(), Elements::F16(vec![f16::MIN, f16::NEG_INFINITY, f16::ONE]));
        Ok(())
    }
}
