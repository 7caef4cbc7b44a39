//! Reads pickle streams, protocols 0 to 5, and the NumPy values in them, without executing anything.
//!
//! Python's own reader calls whatever callable the stream names. This one interprets the opcodes over a short list of
//! known constructors (NumPy arrays, scalars and dtypes, `OrderedDict`, `bytes`); any other global is an error that
//! names it. A length that the stream declares is never believed beyond the bytes that are there.
//!
//! ```
//! use unpickle::Value;
//!
//! let stream = b"\x80\x02}q\x00U\x05img_wq\x01M\xe0\x01s."; // {"img_w": 480}
//! let value = unpickle::read(stream)?;
//! assert_eq!(value.get("img_w"), Some(&Value::Int(480)));
//!
//! let attack = b"cposix\nsystem\n(S'true'\ntR.";
//! let error = unpickle::read(attack).unwrap_err();
//! assert!(error.to_string().contains("posix.system"));
//! # Ok::<(), unpickle::Error>(())
//! ```
#![warn(missing_docs)]

mod cursor;
mod error;
mod machine;
mod numpy;
mod value;
mod write;

pub use error::{Error, Fault};
pub use numpy::{Dtype, NdArray};
pub use value::Value;
pub use write::write;

/// Reads the one value that a pickle stream holds; bytes after its end are ignored, as Python does.
///
/// # Errors
/// With the byte offset: a truncated or malformed stream, a global outside the allowed ones, a value nested or shared
/// beyond reason.
pub fn read(stream: &[u8]) -> Result<Value, Error> {
    machine::Machine::new(stream, machine::Foreign::Refused).run().map(|(value, _)| value)
}

/// As [`read`], of a stream that holds no more than so many values: what one record is made of. Without this limit it is one
/// value for every two bytes, which take up to forty times as much in memory.
///
/// # Errors
/// As [`read`].
pub fn read_within(stream: &[u8], values: usize) -> Result<Value, Error> {
    machine::Machine::within(stream, machine::Foreign::Refused, values)
        .run()
        .map(|(value, _)| value)
}

/// Reads a stream that names other constructors, too, such as a PyTorch checkpoint's, and how many bytes it took.
///
/// Nothing is executed here either: a foreign call comes back as the [`Value::Call`] that it would have been, and what
/// the stream does to the called object afterwards (its state, its items) is left out.
///
/// ```
/// use unpickle::Value;
///
/// let (value, length) = unpickle::outline(b"cposix\nsystem\n(S'true'\ntR.and more")?;
/// assert_eq!(length, 26);
/// let Value::Call { callable, arguments } = value else { panic!() };
/// assert_eq!(*callable, Value::Global { module: "posix".into(), name: "system".into() });
/// assert_eq!(arguments[0].as_str(), Some("true"));
/// # Ok::<(), unpickle::Error>(())
/// ```
///
/// # Errors
/// As [`read`], but for the globals.
pub fn outline(stream: &[u8]) -> Result<(Value, usize), Error> {
    machine::Machine::new(stream, machine::Foreign::Outlined).run()
}

/// As [`outline`], and an object that is given a state comes back with it, as a [`Value::Object`]: what a TorchScript
/// archive is made of. Here, too, nothing is executed.
///
/// ```
/// use unpickle::Value;
///
/// let value = unpickle::objects(b"c__torch__\nNode\n)\x81}X\x05\0\0\0scaleK\x04sb.")?;
/// let Value::Object { state, .. } = value else { panic!() };
/// assert_eq!(state.get("scale"), Some(&Value::Int(4)));
/// # Ok::<(), unpickle::Error>(())
/// ```
///
/// # Errors
/// As [`outline`].
pub fn objects(stream: &[u8]) -> Result<Value, Error> {
    machine::Machine::new(stream, machine::Foreign::WithState).run().map(|(value, _)| value)
}
