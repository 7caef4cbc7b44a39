//! OpenAI's CLIP: everything that is not its network.

mod config;
pub mod graph;
mod preprocess;
mod tokenizer;

pub use config::{Architecture, Config, HEAD_WIDTH, Vision, random_weights};
pub use preprocess::{MEAN, Preprocess, STD};
pub use tokenizer::{CONTEXT, END, START, Tokenizer, TooLong, VocabularyError, clean};
