//! OpenAI's CLIP: preprocessing, tokens, the network's graph, and running it.

mod encoder;
pub mod graph;
mod preprocess;
mod tensors;
mod tokenizer;

pub use encoder::{ClipEncoder, EncodeError, cosine};
pub use graph::Architecture;
pub use preprocess::{MEAN, Preprocess, STD};
pub use tensors::{
    EMBEDDED_BY, OtherTower, TowerDigest, check_embedded_by, image_tower_digest, random_weights,
};
pub use tokenizer::{CONTEXT, END, START, Tokenizer, TooLong, VocabularyError, clean};
