//! What the system knows of this process: memory, open files, time on processors.

use rustix::time::{ClockId, clock_gettime};

/// What the system knows; what it does not tell on this platform is none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct ProcessFigures {
    pub(super) rss_bytes: Option<u64>,
    pub(super) open_files: Option<u64>,
    pub(super) cpu_seconds: Option<f64>,
}

impl ProcessFigures {
    /// Asks the system; may take some ms with many open files.
    pub(super) fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").ok();
        Self {
            rss_bytes: status.as_deref().and_then(resident_bytes),
            open_files: open_files(),
            cpu_seconds: cpu_seconds(),
        }
    }
}

/// Finds `VmRSS:  1234 kB`.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

/// Counts them, but for the one with which they are counted.
fn open_files() -> Option<u64> {
    let files = std::fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(files.saturating_sub(1)).ok()
}

/// All threads together, in user mode and in the kernel, to 10 ms.
fn cpu_seconds() -> Option<f64> {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let hundredths = time.tv_sec.checked_mul(100)?.checked_add(time.tv_nsec / 10_000_000)?;
    u32::try_from(hundredths).ok().map(|hundredths| f64::from(hundredths) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_found_among_other_lines() {
        let status = "Name:\tx\nVmPeak:\t  9 kB\nVmRSS:\t    1234 kB\nRssAnon:\t 7 kB\n";
        assert_eq!(resident_bytes(status), Some(1234 * 1024));
        assert_eq!(resident_bytes("VmRSS: many kB\n"), None);
        assert_eq!(resident_bytes(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn h4_linux_tells_all_of_it() {
        let held: Vec<std::fs::File> =
            (0..10).map(|_| std::fs::File::open("/proc/self/status").unwrap()).collect();
        let figures = ProcessFigures::read();
        assert!(figures.rss_bytes.unwrap() > 100_000, "{figures:?}");
        assert!(figures.open_files.unwrap() >= 10, "{figures:?}");
        assert!(figures.cpu_seconds.unwrap() >= 0.0, "{figures:?}");
        drop(held);
    }
}
