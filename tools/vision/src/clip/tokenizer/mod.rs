//! CLIP's tokenizer: lower case, byte-level byte-pair encoding, 49408 ids, 77 of them a text.
//!
//! The vocabulary is OpenAI's `bpe_simple_vocab_16e6.txt.gz` (`make setup` fetches a copy into `.runtime/clip`).

mod clean;
mod html;
mod vocabulary;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

pub use clean::clean;
pub use vocabulary::VocabularyError;

use vocabulary::Vocabulary;

/// Ids of a text, start and end included, padded.
pub const CONTEXT: usize = 77;
/// The id before every text.
pub const START: u32 = 49406;
/// The id behind every text; the largest there is.
pub const END: u32 = 49407;

/// The pieces that byte pairs are merged within. Digits come one by one; marks and joiners count as punctuation.
static PIECES: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"(?i)<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+";
    match Regex::new(pattern) {
        Ok(pieces) => pieces,
        Err(error) => unreachable!("the pattern is a constant: {error}"),
    }
});

/// A text that has more ids than there is room for.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{start}…` has {tokens} tokens, and there is room for {CONTEXT}; shorten it, or let it be truncated"
)]
pub struct TooLong {
    /// Its first words.
    pub start: String,
    /// Its ids, start and end included.
    pub tokens: usize,
}

/// Texts to ids.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
}

impl Tokenizer {
    /// Reads the vocabulary, compressed with gzip or not.
    ///
    /// # Errors
    /// [`VocabularyError`] with the path.
    pub fn open(vocabulary: &Path) -> Result<Tokenizer, VocabularyError> {
        Ok(Tokenizer { vocabulary: Vocabulary::open(vocabulary)? })
    }

    /// The same from a vocabulary's bytes, compressed with gzip or not.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(vocabulary: &[u8]) -> Result<Tokenizer, String> {
        Ok(Tokenizer { vocabulary: Vocabulary::parse_bytes(vocabulary)? })
    }

    /// What an id stands for in a text; of a part of a letter its place in the byte alphabet.
    pub fn symbol(&self, id: u32) -> Option<&str> {
        match id {
            START => Some("<|startoftext|>"),
            END => Some("<|endoftext|>"),
            id => self.vocabulary.symbol(id),
        }
    }

    /// Where `make setup` put the vocabulary: `XENC_CLIP_VOCABULARY`, or `.runtime/clip` in or above the working directory,
    /// or the cache.
    pub fn find_vocabulary() -> Option<PathBuf> {
        const FILE: &str = "bpe_simple_vocab_16e6.txt.gz";
        let set =
            |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(named) = set("XENC_CLIP_VOCABULARY") {
            return Some(named);
        }
        let here = std::env::current_dir().ok()?;
        let mut linked = here.ancestors().map(|folder| folder.join(".runtime/clip").join(FILE));
        if let Some(found) = linked.find(|path| path.is_file()) {
            return Some(found);
        }
        let cache =
            set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?.join("xenc");
        let entries = std::fs::read_dir(cache).ok()?.flatten();
        let clips =
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("open_clip-"));
        let mut files: Vec<PathBuf> = clips
            .map(|entry| entry.path().join("open_clip").join(FILE))
            .filter(|p| p.is_file())
            .collect();
        files.sort();
        files.pop()
    }

    /// All ids of a text, from [`START`] to [`END`], however many.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let text = clean(text);
        let mut ids = vec![START];
        for piece in PIECES.find_iter(&text) {
            match piece.as_str() {
                "<|startoftext|>" => ids.push(START),
                "<|endoftext|>" => ids.push(END),
                piece => self.vocabulary.encode(piece, &mut ids),
            }
        }
        ids.push(END);
        ids
    }

    /// The ids of a text as the text encoder takes them, padded with 0.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn tokens(&self, text: &str) -> Result<[i64; CONTEXT], TooLong> {
        let ids = self.encode(text);
        if ids.len() > CONTEXT {
            let start = text.chars().take(40).collect();
            return Err(TooLong { start, tokens: ids.len() });
        }
        Ok(padded(&ids))
    }

    /// The ids of a text without padding; of one that has more than `most`, start and end included, the first ones and the
    /// end.
    pub fn encode_truncated(&self, text: &str, most: usize) -> Vec<u32> {
        let mut ids = self.encode(text);
        if ids.len() > most.max(2) {
            ids.truncate(most.max(2) - 1);
            ids.push(END);
        }
        ids
    }

    /// As [`Tokenizer::tokens`]; of a text that is too long the first 76 ids and the end.
    pub fn tokens_truncated(&self, text: &str) -> [i64; CONTEXT] {
        padded(&self.encode_truncated(text, CONTEXT))
    }
}

/// As many as there is room for.
fn padded(ids: &[u32]) -> [i64; CONTEXT] {
    let mut tokens = [0; CONTEXT];
    for (token, &id) in tokens.iter_mut().zip(ids) {
        *token = i64::from(id);
    }
    tokens
}
