//! BERT's WordPiece, as VOLTA uses it, and CLIP's byte pairs.

use std::path::Path;

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, Tokenizer as Inner};

use super::DataError;

const JSON: &str = "tokenizer.json";
const VOCABULARY: &str = "vocab.txt";
const BYTE_PAIRS: &str = "bpe_simple_vocab_16e6.txt.gz";

/// Turns descriptions into word pieces.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    pieces: Pieces,
    file_name: &'static str,
    contents: Vec<u8>,
}

#[derive(Debug, Clone)]
enum Pieces {
    WordPiece(Box<Inner>),
    BytePairs(Box<vision::clip::Tokenizer>),
}

/// Names under which a checkpoint keeps its tokenizer.
pub(crate) const TOKENIZER_FILES: [&str; 3] = [VOCABULARY, JSON, BYTE_PAIRS];

impl Tokenizer {
    /// Reads a `tokenizer.json` (by its extension), CLIP's `bpe_simple_vocab_16e6.txt` (by its first line, compressed with
    /// gzip or not), or a `vocab.txt` with one word piece a line, for an uncased model.
    ///
    /// # Errors
    /// [`DataError::Tokenizer`], also for a vocabulary without BERT's special tokens.
    pub fn load(path: &Path) -> Result<Tokenizer, DataError> {
        let error = |reason: String| DataError::Tokenizer { path: path.to_owned(), reason };
        let contents = feature_store::text::read(path).map_err(|e| error(e.to_string()))?;
        let file_name = match path.extension() {
            Some(extension) if extension == "json" => JSON,
            _ if is_of_byte_pairs(&contents) => BYTE_PAIRS,
            _ => VOCABULARY,
        };
        Tokenizer::parse(file_name, contents).map_err(error)
    }

    /// The same from a file's contents; [`file`](Tokenizer::file) gives them and its usual name.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(file_name: &str, contents: Vec<u8>) -> Result<Tokenizer, String> {
        let (mut inner, file_name) = match file_name {
            BYTE_PAIRS => {
                let pieces =
                    Pieces::BytePairs(Box::new(vision::clip::Tokenizer::parse(&contents)?));
                return Ok(Tokenizer { pieces, file_name: BYTE_PAIRS, contents });
            }
            JSON => (Inner::from_bytes(&contents).map_err(|e| e.to_string())?, JSON),
            _ => (wordpiece(&contents)?, VOCABULARY),
        };
        // Batches pad to their own longest description, and `encode` cuts.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| e.to_string())?;
        if pieces(&inner, "a")?.len() < 3 {
            return Err("it puts no [CLS] and [SEP] around a text".into());
        }
        Ok(Tokenizer { pieces: Pieces::WordPiece(Box::new(inner)), file_name, contents })
    }

    /// Word pieces of a text between `[CLS]` and `[SEP]`, or CLIP's start and end, at most `max_tokens` with them, and whether
    /// it had more; what is longer is cut before the last. For BERT the text is not stripped; special tokens written in it are
    /// recognised, as in VOLTA and CLIP.
    pub fn encode(&self, text: &str, max_tokens: usize) -> (Vec<i64>, bool) {
        // Normalisation and WordPiece of a text cannot fail once `load` has seen them work; a word outside the
        // vocabulary is [UNK].
        let mut ids = match &self.pieces {
            Pieces::WordPiece(inner) => pieces(inner, text).unwrap_or_default(),
            Pieces::BytePairs(clip) => clip.encode(text).into_iter().map(i64::from).collect(),
        };
        let is_cut = ids.len() > max_tokens.max(2);
        if is_cut {
            let separator = ids[ids.len() - 1];
            ids.truncate(max_tokens.max(2) - 1);
            ids.push(separator);
        }
        (ids, is_cut)
    }

    /// The word piece of an id, such as `##ing`.
    pub fn piece(&self, id: i64) -> Option<String> {
        let id = u32::try_from(id).ok()?;
        match &self.pieces {
            Pieces::WordPiece(inner) => inner.id_to_token(id),
            Pieces::BytePairs(clip) => clip.symbol(id).map(str::to_owned),
        }
    }

    /// Id of a word piece, such as `[MASK]`, if the vocabulary has it; CLIP's has none that is asked for by name.
    pub fn id(&self, piece: &str) -> Option<i64> {
        match &self.pieces {
            Pieces::WordPiece(inner) => inner.token_to_id(piece).map(i64::from),
            Pieces::BytePairs(_) => None,
        }
    }

    /// One more than the largest id: what a model's `vocab_size` must reach.
    pub fn vocab_size(&self) -> usize {
        match &self.pieces {
            Pieces::WordPiece(inner) => {
                let largest = inner.get_vocab(true).into_values().max();
                largest.map_or(0, |largest| largest as usize + 1)
            }
            Pieces::BytePairs(_) => vision::clip::END as usize + 1,
        }
    }

    /// Whether it is CLIP's.
    pub(crate) fn is_of_clip(&self) -> bool {
        matches!(self.pieces, Pieces::BytePairs(_))
    }

    /// The file it was read from, by its usual name: a checkpoint keeps a copy.
    pub fn file(&self) -> (&'static str, &[u8]) {
        (self.file_name, &self.contents)
    }
}

