//! The pickle machine: a stack, a memo and the opcodes, with allow-listed constructors instead of Python's `find_class`.
//!
//! Containers are changed after they have been memoised, so values live in an arena and everything refers to them by
//! index; the result is turned into a plain tree at the end, within limits. Opcodes and their arguments are those of
//! CPython's `pickletools`.

mod construct;
mod literals;
mod resolve;

use std::collections::HashMap;
use std::sync::Arc;

use construct::{Constructor, constructor};

use crate::cursor::Cursor;
use crate::{Dtype, Error, Fault, Value};

/// Deepest nesting of the resulting value; sound files have less than ten.
const MAX_DEPTH: usize = 100;

/// Values that any stream may hold, however short.
const FEW_VALUES: usize = 1 << 16;

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

pub(crate) struct Machine<'a> {
    cursor: Cursor<'a>,
    arena: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack at which marks were set.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    foreign: Foreign,
    /// Values that may be held at a time: an opcode of one byte makes one of more than fifty.
    limit: usize,
}

impl<'a> Machine<'a> {
    /// Of as many values as a stream of this length can sensibly hold.
    pub(crate) fn new(stream: &'a [u8], foreign: Foreign) -> Self {
        Machine::within(stream, foreign, FEW_VALUES + stream.len() / 2)
    }

    pub(crate) fn within(stream: &'a [u8], foreign: Foreign, limit: usize) -> Self {
        let cursor = Cursor::new(stream);
        Machine {
            cursor,
            arena: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            foreign,
            limit,
        }
    }

    /// The value, and how many bytes it took.
    pub(crate) fn run(mut self) -> Result<(Value, usize), Error> {
        loop {
            let offset = self.cursor.position;
            match self.step() {
                Ok(None) if self.held() > self.limit => {
                    return Err(Error { offset, fault: Fault::TooLarge(self.limit) });
                }
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

    /// The largest number of things that are held of one kind.
    fn held(&self) -> usize {
        let held = [self.arena.len(), self.stack.len(), self.marks.len(), self.memo.len()];
        held.into_iter().max().unwrap_or(0)
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
                let number = literals::number(&mut self.cursor, opcode)?;
                self.push_value(number);
            }
            b'S' | b'T' | b'U' | b'V' | b'X' | 0x8c | 0x8d | b'B' | b'C' | 0x8e | 0x96 => {
                let text = literals::text(&mut self.cursor, opcode)?;
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
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, Fault> {
    let chunks = items.chunks_exact(2);
    if !chunks.remainder().is_empty() {
        return Err(Fault::Malformed("a key without a value"));
    }
    Ok(chunks.map(|pair| (pair[0], pair[1])).collect())
}
