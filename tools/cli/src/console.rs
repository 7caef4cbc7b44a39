//! Writing to stdout and stderr, which may be full or closed: `println!` would panic.

use std::fmt::{Arguments, Display};
use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};

/// As `println!`, but a stdout that takes no more ends the program (see [`give_up`]).
macro_rules! outln {
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
    if let Err(error) = out.write_fmt(text).and_then(|()| out.flush()) {
        give_up(&error);
    }
}

/// What `errln!` calls.
pub fn to_stderr(text: Arguments) {
    let _ = io::stderr().lock().write_fmt(text);
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
}

impl Lines {
    /// Begins; nobody else can write to stdout until the end.
    pub fn start() -> Lines {
        Lines { out: BufWriter::new(io::stdout().lock()) }
    }

    /// Writes a line.
    pub fn line(&mut self, line: impl Display) {
        self.did(|out| writeln!(out, "{line}"));
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