/// OpenAI's file is the only one that is compressed; unpacked it begins with its version.
fn is_of_byte_pairs(contents: &[u8]) -> bool {
    let first = contents.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let version = b"#version";
    contents.starts_with(&[0x1f, 0x8b]) || first.windows(version.len()).any(|part| part == version)
}

fn pieces(tokenizer: &Inner, text: &str) -> Result<Vec<i64>, String> {
    let encoding = tokenizer.encode(text, true).map_err(|e| e.to_string())?;
    Ok(encoding.get_ids().iter().map(|&id| i64::from(id)).collect())
}

/// One word piece a line; of equal ones the last counts.
fn wordpiece(contents: &[u8]) -> Result<Inner, String> {
    let vocabulary = WordPiece::read_bytes(contents).map_err(|e| e.to_string())?;
    let model = WordPiece::builder().vocab(vocabulary).unk_token("[UNK]".into());
    let model = model.build().map_err(|e| e.to_string())?;
    let mut tokenizer = Inner::new(model);
    let special = |token: &str| {
        let id = tokenizer.token_to_id(token).ok_or(format!("it lacks {token}"))?;
        Ok::<_, String>((token.to_owned(), id))
    };
    let (cls, sep) = (special("[CLS]")?, special("[SEP]")?);
    special("[UNK]")?;
    tokenizer.with_normalizer(Some(BertNormalizer::new(true, true, None, true)));
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_post_processor(Some(BertProcessing::new(sep, cls)));
    let specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        .into_iter()
        .filter(|token| tokenizer.token_to_id(token).is_some())
        .map(|token| AddedToken::from(token, true))
        .collect::<Vec<_>>();
    tokenizer.add_special_tokens(&specials);
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer(vocabulary: &str) -> Result<Tokenizer, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vocab.txt");
        std::fs::write(&path, vocabulary).unwrap();
        Tokenizer::load(&path)
    }

    const PIECES: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ncafe\nred\n##dish\n,\n東\n";

    #[test]
    fn pieces_are_those_of_uncased_bert() {
        let tokenizer = tokenizer(PIECES).unwrap();
        let ids = |text| tokenizer.encode(text, 120).0;
        assert_eq!(ids("The  Café"), [2, 5, 6, 3]);
        assert_eq!(ids("reddish,RED"), [2, 7, 8, 9, 7, 3]);
        assert_eq!(ids("blue 東red"), [2, 1, 10, 7, 3]);
        assert_eq!(ids("the [SEP] red"), [2, 5, 3, 7, 3]);
        assert_eq!(ids(""), [2, 3]);
        assert_eq!(tokenizer.vocab_size(), 11);
    }

    #[test]
    fn a_cut_keeps_the_separator() {
        let tokenizer = tokenizer(PIECES).unwrap();
        assert_eq!(tokenizer.encode("the red the red", 4), (vec![2, 5, 7, 3], true));
        assert_eq!(tokenizer.encode("the red", 4), (vec![2, 5, 7, 3], false));
    }

    #[test]
    fn what_is_no_vocabulary_is_refused() {
        let missing = tokenizer("the\nred\n").unwrap_err().to_string();
        assert!(missing.contains("[CLS]"), "{missing}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(Tokenizer::load(&path), Err(DataError::Tokenizer { .. })));
        assert!(Tokenizer::load(&folder.path().join("none.txt")).is_err());
    }

    #[test]
    fn a_tokenizer_json_without_its_padding_gives_the_same_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let plain = tokenizer(PIECES).unwrap();
        let path = folder.path().join("tokenizer.json");
        let Pieces::WordPiece(inner) = &plain.pieces else { panic!("it is WordPiece") };
        let mut padded = inner.clone();
        padded.with_padding(Some(tokenizers::PaddingParams {
            strategy: tokenizers::PaddingStrategy::Fixed(16),
            ..Default::default()
        }));
        padded.save(&path, false).unwrap();
        let read = Tokenizer::load(&path).unwrap();
        assert_eq!(read.encode("The reddish", 120), plain.encode("The reddish", 120));
        assert_eq!(read.file().0, "tokenizer.json");
    }
}
