//! Scheduled jobs: `JOBS_*`. What belongs to a single job (retries, overlap, its own time limits) is said where the
//! job is defined, not here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::reader::{Reader, list, whole};

/// The longest name of a job.
const LONGEST_NAME: usize = 128;
/// The longest name of a time zone.
const LONGEST_ZONE: usize = 64;

/// Scheduled jobs.
#[derive(Debug, Clone)]
pub struct JobsConfig {
    /// `JOBS_ENABLED`: which jobs start.
    pub enabled: JobsEnabled,
    /// `JOBS_FILE`: jobs that need no program of their own; could be opened when the options were read.
    pub file: Option<PathBuf>,
    /// `JOBS_CONCURRENCY`: most jobs at once on this node.
    pub concurrency: usize,
    /// `JOBS_THREADS`: threads that run jobs.
    pub threads: usize,
    /// `JOBS_TICK_MS`: how often at least the leader looks for jobs that are due.
    pub tick: Duration,
    /// `JOBS_ALIVE_MS`: how often a node reports that its runs go on.
    pub alive: Duration,
    /// `JOBS_STALE_AFTER_MS`: when a silent run counts as lost; at least three times `alive`.
    pub stale_after: Duration,
    /// `JOBS_MISFIRE_AFTER_MS`: how late a start may be before it counts as missed.
    pub misfire_after: Duration,
    /// `JOBS_MISFIRE_WINDOW_S`: how long a missed start can be made up for.
    pub misfire_grace: Duration,
    /// `JOBS_TIMEZONE`: the zone of schedules that name none. Only its letters were checked: whether there is such a
    /// zone is known to whoever has a database of them.
    pub time_zone: String,
    /// `JOBS_HISTORY_S`: how long runs that have ended are kept.
    pub history: Duration,
    /// `JOBS_HISTORY_MAX_PER_JOB`: most runs kept of one job.
    pub history_max_per_job: u32,
    /// `JOBS_CLEANUP_BATCH`: most rows that one step of cleaning up deletes.
    pub cleanup_batch: u32,
    /// `JOBS_SHUTDOWN_GRACE_MS`: how long runs may take to finish when the node stops.
    pub shutdown_grace: Duration,
}

/// Which jobs start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobsEnabled {
    /// Every one.
    All,
    /// None.
    None,
    /// Those of these names.
    List(BTreeSet<String>),
}

impl JobsEnabled {
    /// Returns whether a job of this name starts.
    #[must_use]
    pub fn includes(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::List(names) => names.contains(name),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    enabled: Option<String>,
    file: Option<String>,
    concurrency: Option<String>,
    threads: Option<String>,
    tick_ms: Option<String>,
    alive_ms: Option<String>,
    stale_after_ms: Option<String>,
    misfire_after_ms: Option<String>,
    misfire_window_s: Option<String>,
    timezone: Option<String>,
    history_s: Option<String>,
    history_max_per_job: Option<String>,
    cleanup_batch: Option<String>,
    shutdown_grace_ms: Option<String>,
}

impl JobsConfig {
    pub(super) fn read(read: &mut Reader) -> Self {
        let raw: Raw = read.section("JOBS_");
        let [tick, alive, stale_after, misfire_after, shutdown_grace] = times(read, &raw);
        let [history_max_per_job, cleanup_batch] = sizes(read, &raw);
        Self {
            enabled: read.parsed(
                "UNDERSTUDY_JOBS_ENABLED",
                raw.enabled.as_deref(),
                "all, none, or names of jobs separated by commas",
                enabled,
            ),
            file: read.optional(
                "UNDERSTUDY_JOBS_FILE",
                raw.file.as_deref(),
                "a file that can be read",
                |text| is_readable(Path::new(text)).then(|| PathBuf::from(text)),
            ),
            concurrency: read.number(
                "UNDERSTUDY_JOBS_CONCURRENCY",
                raw.concurrency.as_deref(),
                1..=10_000,
            ),
            threads: threads(read, raw.threads.as_deref()),
            tick,
            alive,
            stale_after,
            misfire_after,
            misfire_grace: read.seconds(
                "UNDERSTUDY_JOBS_MISFIRE_WINDOW_S",
                raw.misfire_window_s.as_deref(),
                1..=315_360_000,
            ),
            time_zone: read.parsed(
                "UNDERSTUDY_JOBS_TIMEZONE",
                raw.timezone.as_deref(),
                "the name of a time zone, such as UTC or Europe/Oslo",
                |text| is_zone(text).then(|| text.to_owned()),
            ),
            history: read.seconds(
                "UNDERSTUDY_JOBS_HISTORY_S",
                raw.history_s.as_deref(),
                60..=315_360_000,
            ),
            history_max_per_job,
            cleanup_batch,
            shutdown_grace,
        }
    }
}

fn times(read: &mut Reader, raw: &Raw) -> [Duration; 5] {
    [
        ("UNDERSTUDY_JOBS_TICK_MS", &raw.tick_ms, 50..=60_000),
        ("UNDERSTUDY_JOBS_ALIVE_MS", &raw.alive_ms, 100..=600_000),
        ("UNDERSTUDY_JOBS_STALE_AFTER_MS", &raw.stale_after_ms, 300..=3_600_000),
        ("UNDERSTUDY_JOBS_MISFIRE_AFTER_MS", &raw.misfire_after_ms, 100..=600_000),
        ("UNDERSTUDY_JOBS_SHUTDOWN_GRACE_MS", &raw.shutdown_grace_ms, 0..=3_600_000),
    ]
    .map(|(name, given, range)| read.millis(name, given.as_deref(), range))
}

fn sizes(read: &mut Reader, raw: &Raw) -> [u32; 2] {
    [
        ("UNDERSTUDY_JOBS_HISTORY_MAX_PER_JOB", &raw.history_max_per_job, 1..=1_000_000),
        ("UNDERSTUDY_JOBS_CLEANUP_BATCH", &raw.cleanup_batch, 1..=1_000_000),
    ]
    .map(|(name, given, range)| read.number(name, given.as_deref(), range))
}

fn threads(read: &mut Reader, given: Option<&str>) -> usize {
    const NAME: &str = "UNDERSTUDY_JOBS_THREADS";
    let expected = "a whole number from 1 to 1024";
    let threads = read
        .optional(NAME, given, expected, |text| usize::try_from(whole(text, &(1..=1_024))?).ok())
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    read.show(NAME, &threads.to_string());
    threads
}

fn enabled(text: &str) -> Option<JobsEnabled> {
    match text {
        "all" => Some(JobsEnabled::All),
        "none" => Some(JobsEnabled::None),
        _ => {
            let names: Option<BTreeSet<String>> = list(text).map(job_name).collect();
            names.filter(|names| !names.is_empty()).map(JobsEnabled::List)
        }
    }
}

/// One name of a list, in which `all` and `none` can only be a mistake.
fn job_name(text: &str) -> Option<String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let is_name = text.len() <= LONGEST_NAME && text.bytes().all(allowed);
    (is_name && !matches!(text, "all" | "none")).then(|| text.to_owned())
}

fn is_zone(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+');
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(allowed);
    text.len() <= LONGEST_ZONE
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.split('/').all(is_part)
}

/// Asked before it is opened: opening a pipe would wait for somebody who writes.
fn is_readable(path: &Path) -> bool {
    path.is_file() && std::fs::File::open(path).is_ok()
}
