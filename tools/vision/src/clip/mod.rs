//! OpenAI's CLIP: preprocessing, tokens, the network's graph, and running it.

mod config;
mod encoder;
pub mod graph;
mod preprocess;
mod tokenizer;

pub use config::{Architecture, Config, HEAD_WIDTH, Vision, random_weights, random_weights_of};
pub use encoder::{ClipEncoder, EncodeError, cosine};
pub use preprocess::{MEAN, Preprocess, STD};
pub use tokenizer::{CONTEXT, END, START, Tokenizer, TooLong, VocabularyError, clean};
