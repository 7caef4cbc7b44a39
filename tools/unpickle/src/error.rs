//! What can be wrong with a pickle.

/// A fault and where in the stream it was found.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("pickle, byte {offset}: {fault}")]
pub struct Error {
    /// Offset of the opcode at fault, in bytes from the start of the stream.
    pub offset: usize,
    /// What is wrong.
    pub fault: Fault,
}

/// What can be wrong with a pickle.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The stream ends inside an opcode, or before the one that ends it.
    #[error("the stream ends too early")]
    Truncated,
    /// A protocol newer than 5.
    #[error("protocol {0} is not known (0 to 5 are)")]
    Protocol(u8),
    /// A byte that is no opcode, or an opcode that reaches outside the stream.
    #[error("opcode 0x{0:02x} is not allowed")]
    Opcode(u8),
    /// The stream names a callable that is not on the list: it may be an attack.
    #[error("refused to construct `{0}`: only plain Python and NumPy values are read")]
    Global(String),
    /// An opcode finds too little, or the wrong kind of thing, on the stack.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// A NumPy dtype that holds something else than plain numbers.
    #[error("dtype `{0}` is not supported")]
    Dtype(String),
    /// An array's shape and the bytes it comes with disagree.
    #[error("an array of shape {shape:?} and {item_size} bytes per item comes with {bytes} bytes")]
    ArraySize {
        /// The declared shape.
        shape: Vec<usize>,
        /// Bytes per item.
        item_size: usize,
        /// Bytes that are there.
        bytes: usize,
    },
    /// Nested deeper than any sound file.
    #[error("values are nested more than {0} deep, or contain themselves")]
    TooDeep(usize),
    /// More values than what is read can hold, or shared ones that would expand to far more than the stream holds.
    #[error("more than {0} values, or shared ones that expand to as many")]
    TooLarge(usize),
    /// `write` was given something it has no encoding for.
    #[error("{0} cannot be written")]
    Unwritable(&'static str),
}
