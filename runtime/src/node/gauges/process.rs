//! What the system knows of this process, under the names that Prometheus gives such things.

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Tells what does not change.
pub(super) fn begin(started_ms: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is no bookkeeping")]
    metrics::gauge!("process_start_time_seconds").set(started_ms as f64 / 1_000.0);
    if let Some(most) = getrlimit(Resource::Nofile).current {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is no bookkeeping")]
        metrics::gauge!("process_max_fds").set(most as f64);
    }
}

/// Tells what does.
pub(super) fn look() {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    metrics::counter!("process_cpu_seconds_total")
        .absolute(u64::try_from(spent.tv_sec).unwrap_or(0));
    if let Some(bytes) = resident_bytes() {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is no bookkeeping")]
        metrics::gauge!("process_resident_memory_bytes").set(bytes as f64);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        let files = u32::try_from(files.count()).unwrap_or(u32::MAX);
        metrics::gauge!("process_open_fds").set(f64::from(files));
    }
}

/// Memory in use; none where the system does not tell it in this way.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn h5_the_memory_of_the_process_is_found() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1_000_000));
    }
}
