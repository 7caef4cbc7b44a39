//! Memory that is freed is soon needed again: it is kept instead of being given back to the system, which would zero it page by
//! page.

#[cfg(all(feature = "torch", not(target_env = "msvc")))]
mod jemalloc;

/// Has glibc keep what is freed. A conversion frees arrays of 300 kB thousands of times; 720,000 page faults were a
/// third of its time. Called first in main: the settings are of the whole process.
pub fn keep_freed_memory() {
    #[cfg(all(not(feature = "torch"), target_os = "linux", target_env = "gnu"))]
    // SAFETY: no other thread is there yet, and the settings are documented ones; that one is refused changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 << 20);
    }
}
