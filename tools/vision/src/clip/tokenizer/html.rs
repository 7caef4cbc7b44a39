//! HTML character references, as Python's `html.unescape` and ftfy read them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use entities::ENTITIES;

use super::clean::windows_1252;

/// Names with their `;`, and the legacy ones without: what they stand for. Without the `&`.
static NAMES: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    ENTITIES.iter().map(|entity| (&entity.entity[1..], entity.characters)).collect()
});

/// Names of lower-case entities in capitals, where HTML knows nothing by them: what ftfy takes them for.
static SHOUTED: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let lower =
        NAMES.iter().filter(|(name, _)| name.ends_with(';') && !name.contains(char::is_uppercase));
    lower
        .map(|(name, characters)| (name.to_uppercase(), characters.to_uppercase()))
        .filter(|(name, _)| named(name).is_none())
        .collect()
});

/// As HTML 5 does it: numeric references, names, and legacy names without `;` by their longest prefix.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    replace(text, |rest| {
        if rest.starts_with('#') {
            return numeric(rest);
        }
        let length = rest
            .char_indices()
            .take(32)
            .take_while(|(_, c)| !matches!(c, '\t' | '\n' | '\u{c}' | ' ' | '<' | '&' | '#' | ';'))
            .map(|(at, c)| at + c.len_utf8())
            .last()?;
        let with_semicolon = length + usize::from(rest[length..].starts_with(';'));
        let (name_length, characters) = named(&rest[..with_semicolon])?;
        Some((name_length, Cow::Borrowed(characters)))
    })
}

/// As ftfy does it: only references that end in `;`, and shouted names (`&EACUTE;`) as well.
pub(super) fn unescape_strict(text: &str) -> String {
    let replaced = replace(text, |rest| {
        let digits = rest.strip_prefix('#').unwrap_or(rest);
        let length = digits.bytes().take_while(u8::is_ascii_alphanumeric).count();
        if !(1..=24).contains(&length) || !digits[length..].starts_with(';') {
            return None;
        }
        let length = length + 1 + (rest.len() - digits.len());
        let reference = &rest[..length];
        if reference.starts_with('#') {
            // A reference that is only partly one is none.
            return numeric(reference).filter(|(read, _)| *read == length);
        }
        let characters = match NAMES.get(reference) {
            Some(characters) => Cow::Borrowed(*characters),
            None => Cow::Borrowed(SHOUTED.get(reference)?.as_str()),
        };
        Some((length, characters))
    });
    replaced.into_owned()
}

/// Replaces what `read` recognises behind each `&`; it says how many bytes that is and what they stand for.
fn replace<'a>(
    text: &'a str,
    read: impl Fn(&str) -> Option<(usize, Cow<'static, str>)>,
) -> Cow<'a, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        replaced.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match read(rest) {
            Some((length, characters)) => {
                replaced.push_str(&characters);
                rest = &rest[length..];
            }
            None => replaced.push('&'),
        }
    }
    replaced.push_str(rest);
    Cow::Owned(replaced)
}

/// The longest prefix that is a name: its length, and what it stands for. Names have two characters at least.
fn named(candidate: &str) -> Option<(usize, &'static str)> {
    let ends = candidate.char_indices().map(|(at, c)| at + c.len_utf8()).rev();
    ends.filter(|&end| end > 1).find_map(|end| Some((end, *NAMES.get(&candidate[..end])?)))
}

/// `#` and a number: decimal or hexadecimal, with or without `;`.
fn numeric(rest: &str) -> Option<(usize, Cow<'static, str>)> {
    let (start, radix) = match rest.as_bytes() {
        [b'#', b'x' | b'X', ..] => (2, 16),
        _ => (1, 10),
    };
    let digits = rest[start..].chars().take_while(|c| c.is_digit(radix)).count();
    if digits == 0 {
        return None;
    }
    let end = start + digits;
    let length = end + usize::from(rest[end..].starts_with(';'));
    // What does not fit is out of range in any case.
    let number = u32::from_str_radix(&rest[start..end], radix).unwrap_or(u32::MAX);
    let character = match number {
        0 | 0xd800..=0xdfff | 0x11_0000.. => Some('\u{fffd}'),
        0x0d => Some('\r'),
        0x80..=0x9f => char::from_u32(number).map(windows_1252),
        1..=8 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => None,
        _ if number & 0xfffe == 0xfffe => None,
        _ => char::from_u32(number),
    };
    let characters = character.map(String::from).unwrap_or_default();
    Some((length, Cow::Owned(characters)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_pythons_html_module_reads_them() {
        let cases = [
            ("&amp; &lt;b&gt;", "& <b>"),
            ("&copy2020 &notit; &ampamp;", "©2020 ¬it; &amp;"),
            ("&#65;&#x42;&#X43 &#128;&#x9f;&#129;", "ABC €Ÿ\u{81}"),
            ("&#0; &#xd800; &#1114112; &#99999999999;", "\u{fffd} \u{fffd} \u{fffd} \u{fffd}"),
            ("a&#1;b&#xffff;c&#13;", "abc\r"),
            ("& &; &#; &#x; &unknown; &", "& &; &#; &#x; &unknown; &"),
        ];
        for (text, expected) in cases {
            assert_eq!(unescape(text), expected, "{text}");
        }
    }

    #[test]
    fn ftfy_takes_only_what_ends_in_a_semicolon_and_names_in_capitals() {
        assert_eq!(
            unescape_strict("this&not that &eacute;&EACUTE;&nTILDE;"),
            "this&not that éÉ&nTILDE;"
        );
        assert_eq!(unescape_strict("&#233; &#233 &#12a;"), "é &#233 &#12a;");
    }
}
