//! Keeping the disk busy: a transaction copies its pages to the system's cache and then waits for the disk, which would
//! have nothing to do meanwhile.

use std::fs::File;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::lmdb::Env;

/// Smaller transactions are over before a thread has begun.
const WORTH_IT: usize = 4 << 20;
/// Time in which about 10 MB are copied.
const INTERVAL: Duration = Duration::from_millis(3);

/// Runs a transaction of so many bytes, whose pages go to the disk from the first one on, not only when all are there. What
/// makes them durable is the transaction itself.
pub(super) fn during<T>(env: &Env, bytes: usize, transaction: impl FnOnce() -> T) -> T {
    let file = if bytes < WORTH_IT { None } else { env.try_clone_inner_file().ok() };
    let Some(file) = file else { return transaction() };
    thread::scope(|scope| {
        let (over, is_over) = channel::<()>();
        scope.spawn(move || {
            while is_over.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                begin(&file);
            }
        });
        let done = transaction();
        drop(over);
        done
    })
}

/// Has the system begin to write what it has of a file, without waiting for it. Whether it does is its own affair.
#[cfg(target_os = "linux")]
fn begin(file: &File) {
    use std::os::fd::AsRawFd;
    // SAFETY: an open file, all of it; no memory is touched.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE);
    }
}

#[cfg(not(target_os = "linux"))]
fn begin(_: &File) {}
