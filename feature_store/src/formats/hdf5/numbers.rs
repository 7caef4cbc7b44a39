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

/// Numbers of their bytes, in the order that the dataset has them in.
macro_rules! ordered {
    ($bytes:expr, $order:expr, $number:ty) => {{
        let bytes = $bytes.as_chunks().0.iter();
        match $order {
            DatatypeByteOrder::BigEndian => bytes.map(|x| <$number>::from_be_bytes(*x)).collect(),
            _ => bytes.map(|x| <$number>::from_le_bytes(*x)).collect(),
        }
    }};
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
        DType::F32 => singles(dataset, rows, name),
        DType::F64 => narrow(doubles(dataset, rows, name)?, name),
        DType::Other(datatype) => match ieee_order(&datatype, HALF) {
            Some(order) => {
                let bytes = read!(dataset, rows, read_raw, read_raw_rows).map_err(failed)?;
                let halves: Vec<f16> = ordered!(bytes, order, f16);
                Ok(halves.into_iter().map(f16::to_f32).collect())
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
        DType::F64 => measured(&doubles(dataset, rows, name)?, name),
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

/// f32 numbers. Their bytes are read as they are, which costs a copy; number by number the library takes longer.
fn singles(dataset: &Dataset, rows: Rows, name: &str) -> Result<Vec<f32>, String> {
    let failed = said(name);
    let Some(order) = ieee_order(&dataset.datatype().map_err(&failed)?, SINGLE) else {
        return read!(dataset, rows, read_f32, read_f32_rows).map_err(failed);
    };
    let bytes = read!(dataset, rows, read_raw, read_raw_rows).map_err(failed)?;
    Ok(ordered!(bytes, order, f32))
}

/// f64 numbers, likewise.
fn doubles(dataset: &Dataset, rows: Rows, name: &str) -> Result<Vec<f64>, String> {
    let failed = said(name);
    let Some(order) = ieee_order(&dataset.datatype().map_err(&failed)?, DOUBLE) else {
        return read!(dataset, rows, read_f64, read_f64_rows).map_err(failed);
    };
    let bytes = read!(dataset, rows, read_raw, read_raw_rows).map_err(failed)?;
    Ok(ordered!(bytes, order, f64))
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

/// One of IEEE's formats: bytes, bits of the exponent and of the mantissa.
type Ieee = (u32, u8, u8);

const HALF: Ieee = (2, 5, 10);
const SINGLE: Ieee = (4, 8, 23);
const DOUBLE: Ieee = (8, 11, 52);

/// The byte order of numbers in one of IEEE's formats, if they are that.
fn ieee_order(datatype: &Datatype, (bytes, exponent, mantissa): Ieee) -> Option<DatatypeByteOrder> {
    let Datatype::FloatingPoint { size, byte_order, layout } = datatype else { return None };
    let fields = [
        (layout.exponent_location, mantissa),
        (layout.exponent_size, exponent),
        (layout.mantissa_location, 0),
        (layout.mantissa_size, mantissa),
    ];
    let is_ieee = *size == bytes
        && fields.iter().all(|(is, of_ieee)| is == of_ieee)
        && layout.exponent_bias == (1 << (exponent - 1)) - 1;
    is_ieee.then_some(*byte_order).filter(|order| *order != DatatypeByteOrder::Vax)
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
