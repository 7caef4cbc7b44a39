//! The pickle machine: a stack, a memo and the opcodes, with allow-listed constructors instead of Python's `find_class`.
//!
//! Containers are changed after they have been memoised, so values live in an arena and everything refers to them by
//! index; the result is turned into a plain tree at the end, within limits. Opcodes and their arguments are those of
//! CPython's `pickletools`.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cursor::Cursor;
use crate::{Dtype, Error, Fault, NdArray, Value};

/// Deepest nesting of the resulting value; sound files have less than ten.
const MAX_DEPTH: usize = 100;

/// Index into the arena.
type Id = usize;

#[derive(Clone)]
enum Node {
    Plain(Value),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Constructor),
    /// A global that is not on the list.
    Foreign {
        module: Arc<str>,
        name: Arc<str>,
    },
    /// A foreign global with its arguments.
    Call {
        callable: Id,
        arguments: Vec<Id>,
    },
    /// A call that was given a state afterwards.
    Object {
        class: Id,
        arguments: Vec<Id>,
        state: Id,
    },
    /// An id of something outside the stream.
    Persistent(Id),
    Dtype(DtypeNode),
    /// `_reconstruct`ed, waiting for the state that makes it an array.
    EmptyArray,
    ObjectArray {
        shape: Vec<usize>,
        items: Vec<Id>,
    },
}

#[derive(Clone)]
enum DtypeNode {
    Number(Dtype, bool),
    Object,
}

/// What is done about globals that are not on the list.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Foreign {
    /// They are an error.
    Refused,
    /// They are named in the result.
    Outlined,
    /// They are named in the result, with the state that objects are given.
    WithState,
}

