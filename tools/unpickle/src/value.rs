//! What a pickle holds, as plain data.

use std::sync::Arc;

use crate::NdArray;

/// A Python or NumPy value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `bool`.
    Bool(bool),
    /// `int` within 64 bits.
    Int(i64),
    /// A larger `int`: little-endian two's complement.
    BigInt(Arc<[u8]>),
    /// `float`.
    Float(f64),
    /// `str`.
    Str(Arc<str>),
    /// `bytes` or `bytearray`, and Python 2's `str` where it is not UTF-8.
    Bytes(Arc<[u8]>),
    /// `list`, or a `set`.
    List(Vec<Value>),
    /// `tuple`.
    Tuple(Vec<Value>),
    /// `dict` or `OrderedDict`, in the order of the stream.
    Dict(Vec<(Value, Value)>),
    /// A NumPy array of numbers, or a NumPy scalar (shape `[]`).
    Array(NdArray),
    /// A NumPy array of objects, C order.
    ObjectArray {
        /// The array's shape.
        shape: Vec<usize>,
        /// Its items.
        items: Vec<Value>,
    },
    /// A class or function that is only named; from [`outline`](crate::outline).
    Global {
        /// Its module ("torch").
        module: Arc<str>,
        /// Its name in there ("FloatStorage").
        name: Arc<str>,
    },
    /// A call that was not made; from [`outline`](crate::outline).
    Call {
        /// What would have been called, usually a [`Value::Global`].
        callable: Box<Value>,
        /// With what.
        arguments: Vec<Value>,
    },
    /// An object that was not made, and the state it would have been given; from [`objects`](crate::objects).
    Object {
        /// Its class, usually a [`Value::Global`].
        class: Box<Value>,
        /// What it would have been made with.
        arguments: Vec<Value>,
        /// Its state, usually a dictionary of its attributes.
        state: Box<Value>,
    },
    /// A reference to something outside the stream, by its id; from [`outline`](crate::outline).
    Persistent(Box<Value>),
}

impl Value {
    /// The value of a dictionary's key; `None` if there is no such key or this is no dictionary. Of repeated keys the
    /// last counts, as in Python.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let Value::Dict(pairs) = self else { return None };
        pairs.iter().rev().find(|(k, _)| k.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// Text, also when it was pickled as UTF-8 bytes.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Bytes, or the UTF-8 bytes of text.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            Value::Str(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// A whole number: an `int`, a NumPy integer scalar, or text that spells one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            Value::Bool(truth) => Some(i64::from(*truth)),
            Value::Array(array) if array.shape().is_empty() => array.to_i64s()?.first().copied(),
            other => other.as_str()?.trim().parse().ok(),
        }
    }
}
