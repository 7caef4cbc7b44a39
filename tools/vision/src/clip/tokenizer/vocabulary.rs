//! The byte alphabet and the merges.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::START;

/// Merges that are used. Two alphabets of 256 come before them, the two special ids after them.
const MERGES: usize = START as usize - 2 * 256;
/// Most bytes that a vocabulary may have when unpacked; OpenAI's has 3 million.
const MAX_BYTES: u64 = 64 << 20;
/// Marks a symbol that ends a word.
const WORD_END: &str = "</w>";

/// A vocabulary that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VocabularyError {
    /// The file system refuses, or the compressed data is damaged.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another file.
    #[error("{path}: {what}; CLIP's vocabulary is bpe_simple_vocab_16e6.txt.gz")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Vocabulary {
    /// The id of each byte within a word; the one that ends a word is 256 higher.
    bytes: [u32; 256],
    /// Two neighbouring ids: their rank and the id they become.
    merges: HashMap<(u32, u32), (u32, u32)>,
    /// What each id stands for, by the byte alphabet and without the mark of a word's end.
    symbols: Vec<Box<str>>,
}

impl Vocabulary {
    pub(super) fn open(path: &Path) -> Result<Vocabulary, VocabularyError> {
        let text =
            read(path).map_err(|source| VocabularyError::Io { path: path.into(), source })?;
        Vocabulary::parse(&text)
            .map_err(|what| VocabularyError::Malformed { path: path.into(), what })
    }

    /// Of a file's bytes.
    pub(super) fn parse_bytes(bytes: &[u8]) -> Result<Vocabulary, String> {
        Vocabulary::parse(&unpacked(bytes).map_err(|error| error.to_string())?)
    }

    fn parse(text: &str) -> Result<Vocabulary, String> {
        let alphabet = alphabet();
        let mut ids: HashMap<String, u32> = HashMap::new();
        let mut bytes = [0; 256];
        for (id, (byte, symbol)) in (0..).zip(&alphabet) {
            bytes[usize::from(*byte)] = id;
            ids.insert(symbol.to_string(), id);
            ids.insert(format!("{symbol}{WORD_END}"), id + 256);
        }
        let mut pairs = Vec::with_capacity(MERGES);
        for (number, line) in text.lines().enumerate().skip(1).take(MERGES) {
            let mut symbols = line.split_whitespace();
            let (Some(left), Some(right), None) = (symbols.next(), symbols.next(), symbols.next())
            else {
                return Err(format!("line {} is no pair of symbols", number + 1));
            };
            // Of two merges into the same symbol the later one's id counts, as in a Python dictionary.
            ids.insert(format!("{left}{right}"), 512 + pairs.len() as u32);
            pairs.push((left, right));
        }
        if pairs.len() < MERGES {
            return Err(format!("{} merges where {MERGES} are used", pairs.len()));
        }
        let mut merges = HashMap::with_capacity(MERGES);
        for (rank, (left, right)) in (0..).zip(pairs) {
            let id = |symbol: &str| {
                ids.get(symbol).copied().ok_or(format!("`{symbol}` is merged before it is made"))
            };
            let merged = id(&format!("{left}{right}"))?;
            merges.insert((id(left)?, id(right)?), (rank, merged));
        }
        let mut symbols = vec![Box::from(""); START as usize];
        for (symbol, id) in ids {
            symbols[id as usize] = symbol.trim_end_matches(WORD_END).into();
        }
        Ok(Vocabulary { bytes, merges, symbols })
    }

    /// What an id stands for.
    pub(super) fn symbol(&self, id: u32) -> Option<&str> {
        self.symbols.get(id as usize).map(|symbol| &**symbol)
    }

    /// Adds the ids of one piece of text.
    pub(super) fn encode(&self, piece: &str, ids: &mut Vec<u32>) {
        let start = ids.len();
        ids.extend(piece.bytes().map(|byte| self.bytes[usize::from(byte)]));
        if let Some(last) = ids[start..].last_mut() {
            *last += 256;
        }
        while let Some((left, right, merged)) = self.next_merge(&ids[start..]) {
            let mut kept = start;
            let mut at = start;
            while at < ids.len() {
                let pair = (ids[at], ids.get(at + 1).copied());
                (ids[kept], at) =
                    if pair == (left, Some(right)) { (merged, at + 2) } else { (pair.0, at + 1) };
                kept += 1;
            }
            ids.truncate(kept);
        }
    }

    /// The neighbours with the lowest rank, and what they become.
    fn next_merge(&self, ids: &[u32]) -> Option<(u32, u32, u32)> {
        let pairs = ids.windows(2).filter_map(|pair| {
            let (rank, merged) = self.merges.get(&(pair[0], pair[1]))?;
            Some((rank, (pair[0], pair[1], *merged)))
        });
        pairs.min_by_key(|(rank, _)| **rank).map(|(_, merge)| merge)
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut file = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut file)?;
    unpacked(&file)
}

fn unpacked(bytes: &[u8]) -> io::Result<String> {
    let mut text = String::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        GzDecoder::new(bytes).take(MAX_BYTES).read_to_string(&mut text)?;
        return Ok(text);
    }
    String::from_utf8(bytes.to_vec())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The character that stands for each byte (GPT-2's), in the order of the ids: printable bytes for themselves, then the
/// others from U+0100 on.
fn alphabet() -> Vec<(u8, char)> {
    let is_printable = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let printable = (0..=255u8).filter(is_printable).map(|byte| (byte, char::from(byte)));
    let others = (0..=255u8).filter(|byte| !is_printable(byte));
    printable.chain(others.zip('\u{100}'..)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_vocabulary_is_told_by_line() {
        let error = |text: &str| Vocabulary::parse(text).unwrap_err();
        assert!(error("#version\na b\na b c\n").contains("line 3"));
        assert!(error("#version\na b\n").contains("1 merges"));
        let unknown = format!("#version\n{}", "zz yy\n".repeat(MERGES));
        assert!(error(&unknown).contains("`zz`"));
    }
}
