//! NumPy's dtypes and arrays.

use std::sync::Arc;

use half::f16;

use crate::Fault;

/// The type of an array's items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Dtype {
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F16,
    F32,
    F64,
}

impl Dtype {
    /// From NumPy's short name ("f4", "<i8", "|b1"); the second value is whether the bytes are big-endian. `None` for
    /// anything but plain numbers.
    pub fn from_name(name: &str) -> Option<(Dtype, bool)> {
        let big_endian = name.starts_with('>');
        let dtype = match name.trim_start_matches(['<', '>', '|', '=']) {
            "b1" | "?" => Dtype::Bool,
            "i1" => Dtype::I8,
            "i2" => Dtype::I16,
            "i4" => Dtype::I32,
            "i8" => Dtype::I64,
            "u1" => Dtype::U8,
            "u2" => Dtype::U16,
            "u4" => Dtype::U32,
            "u8" => Dtype::U64,
            "f2" => Dtype::F16,
            "f4" => Dtype::F32,
            "f8" => Dtype::F64,
            _ => return None,
        };
        Some((dtype, big_endian))
    }

    /// NumPy's short name without byte order.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::Bool => "b1",
            Dtype::I8 => "i1",
            Dtype::I16 => "i2",
            Dtype::I32 => "i4",
            Dtype::I64 => "i8",
            Dtype::U8 => "u1",
            Dtype::U16 => "u2",
            Dtype::U32 => "u4",
            Dtype::U64 => "u8",
            Dtype::F16 => "f2",
            Dtype::F32 => "f4",
            Dtype::F64 => "f8",
        }
    }

    /// Bytes per item.
    pub fn size(self) -> usize {
        match self {
            Dtype::Bool | Dtype::I8 | Dtype::U8 => 1,
            Dtype::I16 | Dtype::U16 | Dtype::F16 => 2,
            Dtype::I32 | Dtype::U32 | Dtype::F32 => 4,
            Dtype::I64 | Dtype::U64 | Dtype::F64 => 8,
        }
    }
}

/// An array of numbers: C order, little-endian, whatever it was in the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct NdArray {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Arc<[u8]>,
}

impl NdArray {
    /// An array from its C-ordered little-endian bytes.
    ///
    /// # Errors
    /// [`Fault::ArraySize`] if shape and bytes disagree.
    pub fn new(dtype: Dtype, shape: Vec<usize>, data: Arc<[u8]>) -> Result<NdArray, Fault> {
        let expected = shape.iter().try_fold(dtype.size(), |size, &n| size.checked_mul(n));
        if expected != Some(data.len()) {
            let (item_size, bytes) = (dtype.size(), data.len());
            return Err(Fault::ArraySize { shape, item_size, bytes });
        }
        Ok(NdArray { dtype, shape, data })
    }

    /// As [`NdArray::new`], from big-endian or Fortran-ordered bytes.
    ///
    /// # Errors
    /// As [`NdArray::new`].
    pub fn from_layout(
        dtype: Dtype,
        shape: Vec<usize>,
        data: Arc<[u8]>,
        big_endian: bool,
        fortran: bool,
    ) -> Result<NdArray, Fault> {
        let mut array = NdArray::new(dtype, shape, data)?;
        if big_endian && dtype.size() > 1 {
            let swapped: Vec<u8> = array
                .data
                .chunks_exact(dtype.size())
                .flat_map(|c| c.iter().rev().copied())
                .collect();
            array.data = swapped.into();
        }
        if fortran && array.shape.len() > 1 {
            array.data = c_ordered(&array.data, &array.shape, dtype.size()).into();
        }
        Ok(array)
    }

    /// The type of the items.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The shape; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The items' bytes, C order, little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// The items as f32: exact for f16 and f32, rounded for f64; `None` for whole numbers.
    pub fn to_f32s(&self) -> Option<Vec<f32>> {
        let data = &self.data;
        Some(match self.dtype {
            Dtype::F16 => items(data).map(|b| f16::from_le_bytes(b).to_f32()).collect(),
            Dtype::F32 => items(data).map(f32::from_le_bytes).collect(),
            Dtype::F64 => items(data).map(|b| f64::from_le_bytes(b) as f32).collect(),
            _ => return None,
        })
    }

    /// The items as f64, exactly; `None` for whole numbers.
    pub fn to_f64s(&self) -> Option<Vec<f64>> {
        match self.dtype {
            Dtype::F64 => Some(items(&self.data).map(f64::from_le_bytes).collect()),
            _ => Some(self.to_f32s()?.into_iter().map(f64::from).collect()),
        }
    }

    /// The items as i64; `None` for floating point, and for u64 values beyond i64.
    pub fn to_i64s(&self) -> Option<Vec<i64>> {
        let data = &self.data;
        Some(match self.dtype {
            Dtype::Bool | Dtype::U8 => data.iter().map(|&b| i64::from(b)).collect(),
            Dtype::I8 => items(data).map(|b| i64::from(i8::from_le_bytes(b))).collect(),
            Dtype::I16 => items(data).map(|b| i64::from(i16::from_le_bytes(b))).collect(),
            Dtype::U16 => items(data).map(|b| i64::from(u16::from_le_bytes(b))).collect(),
            Dtype::I32 => items(data).map(|b| i64::from(i32::from_le_bytes(b))).collect(),
            Dtype::U32 => items(data).map(|b| i64::from(u32::from_le_bytes(b))).collect(),
            Dtype::I64 => items(data).map(i64::from_le_bytes).collect(),
            Dtype::U64 => items(data)
                .map(|b| i64::try_from(u64::from_le_bytes(b)).ok())
                .collect::<Option<Vec<_>>>()?,
            Dtype::F16 | Dtype::F32 | Dtype::F64 => return None,
        })
    }
}

/// The items of `N` bytes each, as arrays.
fn items<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> {
    data.chunks_exact(N).map(|chunk| {
        let mut item = [0; N];
        item.copy_from_slice(chunk);
        item
    })
}

/// Reorders Fortran-ordered items (first index fastest) to C order (last index fastest).
fn c_ordered(data: &[u8], shape: &[usize], item_size: usize) -> Vec<u8> {
    let mut ordered = Vec::with_capacity(data.len());
    let mut index = vec![0; shape.len()];
    for _ in 0..data.len() / item_size {
        let offset = shape.iter().zip(&index).rev().fold(0, |offset, (&n, &i)| offset * n + i);
        ordered.extend_from_slice(&data[offset * item_size..(offset + 1) * item_size]);
        for (position, &n) in index.iter_mut().zip(shape).rev() {
            *position += 1;
            if *position < n {
                break;
            }
            *position = 0;
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fortran_order_becomes_c_order() {
        let fortran: Arc<[u8]> = vec![0, 3, 1, 4, 2, 5].into();
        let array = NdArray::from_layout(Dtype::U8, vec![2, 3], fortran, false, true).unwrap();
        assert_eq!(array.bytes(), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn shape_and_bytes_must_agree() {
        let data: Arc<[u8]> = vec![0; 8].into();
        assert!(NdArray::new(Dtype::F32, vec![3], data.clone()).is_err());
        assert!(NdArray::new(Dtype::F32, vec![usize::MAX, usize::MAX], data).is_err());
    }
}
