//! Writing to stdout and stderr, which may be full or closed, where `println!` would panic, and which may be a terminal,
//! where an id from somebody's file could move the cursor or rename the window.

use std::borrow::Cow;
use std::fmt::{Arguments, Display};
use std::io::{self, BufWriter, ErrorKind, IsTerminal, StdoutLock, Write};
use std::path::Path;

use feature_store::text::{self, is_hidden, visible_but};
use serde::Serialize;

/// As `println!`, but a stdout that takes no more ends the program (see [`give_up`]).
macro_rules! outln {
    () => { $crate::console::to_stdout(format_args!("\n")) };
    ($($argument:tt)*) => { $crate::console::to_stdout(format_args!("{}\n", format_args!($($argument)*))) };
}

/// As `print!`, but a stdout that takes no more ends the program (see [`give_up`]).
#[cfg(feature = "torch")]
macro_rules! out {
    ($($argument:tt)*) => { $crate::console::to_stdout(format_args!($($argument)*)) };
}

/// As `eprintln!`, but a stderr that takes no more is passed over: there is nowhere left to say so.
macro_rules! errln {
    ($($argument:tt)*) => { $crate::console::to_stderr(format_args!("{}\n", format_args!($($argument)*))) };
}

/// What `outln!` calls.
pub fn to_stdout(text: Arguments) {
    let mut out = io::stdout().lock();
    let written = if out.is_terminal() {
        out.write_all(visible(&text.to_string()).as_bytes())
    } else {
        out.write_fmt(text)
    };
    if let Err(error) = written.and_then(|()| out.flush()) {
        give_up(&error);
    }
}

/// What `errln!` calls.
pub fn to_stderr(text: Arguments) {
    let _ = io::stderr().lock().write_all(visible(&text.to_string()).as_bytes());
}

/// Text whose control characters are spelled out, but for the ends of lines and tabs.
fn visible(text: &str) -> Cow<'_, str> {
    visible_but(text, &['\n', '\t'])
}

/// A path in what is said of it: on one line, whatever characters are in it, wherever stdout goes.
pub fn shown(path: impl AsRef<Path>) -> String {
    text::visible(&path.as_ref().to_string_lossy()).into_owned()
}

/// JSON for stdout, with every character that a terminal would obey written as an escape.
///
/// # Errors
/// What cannot be JSON, such as keys that are no text.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string_pretty(value)?;
    // They are within texts: what is laid out here are ends of lines and blanks.
    let is_hidden = |c: char| is_hidden(c) && c != '\n';
    if !text.contains(is_hidden) {
        return Ok(text);
    }
    let escaped = |c: char| match is_hidden(c) {
        true => format!("\\u{:04x}", u32::from(c)),
        false => c.into(),
    };
    Ok(text.chars().map(escaped).collect())
}

/// Ends the program after a failed write to stdout: quietly if nobody reads on (`| head`), otherwise with a word and
/// exit code 2. Commands write their output last, when everything else is done.
pub fn give_up(error: &io::Error) -> ! {
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    to_stderr(format_args!("error: cannot write to stdout: {error}\n"));
    std::process::exit(2);
}

/// Many lines to stdout, written in large pieces.
pub struct Lines {
    out: BufWriter<StdoutLock<'static>>,
    on_terminal: bool,
}

impl Lines {
    /// Begins; nobody else can write to stdout until the end.
    pub fn start() -> Lines {
        let out = io::stdout().lock();
        Lines { on_terminal: out.is_terminal(), out: BufWriter::new(out) }
    }

    /// Writes a line.
    pub fn line(&mut self, line: impl Display) {
        if self.on_terminal {
            self.did(|out| writeln!(out, "{}", visible(&line.to_string())));
        } else {
            self.did(|out| writeln!(out, "{line}"));
        }
    }

    /// Writes what is left.
    pub fn finish(mut self) {
        self.did(|out| out.flush());
    }

    fn did(&mut self, write: impl FnOnce(&mut BufWriter<StdoutLock>) -> io::Result<()>) {
        if let Err(error) = write(&mut self.out) {
            give_up(&error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spelled_out() {
        assert_eq!(visible("a\tb\n"), "a\tb\n");
        assert_eq!(json(&["a\n\u{9b}\u{202e}é"]).unwrap(), "[\n  \"a\\n\\u009b\\u202eé\"\n]");
        assert_eq!(visible("\u{1b}[31mred\u{7}\u{9b}"), "\\u{1b}[31mred\\u{7}\\u{9b}");
    }
}
