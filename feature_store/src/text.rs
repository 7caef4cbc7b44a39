//! Small files that people write or programs leave beside a dump: lists of ids, annotations, counts.
//!
//! They are read in one piece, so a pipe that never ends, a device, or a file of many gigabytes named by mistake is refused
//! before it is opened.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Largest file of this kind: forty million ids of 25 letters.
const MAX_BYTES: u64 = 1 << 30;

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
    let mut bytes = Vec::new();
    open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
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
    String::from_utf8(read(path)?)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// The lines of a text file without blanks at their ends, empty ones left out: a list of ids.
///
/// # Errors
/// What the system says; what is no regular file of UTF-8 text of at most a gibibyte.
pub fn read_list(path: &Path) -> io::Result<Vec<String>> {
    let text = read_text(path)?;
    // Editors on Windows begin a file with a mark of its byte order.
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    Ok(lines.filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// Text from somebody's file, such as an id, as it is shown to people: its control characters spelled out, so that it stays
/// on its line and moves no cursor.
pub fn visible(text: &str) -> Cow<'_, str> {
    visible_but(text, &[])
}

/// The same, except for some characters.
pub fn visible_but<'a>(text: &'a str, kept: &[char]) -> Cow<'a, str> {
    let is_hidden = |c: char| c.is_control() && !kept.contains(&c);
    if !text.contains(is_hidden) {
        return text.into();
    }
    let spelled = |c: char| if is_hidden(c) { c.escape_default().to_string() } else { c.into() };
    text.chars().map(spelled).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spelled_out() {
        assert_eq!(visible("a\nb\t\u{1b}[31m\u{7}\u{9b}é"), r"a\nb\t\u{1b}[31m\u{7}\u{9b}é");
        assert_eq!(visible_but("a\tb\n\r", &['\t', '\n']), "a\tb\n\\r");
        assert!(matches!(visible("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn lists_are_read_and_what_never_ends_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids");
        std::fs::write(&path, "\u{feff}a\r\n\n  b \nc").unwrap();
        assert_eq!(read_list(&path).unwrap(), ["a", "b", "c"]);
        std::fs::write(&path, b"\xff\xfe").unwrap();
        assert!(read_list(&path).unwrap_err().to_string().contains("UTF-8"));
        assert!(read_list(Path::new("/dev/zero")).unwrap_err().to_string().contains("regular"));
        assert!(read_list(folder.path()).unwrap_err().to_string().contains("regular"));
    }
}
