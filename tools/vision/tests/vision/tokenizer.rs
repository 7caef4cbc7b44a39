//! CLIP's tokens against the original's: every row of the fixtures.

use std::path::PathBuf;

use vision::clip::{CONTEXT, END, START, Tokenizer, clean};

use crate::fixtures::{Tensors, path};

fn tokenizer() -> Tokenizer {
    let vocabulary = std::env::var_os("XENC_CLIP_VOCABULARY").map(PathBuf::from);
    let vocabulary = vocabulary.expect("XENC_CLIP_VOCABULARY, which .cargo/config.toml sets");
    Tokenizer::open(&vocabulary).expect("CLIP's vocabulary: `make setup` fetches it")
}

/// The rows of the fixture whose text was decoded with the wrong encoding, which is not repaired here.
fn needs_repair(row: &serde_json::Value) -> bool {
    let steps = row["ftfy_steps"].as_array().unwrap();
    steps
        .iter()
        .any(|step| matches!(step.as_str(), Some("fix_encoding" | "decode_inconsistent_utf8")))
}

#[test]
fn parity_tokens_equal_the_originals() {
    let tokenizer = tokenizer();
    let mut tensors = Tensors::open("clip/tokenizer_ids.safetensors");
    let expected = tensors.i32s("ids");
    let text = std::fs::read_to_string(path("clip/tokenizer.jsonl")).unwrap();
    let (mut compared, mut left_out) = (0, 0);
    for (line, padded) in text.lines().zip(expected.chunks_exact(CONTEXT)) {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        if needs_repair(&row) {
            left_out += 1;
            continue;
        }
        let text = row["text"].as_str().unwrap();
        assert_eq!(clean(text), row["clean"].as_str().unwrap(), "{text:?}");
        let ids = tokenizer.encode(text);
        assert_eq!(ids.len() as u64, row["untruncated_len"].as_u64().unwrap(), "{text:?}");
        let tokens = tokenizer.tokens_truncated(text);
        assert_eq!(tokens.map(|id| id as i32), padded, "{text:?}");
        let end = tokens.iter().rposition(|&id| id != 0).unwrap();
        let listed: Vec<i64> =
            row["ids"].as_array().unwrap().iter().filter_map(|id| id.as_i64()).collect();
        assert_eq!(tokens[..=end], listed, "{text:?}");
        assert_eq!(tokenizer.tokens(text).is_ok(), ids.len() <= CONTEXT, "{text:?}");
        compared += 1;
    }
    tensors.finish();
    // The few rows that the fixtures' README excuses, and no others.
    assert_eq!(compared + left_out, text.lines().count());
    assert_eq!(expected.len(), CONTEXT * text.lines().count());
    assert!(compared > 0 && left_out <= compared / 50, "{compared} compared, {left_out} left out");
}

#[test]
fn an_empty_text_and_special_words_are_encoded_as_the_original_does() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.encode(" \n"), [START, END]);
    assert_eq!(tokenizer.encode("<|endoftext|>"), [START, END, END]);
    let error = tokenizer.tokens(&"dog ".repeat(100)).unwrap_err();
    assert!(error.to_string().contains("102 tokens"), "{error}");
}

#[test]
fn the_last_of_the_merges_are_made() {
    let tokenizer = tokenizer();
    // Words whose last merge is among the 256 of the highest ranks, which few texts have.
    for (word, id) in [("blob", 49312), ("poking", 49169), ("stormtrooper", 49218)] {
        assert_eq!(tokenizer.encode(word), [START, id, END], "{word}");
    }
}

#[test]
fn another_file_is_no_vocabulary() {
    let error = Tokenizer::open(&path("README.md")).unwrap_err().to_string();
    assert!(error.contains("README.md") && error.contains("bpe_simple_vocab_16e6"), "{error}");
}
