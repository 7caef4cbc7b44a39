//! Lines of a text that may be compressed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::gzip::Gzip;
use crate::formats::{FormatError, MAX_ARRAY_BYTES, RecordError};

/// Editors on Windows begin a file with it; it is no part of the first id.
pub(super) const BYTE_ORDER_MARK: &str = "\u{feff}";
pub(super) const GZIP: &[u8] = b"\x1f\x8b";
const ZSTANDARD: &[u8] = b"\x28\xb5\x2f\xfd";
/// A frame of Zstandard that holds no data, with which seekable files may begin; its first byte counts from 0x50 to 0x5f.
const ZSTANDARD_SKIPPED: &[u8] = b"\x2a\x4d\x18";
/// Longest line that is read: a line of base64 is a third longer than its bytes.
const MAX_LINE: u64 = MAX_ARRAY_BYTES as u64 * 3 / 2;

/// Whether a file that begins so may be a TSV: text, or one of the compressions.
pub(in crate::formats) fn may_be_text(head: &[u8]) -> bool {
    head.starts_with(GZIP)
        || is_zstandard(head)
        || !head.iter().any(|&byte| byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r'))
}

fn is_zstandard(head: &[u8]) -> bool {
    let is_skipped = |rest: &[u8]| rest.starts_with(ZSTANDARD_SKIPPED);
    head.starts_with(ZSTANDARD)
        || matches!(head.split_first(), Some((0x50..=0x5f, rest)) if is_skipped(rest))
}

/// A line without its end, and where it stands.
pub(super) struct Line {
    pub(super) number: u64,
    /// Offset of its first byte in the (decompressed) file.
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

/// Lines of a file that may be compressed; empty ones are left out.
pub(super) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    number: u64,
    offset: u64,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Lines, FormatError> {
        let file = File::open(path).map_err(FormatError::io(path))?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let head = reader.fill_buf().map_err(FormatError::io(path))?;
        let (gzip, zstandard) = (head.starts_with(GZIP), is_zstandard(head));
        let reader: Box<dyn BufRead + Send> = if gzip {
            let inner = Gzip::new(reader);
            Box::new(BufReader::with_capacity(1 << 20, inner))
        } else if zstandard {
            let inner = zstd::Decoder::with_buffer(reader).map_err(FormatError::io(path))?;
            Box::new(BufReader::with_capacity(1 << 20, inner))
        } else {
            Box::new(reader)
        };
        Ok(Lines { path: path.to_owned(), reader, number: 0, offset: 0 })
    }

    pub(super) fn next_line(&mut self) -> Result<Option<Line>, RecordError> {
        loop {
            self.skip_empty();
            let (mut bytes, offset) = (Vec::new(), self.offset);
            self.number += 1;
            let read = read_line(self.reader.by_ref().take(MAX_LINE), &mut bytes);
            let line = Line { number: self.number, offset, bytes };
            let read =
                read.map_err(|error| self.error(&line, format!("it cannot be read: {error}")))?;
            if read == 0 {
                return Ok(None);
            }
            self.offset += read as u64;
            let mut line = line;
            if line.bytes.last() == Some(&b'\n') {
                line.bytes.pop();
            } else if read as u64 == MAX_LINE {
                let line = Line { bytes: Vec::new(), ..line };
                return Err(self.error(&line, format!("it is longer than {MAX_LINE} bytes")));
            }
            if line.bytes.last() == Some(&b'\r') {
                line.bytes.pop();
            }
            if line.number == 1 && line.bytes.starts_with(BYTE_ORDER_MARK.as_bytes()) {
                line.bytes.drain(..BYTE_ORDER_MARK.len());
            }
            if !line.bytes.is_empty() {
                return Ok(Some(line));
            }
        }
    }

    /// Passes over empty lines, of which there may be a gigabyte, a buffer at a time.
    fn skip_empty(&mut self) {
        // What cannot be read is told with the line that it is in.
        while let Ok(there) = self.reader.fill_buf() {
            let empty = there.iter().take_while(|byte| **byte == b'\n').count();
            let is_over = empty < there.len() || empty == 0;
            self.reader.consume(empty);
            self.number += empty as u64;
            self.offset += empty as u64;
            if is_over {
                return;
            }
        }
    }

    pub(super) fn error(&self, line: &Line, reason: impl ToString) -> RecordError {
        RecordError::new(&self.path, format!("line {}, byte {}", line.number, line.offset), reason)
    }
}

/// As [`BufRead::read_until`] the end of a line, which looks at long lines several times faster.
fn read_line(mut reader: impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        let there = match reader.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            there => there?,
        };
        let end = memchr::memchr(b'\n', there).map(|end| end + 1);
        let read = end.unwrap_or(there.len());
        line.extend_from_slice(&there[..read]);
        reader.consume(read);
        if end.is_some() || read == 0 {
            return Ok(line.len());
        }
    }
}
