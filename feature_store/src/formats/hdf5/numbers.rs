//! Numbers of HDF5 datasets as f32 and i64. The library converts between types as C does; here a value that would become
//! another is an error.

use half::f16;
use hdf5_pure::{DType, Dataset, Datatype, DatatypeByteOrder, Error, FormatError};

use crate::RoundingError;
use crate::formats::numbers::{Measured, exact, measured, narrow, signed, whole};

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
             cannot be read here; h5py with libver=('earliest', 'v114') writes the same in a version that can"
        ),
        // Of the address that stands in place of what a link leads to.
        Error::Format(FormatError::OffsetOverflow { offset: u64::MAX, .. }) => {
            "a name in it leads to no place in the file, as soft links do in files for HDF5 before 1.8: links by name \
             are not followed here, hard links (h5py: `file[name] = file['/where/it/is']`) are"
                .to_owned()
        }
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
            None => Err(format!("its `{name}` are {}", foreign(&datatype))),
        },
        DType::U8
        | DType::U16
        | DType::U32
        | DType::U64
        | DType::I8
        | DType::I16
        | DType::I32
        | DType::I64
        | DType::Enum(_) => exact(integers(dataset, rows, name)?, name),
        other => Err(format!("its `{name}` are no numbers but {other}")),
    }
}

/// Features, which are what the record of rounding is about.
pub(super) fn features(dataset: &Dataset, rows: Rows, name: &str) -> Result<Measured, String> {
    let failed = said(name);
    match dataset.dtype().map_err(&failed)? {
        DType::F64 => {
            measured(&read!(dataset, rows, read_f64, read_f64_rows).map_err(failed)?, name)
        }
        _ => Ok((floats(dataset, rows, name)?, RoundingError::default())),
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

/// What a type is that is not read.
fn foreign(datatype: &Datatype) -> String {
    let Datatype::FloatingPoint { size, layout, .. } = datatype else {
        return format!("no numbers that are read: {datatype:?}");
    };
    let bits = (layout.exponent_size, layout.mantissa_size);
    let name = match bits {
        (8, 7) => "bf16".to_owned(),
        (exponent, mantissa) => {
            format!(
                "floating-point numbers of {exponent} bits of exponent and {mantissa} of mantissa"
            )
        }
    };
    format!(
        "{name} in {size} bytes; f16, f32 and f64 are read, `features[...].astype('f4')` makes them"
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_the_library_takes_for_addresses_are_called_links() {
        let error = FormatError::OffsetOverflow { offset: u64::MAX, length: 4 };
        assert!(explain(&Error::Format(error)).contains("soft links"));
        let error = FormatError::OffsetOverflow { offset: 7, length: 4 };
        assert!(!explain(&Error::Format(error)).contains("soft links"));
    }
}
