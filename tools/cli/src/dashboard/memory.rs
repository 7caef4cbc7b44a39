//! How much memory this process uses.

/// Memory of this process in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub now: u64,
    /// At most, so far.
    pub peak: u64,
}

/// Memory in use; `None` where the system has no `/proc`.
pub fn used() -> Option<Memory> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse(status: &str) -> Option<Memory> {
    let bytes = |key: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Memory { now: bytes("VmRSS:")?, peak: bytes("VmHWM:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_says_how_much_is_used() {
        let status = "Name:\txenc\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(parse(status), Some(Memory { now: 1 << 20, peak: 2 << 20 }));
        assert_eq!(parse("Name:\txenc\n"), None);
        #[cfg(target_os = "linux")]
        assert!(used().is_some_and(|memory| memory.now > 0 && memory.peak >= memory.now / 2));
    }
}
