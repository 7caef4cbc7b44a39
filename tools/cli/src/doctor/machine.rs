//! The processor, its memory, and what the system allows a process.

use serde::Serialize;

use super::line;

/// The machine.
#[derive(Serialize)]
pub struct Machine {
    /// Operating system and architecture: `linux x86_64`.
    system: String,
    /// What the processor calls itself.
    processor: Option<String>,
    /// Cores that this process may use.
    cores: Option<usize>,
    /// Vector instructions that matter for speed: which are there, which not.
    features: Vec<Feature>,
    /// Memory in bytes, of the machine or of the group of processes that this one is confined to.
    memory: Option<u64>,
    /// Memory that is free, in bytes.
    memory_free: Option<u64>,
}

/// Instructions of the processor.
#[derive(Serialize)]
struct Feature {
    name: &'static str,
    present: bool,
}

impl Machine {
    pub fn look() -> Machine {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = |key: &str| {
            let words = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
            words.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
        };
        Machine {
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            processor: processor(),
            cores: std::thread::available_parallelism().ok().map(usize::from),
            features: features(),
            memory: kib("MemTotal:").map(|total| total.min(group_limit().unwrap_or(u64::MAX))),
            memory_free: kib("MemAvailable:"),
        }
    }

    pub fn print(&self) {
        let name = self.processor.as_deref().unwrap_or("unknown");
        let cores = self.cores.map_or_else(|| "?".to_owned(), |cores| cores.to_string());
        line("processor", &format!("{name}, {} cores, {}", cores, self.system));
        let named = |present| {
            let names = self.features.iter().filter(|feature| feature.present == present);
            names.map(|feature| feature.name).collect::<Vec<_>>().join(" ")
        };
        if !self.features.is_empty() {
            let absent = named(false);
            let without =
                if absent.is_empty() { String::new() } else { format!("; without {absent}") };
            line("instructions", &format!("{}{without}", named(true)));
        }
        if let (Some(memory), Some(free)) = (self.memory, self.memory_free) {
            line("memory", &format!("{:.1} GiB, {:.1} GiB free", gib(memory), gib(free)));
        }
    }
}

/// What the system allows this process; nothing means no limit, or that it is not known.
#[derive(Serialize)]
pub struct Limits {
    /// Files open at a time.
    open_files: Option<u64>,
    /// To what that may be raised.
    open_files_most: Option<u64>,
    /// Bytes of a file.
    file_bytes: Option<u64>,
    /// Bytes of address space: a store is mapped whole.
    address_bytes: Option<u64>,
}

impl Limits {
    #[cfg(unix)]
    pub fn look() -> Limits {
        let (open_files, open_files_most) = limit(libc::RLIMIT_NOFILE);
        let (file_bytes, _) = limit(libc::RLIMIT_FSIZE);
        let (address_bytes, _) = limit(libc::RLIMIT_AS);
        Limits { open_files, open_files_most, file_bytes, address_bytes }
    }

    #[cfg(not(unix))]
    pub fn look() -> Limits {
        Limits { open_files: None, open_files_most: None, file_bytes: None, address_bytes: None }
    }

    pub fn print(&self) {
        let count = |limit: Option<u64>| {
            limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string())
        };
        let bytes = |limit: Option<u64>| {
            limit.map_or_else(|| "no limit".to_owned(), |limit| format!("{:.1} GiB", gib(limit)))
        };
        line(
            "open files",
            &format!(
                "{} (may be raised to {})",
                count(self.open_files),
                count(self.open_files_most)
            ),
        );
        line("file size", &bytes(self.file_bytes));
        line(
            "store size",
            &format!("{} (address space: stores are mapped whole)", bytes(self.address_bytes)),
        );
    }
}

/// A limit and to what it may be raised; none if there is none.
#[cfg(unix)]
fn limit(resource: libc::__rlimit_resource_t) -> (Option<u64>, Option<u64>) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer, and nothing else is touched.
    let answered = unsafe { libc::getrlimit(resource, &raw mut limit) } == 0;
    let some = |value: libc::rlim_t| (answered && value != libc::RLIM_INFINITY).then_some(value);
    (some(limit.rlim_cur), some(limit.rlim_max))
}

fn processor() -> Option<String> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<Feature> {
    use std::arch::is_x86_feature_detected as has;
    [
        ("avx2", has!("avx2")),
        ("fma", has!("fma")),
        ("f16c", has!("f16c")),
        ("avx512f", has!("avx512f")),
        ("avx512vnni", has!("avx512vnni")),
        ("avx512bf16", has!("avx512bf16")),
    ]
    .map(|(name, present)| Feature { name, present })
    .into()
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<Feature> {
    Vec::new()
}

/// The memory that the group of processes may have (containers), in bytes.
fn group_limit() -> Option<u64> {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    files.iter().find_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok())
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}
