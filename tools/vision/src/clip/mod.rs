//! OpenAI's CLIP: everything that is not its network.

pub mod graph;
mod preprocess;
mod tokenizer;

pub use preprocess::{MEAN, Preprocess, STD};
pub use tokenizer::{CONTEXT, END, START, Tokenizer, TooLong, VocabularyError, clean};
