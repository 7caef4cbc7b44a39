//! Ctrl-C and SIGTERM: the first asks the running command to stop at the next safe point, the second ends it at once.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Gives the terminal back, while a command draws on all of it.
static LEAVE_SCREEN: Mutex<Option<fn()>> = Mutex::new(None);

/// Another process says what there is to say.
static QUIET: AtomicBool = AtomicBool::new(false);

/// The exit code of a command that was interrupted, as shells have it (128 + SIGINT).
const EXIT_INTERRUPTED: u8 = 130;

/// Installs the handler; called once, by `main`.
pub fn install() -> anyhow::Result<()> {
    ctrlc::set_handler(request).context("the signal handler could not be installed")
}

/// What Ctrl-C does.
pub fn request() {
    let leave_screen = *LEAVE_SCREEN.lock().unwrap_or_else(PoisonError::into_inner);
    if INTERRUPTED.swap(true, Ordering::SeqCst) {
        if let Some(leave_screen) = leave_screen {
            leave_screen();
        }
        // SAFETY: it only ends the process. `exit` would first take libtorch apart under the threads that compute with it.
        unsafe { libc::_exit(i32::from(EXIT_INTERRUPTED)) };
    }
    if leave_screen.is_none() && !QUIET.load(Ordering::SeqCst) {
        errln!("\ninterrupted: stopping at the next safe point (once more to stop at once)");
    }
}

/// Says that the whole terminal is drawn on, and how it is given back; `None` when that is over.
#[cfg_attr(
    not(feature = "torch"),
    expect(dead_code, reason = "only training draws on the whole terminal")
)]
pub fn on_screen(leave: Option<fn()>) {
    *LEAVE_SCREEN.lock().unwrap_or_else(PoisonError::into_inner) = leave;
}

/// Stops without a word: one of several ranks, of which the first speaks.
#[cfg_attr(not(feature = "torch"), expect(dead_code, reason = "only training has ranks"))]
pub fn be_quiet() {
    QUIET.store(true, Ordering::SeqCst);
}

/// Set once the user has asked to stop; long work looks at it between records or steps.
pub fn flag() -> &'static AtomicBool {
    &INTERRUPTED
}

/// What an interrupted command returns.
pub fn exit_code() -> ExitCode {
    ExitCode::from(EXIT_INTERRUPTED)
}