/// What a stream may construct.
#[derive(Clone, Copy, PartialEq)]
enum Constructor {
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

fn constructor(module: &str, name: &str) -> Option<Constructor> {
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

pub(crate) struct Machine<'a> {
    cursor: Cursor<'a>,
    arena: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack at which marks were set.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    foreign: Foreign,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(stream: &'a [u8], foreign: Foreign) -> Self {
        let cursor = Cursor::new(stream);
        Machine {
            cursor,
            arena: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            foreign,
        }
    }

    /// The value, and how many bytes it took.
    pub(crate) fn run(mut self) -> Result<(Value, usize), Error> {
        loop {
            let offset = self.cursor.position;
            match self.step() {
                Ok(None) => {}
                Ok(Some(root)) => {
                    let limit = 1024 + 4 * self.cursor.len();
                    let mut budget = limit;
                    let length = self.cursor.position;
                    return match self.resolve(root, MAX_DEPTH, &mut budget) {
                        Ok(value) => Ok((value, length)),
                        Err(Fault::TooLarge(_)) => {
                            Err(Error { offset, fault: Fault::TooLarge(limit) })
                        }
                        Err(fault) => Err(Error { offset, fault }),
                    };
                }
                Err(fault) => return Err(Error { offset, fault }),
            }
        }
    }

    /// Executes one opcode; the result once STOP is met.
    fn step(&mut self) -> Result<Option<Id>, Fault> {
        let opcode = self.cursor.u8()?;
        match opcode {
            b'.' => return self.pop().map(Some),
            0x80 => {
                let protocol = self.cursor.u8()?;
                if protocol > 5 {
                    return Err(Fault::Protocol(protocol));
                }
            }
            // FRAME only tells readers of a socket how much to fetch.
            0x95 => drop(self.cursor.u64()?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => self.pop_or_mark()?,
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' | 0x88 | 0x89 | b'I' | b'J' | b'K' | b'M' | b'L' | 0x8a | 0x8b | b'F' | b'G' => {
                let number = self.number(opcode)?;
                self.push_value(number);
            }
            b'S' | b'T' | b'U' | b'V' | b'X' | 0x8c | 0x8d | b'B' | b'C' | 0x8e | 0x96 => {
                let text = self.text(opcode)?;
                self.push_value(text);
            }
            b']' | b'l' | b')' | b't' | 0x85 | 0x86 | 0x87 | b'}' | b'd' | 0x8f | 0x91 => {
                self.container(opcode)?
            }
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(opcode)?,
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.memoise(opcode)?,
            b'c' => {
                let module = self.cursor.line_str()?;
                let name = self.cursor.line_str()?;
                self.push_global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop_str()?, self.pop_str()?);
                self.push_global(&module, &name)?;
            }
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.construct(callable, arguments)?;
            }
            b'Q' if self.foreign != Foreign::Refused => {
                let id = self.pop()?;
                self.push(Node::Persistent(id));
            }
            b'b' => {
                let state = self.pop()?;
                self.build(state)?;
            }
            // A read-only out-of-band buffer marks nothing that matters here; real out-of-band data cannot be in a file.
            0x98 => {}
            other => return Err(Fault::Opcode(other)),
        }
        Ok(None)
    }

    fn number(&mut self, opcode: u8) -> Result<Value, Fault> {
        let cursor = &mut self.cursor;
        Ok(match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(cursor.array()?))),
            b'K' => Value::Int(i64::from(cursor.u8()?)),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(cursor.array()?))),
            b'G' => Value::Float(f64::from_be_bytes(cursor.array()?)),
            b'F' => Value::Float(
                cursor
                    .line_str()?
                    .trim()
                    .parse()
                    .map_err(|_| Fault::Malformed("a float that is none"))?,
            ),
            b'I' => match cursor.line_str()? {
                "00" => Value::Bool(false),
                "01" => Value::Bool(true),
                digits => decimal(digits)?,
            },
            b'L' => decimal(cursor.line_str()?.trim_end_matches('L'))?,
            long => {
                let length =
                    if long == 0x8a { u64::from(cursor.u8()?) } else { u64::from(cursor.u32()?) };
                integer(cursor.take(length)?)
            }
        })
    }

    fn text(&mut self, opcode: u8) -> Result<Value, Fault> {
        let cursor = &mut self.cursor;
        if opcode == b'S' {
            return quoted(cursor.line()?);
        }
        if opcode == b'V' {
            return Ok(Value::Str(cursor.line_str()?.into()));
        }
        let length = match opcode {
            b'U' | b'C' | 0x8c => u64::from(cursor.u8()?),
            b'T' | b'X' | b'B' => u64::from(cursor.u32()?),
            _ => cursor.u64()?,
        };
        let bytes = cursor.take(length)?;
        Ok(match opcode {
            b'X' | 0x8c | 0x8d => Value::Str(
                std::str::from_utf8(bytes)
                    .map_err(|_| Fault::Malformed("text that is not UTF-8"))?
                    .into(),
            ),
            // Python 2's str is bytes; where it is ASCII, and so also text, `as_str` gives it as text.
            _ => Value::Bytes(bytes.into()),
        })
    }

    fn container(&mut self, opcode: u8) -> Result<(), Fault> {
        let node = match opcode {
            b']' | 0x8f => Node::List(Vec::new()),
            b')' => Node::Tuple(Vec::new()),
            b'}' => Node::Dict(Vec::new()),
            b'l' | 0x91 => Node::List(self.pop_to_mark()?),
            b't' => Node::Tuple(self.pop_to_mark()?),
            b'd' => Node::Dict(pairs(&self.pop_to_mark()?)?),
            short => {
                let count = usize::from(short - 0x84);
                let floor = self.marks.last().copied().unwrap_or(0);
                let start = self.stack.len().checked_sub(count).filter(|&start| start >= floor);
                Node::Tuple(
                    self.stack.split_off(start.ok_or(Fault::Malformed("too little for a tuple"))?),
                )
            }
        };
        self.push(node);
        Ok(())
    }

    /// Adds items to the list or dictionary below them.
    fn fill(&mut self, opcode: u8) -> Result<(), Fault> {
        let items = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                vec![key, value]
            }
            _ => self.pop_to_mark()?,
        };
        let target = self.top()?;
        match (&mut self.arena[target], opcode) {
            (Node::List(list), b'a' | b'e' | 0x90) => list.extend(items),
            (Node::Dict(dict), b's' | b'u') => dict.extend(pairs(&items)?),
            (Node::Call { .. } | Node::Object { .. }, _) => {}
            _ => return Err(Fault::Malformed("items for something that takes none")),
        }
        Ok(())
    }

    fn memoise(&mut self, opcode: u8) -> Result<(), Fault> {
        let slot = match opcode {
            b'p' | b'g' => self
                .cursor
                .line_str()?
                .parse()
                .map_err(|_| Fault::Malformed("a memo index that is no number"))?,
            b'q' | b'h' => u64::from(self.cursor.u8()?),
            b'r' | b'j' => u64::from(self.cursor.u32()?),
            _ => self.memo.len() as u64,
        };
        if matches!(opcode, b'g' | b'h' | b'j') {
            let id =
                *self.memo.get(&slot).ok_or(Fault::Malformed("a memo entry that was never set"))?;
            self.stack.push(id);
        } else {
            let top = self.top()?;
            self.memo.insert(slot, top);
        }
        Ok(())
    }

    fn push_global(&mut self, module: &str, name: &str) -> Result<(), Fault> {
        let node = match (constructor(module, name), self.foreign) {
            (Some(constructor), _) => Node::Global(constructor),
            (None, Foreign::Outlined | Foreign::WithState) => {
                Node::Foreign { module: module.into(), name: name.into() }
            }
            (None, Foreign::Refused) => return Err(Fault::Global(format!("{module}.{name}"))),
        };
        self.push(node);
        Ok(())
    }

    /// REDUCE and NEWOBJ: applies an allowed constructor to its arguments.
    fn construct(&mut self, callable: Id, arguments: Id) -> Result<(), Fault> {
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
    fn build(&mut self, state: Id) -> Result<(), Fault> {
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

    fn str_of(&self, id: Id) -> Option<Arc<str>> {
        match &self.arena[id] {
            Node::Plain(value) => value.as_str().map(Arc::from),
            _ => None,
        }
    }

    fn push(&mut self, node: Node) {
        self.stack.push(self.arena.len());
        self.arena.push(node);
    }

    fn push_value(&mut self, value: Value) {
        self.push(Node::Plain(value));
    }

    fn top(&self) -> Result<Id, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(Fault::Malformed("the stack is empty"));
        }
        Ok(self.stack[self.stack.len() - 1])
    }

    fn pop(&mut self) -> Result<Id, Fault> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_or_mark(&mut self) -> Result<(), Fault> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn pop_str(&mut self) -> Result<Arc<str>, Fault> {
        let id = self.pop()?;
        self.str_of(id).ok_or(Fault::Malformed("a name that is no text"))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, Fault> {
        let mark = self.marks.pop().ok_or(Fault::Malformed("a mark is missing"))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    /// The tree below a node, within the limits of depth and size: shared values are copied, and a stream of a few
    /// bytes could otherwise stand for more than fits into memory.
    fn resolve(&self, id: Id, depth: usize, budget: &mut usize) -> Result<Value, Fault> {
        if depth == 0 {
            return Err(Fault::TooDeep(MAX_DEPTH));
        }
        *budget = budget.checked_sub(1).ok_or(Fault::TooLarge(0))?;
        let mut all = |ids: &[Id]| self.resolve_all(ids, depth, budget);
        Ok(match &self.arena[id] {
            Node::Plain(value) => value.clone(),
            Node::List(items) => Value::List(all(items)?),
            Node::Tuple(items) => Value::Tuple(all(items)?),
            Node::ObjectArray { shape, items } => {
                Value::ObjectArray { shape: shape.clone(), items: all(items)? }
            }
            Node::Dict(pairs) => {
                let pair = |&(key, value): &(Id, Id)| {
                    Ok((
                        self.resolve(key, depth - 1, budget)?,
                        self.resolve(value, depth - 1, budget)?,
                    ))
                };
                Value::Dict(pairs.iter().map(pair).collect::<Result<_, Fault>>()?)
            }
            Node::Foreign { module, name } => {
                Value::Global { module: module.clone(), name: name.clone() }
            }
            Node::Call { callable, arguments } => Value::Call {
                callable: Box::new(self.resolve(*callable, depth - 1, budget)?),
                arguments: self.resolve_all(arguments, depth, budget)?,
            },
            Node::Object { class, arguments, state } => Value::Object {
                class: Box::new(self.resolve(*class, depth - 1, budget)?),
                arguments: self.resolve_all(arguments, depth, budget)?,
                state: Box::new(self.resolve(*state, depth - 1, budget)?),
            },
            Node::Persistent(id) => {
                Value::Persistent(Box::new(self.resolve(*id, depth - 1, budget)?))
            }
            // A bare type among the arguments of a foreign call: its name is of no interest.
            Node::Global(_) if self.foreign != Foreign::Refused => Value::None,
            Node::Global(_) | Node::Dtype(_) | Node::EmptyArray => {
                return Err(Fault::Malformed("a constructor where a value should be"));
            }
        })
    }

    fn resolve_all(
        &self,
        ids: &[Id],
        depth: usize,
        budget: &mut usize,
    ) -> Result<Vec<Value>, Fault> {
        ids.iter().map(|&id| self.resolve(id, depth - 1, budget)).collect()
    }
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, Fault> {
    let chunks = items.chunks_exact(2);
    if !chunks.remainder().is_empty() {
        return Err(Fault::Malformed("a key without a value"));
    }
    Ok(chunks.map(|pair| (pair[0], pair[1])).collect())
}

fn decimal(digits: &str) -> Result<Value, Fault> {
    digits.trim().parse().map(Value::Int).map_err(|_| Fault::Malformed("an integer that is none"))
}

/// A little-endian two's complement integer of any length.
fn integer(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::BigInt(bytes.into());
    }
    let negative = bytes.last().is_some_and(|&b| b & 0x80 != 0);
    let mut extended = [if negative { 0xff } else { 0 }; 8];
    extended[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(extended))
}

/// Protocol 0's `S'...'`: quoted, without the escapes that no file of ours holds.
fn quoted(line: &[u8]) -> Result<Value, Fault> {
    match line {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => {
            Ok(Value::Bytes(inner.into()))
        }
        _ => Err(Fault::Malformed("a string that is not quoted, or has escapes")),
    }
}
