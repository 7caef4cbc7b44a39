//! What a stream may construct, and how: arrays, dtypes, dictionaries, bytes. Nothing else is ever called.

use std::sync::Arc;

use super::{DtypeNode, Foreign, Id, Machine, Node};
use crate::{Dtype, Fault, NdArray, Value};

/// What a stream may construct.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Constructor {
    Reconstruct,
    Scalar,
    FromBuffer,
    NdArrayType,
    Dtype,
    OrderedDict,
    Set,
    Bytearray,
    Encode,
}

/// The constructor of a name, if it is on the list.
pub(super) fn constructor(module: &str, name: &str) -> Option<Constructor> {
    Some(match (module, name) {
        ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
            Constructor::Reconstruct
        }
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Constructor::Scalar,
        ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Constructor::FromBuffer,
        ("numpy", "ndarray") => Constructor::NdArrayType,
        ("numpy", "dtype") => Constructor::Dtype,
        ("collections", "OrderedDict") => Constructor::OrderedDict,
        ("builtins" | "__builtin__", "set" | "frozenset") => Constructor::Set,
        ("builtins" | "__builtin__", "bytearray" | "bytes") => Constructor::Bytearray,
        ("_codecs", "encode") => Constructor::Encode,
        _ => return None,
    })
}

impl Machine<'_> {
    /// REDUCE and NEWOBJ: applies an allowed constructor to its arguments.
    pub(super) fn construct(&mut self, callable: Id, arguments: Id) -> Result<(), Fault> {
        let Node::Tuple(arguments) = self.arena[arguments].clone() else {
            return Err(Fault::Malformed("arguments that are no tuple"));
        };
        let constructor = match self.arena[callable] {
            Node::Global(constructor) => constructor,
            Node::Foreign { .. } => {
                self.push(Node::Call { callable, arguments });
                return Ok(());
            }
            _ => return Err(Fault::Malformed("a call of something that is no constructor")),
        };
        let node = match constructor {
            Constructor::Reconstruct => Node::EmptyArray,
            Constructor::Dtype => Node::Dtype(self.dtype(&arguments)?),
            Constructor::Scalar => self.scalar(&arguments)?,
            Constructor::FromBuffer => self.array_from_buffer(&arguments)?,
            Constructor::OrderedDict => Node::Dict(self.ordered_dict(&arguments)?),
            Constructor::Set => match arguments.first().map(|&id| &self.arena[id]) {
                Some(Node::List(items)) => Node::List(items.clone()),
                None => Node::List(Vec::new()),
                Some(_) => return Err(Fault::Malformed("a set of something that is no list")),
            },
            Constructor::Bytearray | Constructor::Encode => self.encoded_bytes(&arguments)?,
            Constructor::NdArrayType => return Err(Fault::Global("numpy.ndarray(...)".into())),
        };
        self.push(node);
        Ok(())
    }

    fn dtype(&self, arguments: &[Id]) -> Result<DtypeNode, Fault> {
        let name = arguments.first().and_then(|&id| self.str_of(id));
        let name = name.ok_or(Fault::Malformed("a dtype without a name"))?;
        match Dtype::from_name(&name) {
            Some((dtype, big_endian)) => Ok(DtypeNode::Number(dtype, big_endian)),
            None if name.starts_with('O') || name.starts_with("|O") => Ok(DtypeNode::Object),
            None => Err(Fault::Dtype(name.to_string())),
        }
    }

    fn scalar(&self, arguments: &[Id]) -> Result<Node, Fault> {
        let &[dtype, bytes] = arguments else {
            return Err(Fault::Malformed("a NumPy scalar without bytes"));
        };
        let (dtype, big_endian) = self.number_dtype(dtype)?;
        let array =
            NdArray::from_layout(dtype, Vec::new(), self.bytes_of(bytes)?, big_endian, false)?;
        Ok(Node::Plain(Value::Array(array)))
    }

    /// Protocol 5: `_frombuffer(buffer, dtype, shape, order)`.
    fn array_from_buffer(&self, arguments: &[Id]) -> Result<Node, Fault> {
        let &[buffer, dtype, shape, order] = arguments else {
            return Err(Fault::Malformed("an array from a buffer needs four arguments"));
        };
        let (dtype, big_endian) = self.number_dtype(dtype)?;
        let fortran = self.str_of(order).as_deref() == Some("F");
        let data = self.bytes_of(buffer)?;
        let array = NdArray::from_layout(dtype, self.shape_of(shape)?, data, big_endian, fortran)?;
        Ok(Node::Plain(Value::Array(array)))
    }

    fn ordered_dict(&self, arguments: &[Id]) -> Result<Vec<(Id, Id)>, Fault> {
        let Some(&list) = arguments.first() else { return Ok(Vec::new()) };
        let Node::List(items) = &self.arena[list] else {
            return Err(Fault::Malformed("an OrderedDict of something that is no list"));
        };
        let pair = |&id: &Id| match &self.arena[id] {
            Node::List(pair) | Node::Tuple(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
            _ => Err(Fault::Malformed("an OrderedDict of something that is no pair")),
        };
        items.iter().map(pair).collect()
    }

    /// `_codecs.encode(text, "latin1")` and `bytearray(text, "latin-1")`: how protocols below 3 spell bytes.
    fn encoded_bytes(&self, arguments: &[Id]) -> Result<Node, Fault> {
        let Some(&first) = arguments.first() else {
            return Ok(Node::Plain(Value::Bytes(Arc::default())));
        };
        let Node::Plain(Value::Str(text)) = &self.arena[first] else {
            return Ok(Node::Plain(Value::Bytes(self.bytes_of(first)?)));
        };
        let latin1: Option<Vec<u8>> =
            text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        match arguments.get(1).and_then(|&id| self.str_of(id)).as_deref() {
            Some("latin1" | "latin-1") => {
                let bytes = latin1.ok_or(Fault::Malformed("latin1 text beyond latin1"))?;
                Ok(Node::Plain(Value::Bytes(bytes.into())))
            }
            _ => Err(Fault::Malformed("bytes in an encoding other than latin1")),
        }
    }

    /// BUILD: gives an array or a dtype its state.
    pub(super) fn build(&mut self, state: Id) -> Result<(), Fault> {
        let target = self.top()?;
        if self.foreign == Foreign::WithState
            && let Node::Call { callable, arguments } = &self.arena[target]
        {
            let (class, arguments) = (*callable, arguments.clone());
            self.arena[target] = Node::Object { class, arguments, state };
            return Ok(());
        }
        if self.foreign != Foreign::Refused
            && let Node::Call { .. } | Node::Dict(_) = self.arena[target]
        {
            return Ok(());
        }
        let Node::Tuple(state) = self.arena[state].clone() else {
            return Err(Fault::Malformed("a state that is no tuple"));
        };
        let built = match &self.arena[target] {
            Node::Dtype(DtypeNode::Number(dtype, _)) => {
                let order = state.get(1).and_then(|&id| self.str_of(id));
                let order = order.ok_or(Fault::Malformed("a dtype state without byte order"))?;
                Node::Dtype(DtypeNode::Number(*dtype, &*order == ">"))
            }
            Node::Dtype(DtypeNode::Object) => return Ok(()),
            Node::EmptyArray => self.array(&state)?,
            _ => return Err(Fault::Malformed("a state for something that takes none")),
        };
        self.arena[target] = built;
        Ok(())
    }

    /// The state of an array: version, shape, dtype, whether Fortran order, bytes (or a list of objects).
    fn array(&self, state: &[Id]) -> Result<Node, Fault> {
        let &[_, shape, dtype, fortran, data] = state else {
            return Err(Fault::Malformed("an array state needs five parts"));
        };
        let shape = self.shape_of(shape)?;
        let fortran = matches!(self.arena[fortran], Node::Plain(Value::Bool(true) | Value::Int(1)));
        if let Node::Dtype(DtypeNode::Object) = self.arena[dtype] {
            let Node::List(items) = &self.arena[data] else {
                return Err(Fault::Malformed("an array of objects without a list"));
            };
            let expected = shape.iter().try_fold(1usize, |size, &n| size.checked_mul(n));
            if expected != Some(items.len()) || (fortran && shape.len() > 1) {
                return Err(Fault::ArraySize { shape, item_size: 1, bytes: items.len() });
            }
            return Ok(Node::ObjectArray { shape, items: items.clone() });
        }
        let (dtype, big_endian) = self.number_dtype(dtype)?;
        let array = NdArray::from_layout(dtype, shape, self.bytes_of(data)?, big_endian, fortran)?;
        Ok(Node::Plain(Value::Array(array)))
    }

    fn number_dtype(&self, id: Id) -> Result<(Dtype, bool), Fault> {
        match &self.arena[id] {
            Node::Dtype(DtypeNode::Number(dtype, big_endian)) => Ok((*dtype, *big_endian)),
            Node::Dtype(DtypeNode::Object) => Err(Fault::Dtype("O".into())),
            _ => Err(Fault::Malformed("an array without a dtype")),
        }
    }

    fn shape_of(&self, id: Id) -> Result<Vec<usize>, Fault> {
        let malformed = Fault::Malformed("a shape that is no tuple of sizes");
        let Node::Tuple(sizes) = &self.arena[id] else { return Err(malformed) };
        let size = |&id: &Id| match self.arena[id] {
            Node::Plain(Value::Int(n)) => usize::try_from(n).ok(),
            _ => None,
        };
        sizes.iter().map(size).collect::<Option<_>>().ok_or(malformed)
    }

    fn bytes_of(&self, id: Id) -> Result<Arc<[u8]>, Fault> {
        match &self.arena[id] {
            Node::Plain(Value::Bytes(bytes)) => Ok(bytes.clone()),
            _ => Err(Fault::Malformed("bytes expected")),
        }
    }

    pub(super) fn str_of(&self, id: Id) -> Option<Arc<str>> {
        match &self.arena[id] {
            Node::Plain(value) => value.as_str().map(Arc::from),
            _ => None,
        }
    }
}
