//! OpenAI's CLIP: everything that is not its network.

mod preprocess;

pub use preprocess::{MEAN, Preprocess, STD};
