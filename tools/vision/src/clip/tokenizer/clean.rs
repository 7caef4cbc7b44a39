//! What happens to a text before it is split: ftfy's simple repairs, HTML references, white space, lower case.
//!
//! ftfy's repair of text that was decoded with the wrong encoding ("â€™") is left out: none of ImageCoDe's 21,202
//! descriptions needs it. Everything else of ftfy 6.3.1's default settings is here.

use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use super::html;

/// A text as CLIP's tokenizer sees it.
pub fn clean(text: &str) -> String {
    let text = fix_text(text);
    let text = html::unescape(&text);
    let text = html::unescape(&text);
    // Runs of white space to one blank, none at the ends.
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").to_lowercase()
}

/// ftfy's `fix_text`: line by line, until nothing changes any more.
fn fix_text(text: &str) -> String {
    let mut fixed = String::with_capacity(text.len());
    // HTML is unescaped up to the first line with a `<`, which is taken for real markup.
    let mut unescape = true;
    for line in text.split_inclusive('\n') {
        unescape &= !line.contains('<');
        let mut line = line.to_owned();
        loop {
            let next = fix_line(&line, unescape);
            if next == line {
                break;
            }
            line = next;
        }
        fixed.push_str(&line);
    }
    fixed
}

fn fix_line(line: &str, unescape: bool) -> String {
    let mut text = if unescape { html::unescape_strict(line) } else { line.to_owned() };
    if text.is_ascii() && !text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return text;
    }
    text = text.chars().map(windows_1252).collect();
    text = expanded(&text);
    text = text.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}', '\u{85}'], "\n");
    static TERMINAL_ESCAPE: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"\x1b\[(?:\p{Nd}|;)*[a-zA-Z]").ok());
    if let Some(escape) = TERMINAL_ESCAPE.as_ref() {
        text = escape.replace_all(&text, "").into_owned();
    }
    text.chars().filter(|c| !is_control(*c)).nfc().collect()
}

/// Latin ligatures as letters, full-width characters at their usual width, quotes straight.
fn expanded(text: &str) -> String {
    let mut expanded = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            'ŉ' => expanded.push_str("'n"),
            'ﬅ' => expanded.push_str("ſt"),
            // The compatibility forms of these are the letters that they stand for.
            'Ĳ' | 'ĳ' | 'Ǆ'..='ǌ' | 'Ǳ'..='ǳ' | 'ﬀ'..='ﬄ' | 'ﬆ' => {
                expanded.extend(letters(c))
            }
            '\u{3000}' => expanded.push(' '),
            '\u{ff01}'..='\u{ffef}' => expanded.extend(std::iter::once(c).nfkc().map(straight)),
            _ => expanded.push(straight(c)),
        }
    }
    expanded
}

/// A digraph's letters; a caron stays with its letter.
fn letters(digraph: char) -> impl Iterator<Item = char> {
    std::iter::once(digraph).nfkc()
}

fn straight(c: char) -> char {
    match c {
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        _ => c,
    }
}

/// A C1 control read as the Windows-1252 character with that byte, where there is one.
pub(super) fn windows_1252(c: char) -> char {
    const FROM_80: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž',
        '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}',
        'ž', 'Ÿ',
    ];
    match c {
        '\u{80}'..='\u{9f}' => FROM_80[c as usize - 0x80],
        _ => c,
    }
}

/// Characters that ftfy removes.
fn is_control(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{8}'
            | '\u{b}'
            | '\u{e}'..='\u{1f}'
            | '\u{7f}'
            | '\u{206a}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffc}'
    )
}
