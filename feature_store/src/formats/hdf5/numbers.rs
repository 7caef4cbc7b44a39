//! Numbers of HDF5 datasets as f32 and i64. The library converts between types as C does; here a value that would become
//! another is an error.

use half::f16;
use hdf5_pure::{DType, Dataset, Datatype, DatatypeByteOrder, Error, FormatError};

use crate::formats::numbers::{exact, narrow, signed, whole};

/// Which rows of a dataset.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rows {
    All,
    Some { first: u64, count: u64 },
}

/// Reads rows with one of a pair of the library's methods.
macro_rules! read {
    ($dataset:expr, $rows:expr, $all:ident, $some:ident) => {
        match $rows {
            Rows::All => $dataset.$all(),
            Rows::Some { first, count } => $dataset.$some(first, count),
        }
    };
}

/// What an error means for whoever has the file.
pub(super) fn explain(error: &Error) -> String {
    match error {
        Error::Format(FormatError::InvalidLayoutVersion(version)) => format!(
            "its datasets have layout version {version}, which only HDF5 2.0 and later write (h5py: libver='latest') and \
             cannot be read here; `h5repack --low=0 --high=3 OLD NEW`, or h5py with libver=('earliest', 'v114'), writes \
             the same in a version that can"
        ),
        other => other.to_string(),
    }
}

fn said(name: &str) -> impl Fn(Error) -> String {
    move |error| format!("`{name}`: {}", explain(&error))
}

/// Floating-point numbers, or whole ones that f32 holds.
pub(super) fn floats(dataset: &Dataset, rows: Rows, name: &str) -> Result<Vec<f32>, String> {
    let failed = said(name);
    match dataset.dtype().map_err(&failed)? {
        DType::F32 => read!(dataset, rows, read_f32, read_f32_rows).map_err(failed),
        DType::F64 => narrow(read!(dataset, rows, read_f64, read_f64_rows).map_err(failed)?, name),
        DType::Other(datatype) => match half_order(&datatype) {
            Some(order) => {
                let bytes = read!(dataset, rows, read_raw, read_raw_rows).map_err(failed)?;
                Ok(halves(&bytes, order))
            }
            None => Err(format!("its `{name}` are numbers of an unknown kind: {datatype:?}")),
        },
        _ => exact(integers(dataset, rows, name)?, name),
    }
}

/// Whole numbers, of whatever type.
pub(super) fn integers(dataset: &Dataset, rows: Rows, name: &str) -> Result<Vec<i64>, String> {
    let failed = said(name);
    match dataset.dtype().map_err(&failed)? {
        DType::U64 => {
            signed(read!(dataset, rows, read_u64, read_u64_rows).map_err(failed)?, name)
        }
        DType::F32 | DType::F64 => {
            whole(read!(dataset, rows, read_f64, read_f64_rows).map_err(failed)?, name)
        }
        DType::I8
        | DType::I16
        | DType::I32
        | DType::I64
        | DType::U8
        | DType::U16
        | DType::U32
        // NumPy's truth values.
        | DType::Enum(_) => read!(dataset, rows, read_i64, read_i64_rows).map_err(failed),
        other => Err(format!("its `{name}` are no whole numbers but {other}")),
    }
}

/// The byte order of IEEE's half precision, if it is that.
fn half_order(datatype: &Datatype) -> Option<DatatypeByteOrder> {
    let Datatype::FloatingPoint { size: 2, byte_order, layout } = datatype else { return None };
    let fields = [
        (layout.exponent_location, 10),
        (layout.exponent_size, 5),
        (layout.mantissa_location, 0),
        (layout.mantissa_size, 10),
    ];
    let is_half = fields.iter().all(|(is, of_half)| is == of_half) && layout.exponent_bias == 15;
    is_half.then_some(*byte_order).filter(|order| *order != DatatypeByteOrder::Vax)
}

fn halves(bytes: &[u8], order: DatatypeByteOrder) -> Vec<f32> {
    let value = |bytes: &[u8; 2]| match order {
        DatatypeByteOrder::BigEndian => f16::from_be_bytes(*bytes),
        _ => f16::from_le_bytes(*bytes),
    };
    bytes.as_chunks().0.iter().map(|bytes| value(bytes).to_f32()).collect()
}
