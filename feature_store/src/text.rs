//! Small files that people write or programs leave beside a dump: lists of ids, annotations, counts.
//!
//! They are read in one piece, so a pipe that never ends, a device, or a file of many gigabytes named by mistake is refused
//! before it is opened.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::MAX_ID_BYTES;

/// Largest file of this kind: forty million ids of 25 letters.
const MAX_BYTES: u64 = 1 << 30;

/// What else may be given as a list.
const NO_LIST: &str = "it is no regular file: a list is a file of text with one id a line, or a pipe, or `-` for stdin";

/// A file that is read line by line, of any length.
///
/// # Errors
/// What the system says; what is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    // Opening a pipe would wait for somebody to write to it.
    match std::fs::metadata(path)?.is_file() {
        true => File::open(path),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file")),
    }
}

/// A file's bytes.
///
/// # Errors
/// What the system says; what is no regular file, or has more than a gibibyte.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = read_to_end(open(path)?)?;
    // Editors on Windows begin a file with a mark of its byte order, which is no part of what it holds.
    Ok(match bytes.strip_prefix("\u{feff}".as_bytes()) {
        Some(rest) => rest.to_vec(),
        None => bytes,
    })
}

fn read_to_end(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        let what = format!("it has more than {} MiB", MAX_BYTES >> 20);
        return Err(io::Error::new(ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

/// A file's text.
///
/// # Errors
/// What the system says; what is no regular file of UTF-8 text of at most a gibibyte.
pub fn read_text(path: &Path) -> io::Result<String> {
    utf8(read(path)?)
}

fn utf8(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// The lines of a text without blanks at their ends, empty ones left out: a list of ids. A line that is a JSON string stands
/// for what it spells, such as an id with the end of a line in it. A pipe is read to its end, and so is stdin for `-`.
///
/// # Errors
/// What the system says; what is no file or pipe, or no UTF-8 text of at most a gibibyte.
pub fn read_list(path: &Path) -> io::Result<Vec<String>> {
    let bytes = if path.as_os_str() == "-" {
        read_to_end(io::stdin().lock())?
    } else {
        match std::fs::metadata(path)? {
            is if is.is_file() => read(path)?,
            is if is.file_type().is_fifo() => read_to_end(File::open(path)?)?,
            _ => return Err(io::Error::new(ErrorKind::InvalidInput, NO_LIST)),
        }
    };
    let text = utf8(bytes)?;
    // Editors on Windows begin a file with a mark of its byte order.
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let id = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| line.to_owned());
    Ok(lines.filter(|line| !line.is_empty()).map(id).collect())
}

/// Text from somebody's file, such as an id, as it is shown to people: its control characters spelled out, so that it stays
/// on its line and moves no cursor.
pub fn visible(text: &str) -> Cow<'_, str> {
    visible_but(text, &[])
}

/// An id as it is shown to people: whole if a store can hold it, or almost, so that it can be found; else its beginning.
/// What a damaged file has in place of an id may be thousands of characters that are spelled out.
pub fn visible_id(id: &str) -> Cow<'_, str> {
    const SHOWN: usize = 40;
    let whole = visible(id);
    match id.char_indices().nth(SHOWN) {
        Some((end, _)) if id.len() > MAX_ID_BYTES && whole.len() > 2 * MAX_ID_BYTES => {
            format!("{}…", visible(&id[..end])).into()
        }
        _ => whole,
    }
}

/// As [`visible`], except for some characters.
pub fn visible_but<'a>(text: &'a str, kept: &[char]) -> Cow<'a, str> {
    let is_hidden = |c: char| is_hidden(c) && !kept.contains(&c);
    if !text.contains(is_hidden) {
        return text.into();
    }
    let spelled = |c: char| if is_hidden(c) { c.escape_default().to_string() } else { c.into() };
    text.chars().map(spelled).collect::<String>().into()
}

/// Whether a character moves the cursor, ends a line, or changes how its neighbours are read: control characters,
/// separators of lines, marks of direction, and what has no width.
pub fn is_hidden(c: char) -> bool {
    let of_format = ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2060}'..='\u{206f}'];
    c.is_control() || c == '\u{feff}' || of_format.iter().any(|range| range.contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spelled_out() {
        assert_eq!(visible("a\nb\t\u{1b}[31m\u{7}\u{9b}é"), r"a\nb\t\u{1b}[31m\u{7}\u{9b}é");
        assert_eq!(visible("gnp.\u{202e}exe"), r"gnp.\u{202e}exe");
        assert_eq!(visible_but("a\tb\n\r", &['\t', '\n']), "a\tb\n\\r");
        assert!(matches!(visible("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn an_id_beyond_what_a_store_holds_is_shown_by_its_beginning() {
        for whole in ["a".repeat(512), "\n".repeat(511)] {
            assert_eq!(visible_id(&whole), visible(&whole));
        }
        assert_eq!(visible_id(&"é".repeat(600)), "é".repeat(40) + "…");
        assert_eq!(visible_id(&"\0".repeat(4096)), r"\u{0}".repeat(40) + "…");
    }

    #[test]
    fn lists_are_read_and_what_never_ends_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids");
        std::fs::write(&path, "\u{feff}a\r\n\n  b \nc\n\"d\\ne\"\n7\n\"f").unwrap();
        assert_eq!(read_list(&path).unwrap(), ["a", "b", "c", "d\ne", "7", "\"f"]);
        std::fs::write(&path, b"\xff\xfe").unwrap();
        assert!(read_list(&path).unwrap_err().to_string().contains("UTF-8"));
        for no_list in [Path::new("/dev/zero"), Path::new("/dev/null"), folder.path()] {
            let said = read_list(no_list).unwrap_err().to_string();
            assert!(said.contains("no regular file") && said.contains("one id a line"), "{said}");
        }
    }
}
