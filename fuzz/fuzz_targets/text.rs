//! Descriptions, as CLIP cleans and cuts them; the vocabulary is the one that `make setup` fetched.
#![no_main]

use std::sync::OnceLock;

use vision::clip::Tokenizer;

static TOKENIZER: OnceLock<Option<Tokenizer>> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let tokenizer = TOKENIZER.get_or_init(|| Tokenizer::open(&Tokenizer::find_vocabulary()?).ok());
    let (Some(tokenizer), Ok(text)) = (tokenizer, std::str::from_utf8(data)) else { return };
    assert!(tokenizer.encode(text).len() >= 2);
    let _ = tokenizer.tokens_truncated(text);
});
