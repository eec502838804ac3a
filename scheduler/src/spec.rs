//! What a job is: its schedule and its policies, as an application, a file or an operator gives them.
//!
//! A specification is plain data: it is kept in the database as JSON, compared by its hash, and checked as a whole by
//! [`JobSpec::check`]. Nothing here knows a clock, a store or a handler.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

mod check;
mod millis;
mod name;

pub use check::SpecError;
pub use name::{InvalidJobName, JobName};

/// One job: what runs, when, and what happens when something goes wrong. Durations are milliseconds in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// Its name, unique in the cluster.
    pub name: JobName,
    /// The handler that runs it: the name under which nodes have registered a function.
    pub handler: String,
    /// What it is for, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// When it is due.
    pub schedule: Schedule,
    /// What is given to the handler; `null` when it takes nothing.
    #[serde(default)]
    pub params: Value,
    /// JSON schema that `params` and those of single runs must satisfy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params_schema: Option<Value>,
    /// On which node a due run starts.
    #[serde(default)]
    pub placement: Placement,
    /// Labels that a node must have to run it; none asks for nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What happens to due times at which nothing could start.
    #[serde(default)]
    pub misfire: Misfire,
    /// How late a missed due time may still start; the node's `JOBS_MISFIRE_WINDOW_S` when not said.
    #[serde(
        default,
        with = "millis::option",
        rename = "misfire_grace_ms",
        skip_serializing_if = "Option::is_none"
    )]
    pub misfire_grace: Option<Duration>,
    /// What happens when a run is due while an earlier one has not ended.
    #[serde(default)]
    pub overlap: Overlap,
    /// How many runs of this job, or of all jobs with the same `concurrency_key`, may run at once in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// Shares `max_concurrency` with other jobs of the same key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
    /// How long one attempt may take; none is for ever.
    #[serde(
        default,
        with = "millis::option",
        rename = "timeout_ms",
        skip_serializing_if = "Option::is_none"
    )]
    pub timeout: Option<Duration>,
    /// Whether and when a failed attempt is tried again.
    #[serde(default)]
    pub retry: Retry,
    /// What happens to a run whose node died or was cut off.
    #[serde(default)]
    pub on_orphan: OnOrphan,
    /// What happens to a run of this placement when its node stops being the leader.
    #[serde(default)]
    pub on_lease_loss: OnLeaseLoss,
    /// Which of several queued runs starts first: greater is sooner, -100 to 100.
    #[serde(default)]
    pub priority: i32,
    /// Starts are put off by a random time of up to this, so that many jobs of one due time do not start at once.
    #[serde(
        default,
        with = "millis::plain",
        rename = "jitter_ms",
        skip_serializing_if = "Duration::is_zero"
    )]
    pub jitter: Duration,
    /// Jobs that run one after the other when this one has ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<JobName>,
    /// What becomes of `then` when a job of the chain fails.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Whether due times during a pause are caught up afterwards, by the misfire policy.
    #[serde(default)]
    pub catch_up_on_resume: bool,
    /// Whether it belongs to Understudy itself: such jobs are listed apart and bypass the limit of runs per node.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub system: bool,
}

/// When a job is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// At the times of a cron expression in a time zone: 5 or 6 fields, or `@daily` and the like.
    Cron {
        /// The expression.
        expression: String,
        /// IANA name of the zone; the node's `JOBS_TIMEZONE` when not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time_zone: Option<String>,
        /// What happens to times that a change of clocks skips.
        #[serde(default)]
        gap: Gap,
        /// What happens to times that a change of clocks repeats.
        #[serde(default)]
        fold: Fold,
    },
    /// On a fixed grid: every `every`, counted from `anchor_ms`, whatever nodes come and go.
    Every {
        /// The step.
        #[serde(with = "millis::plain", rename = "every_ms")]
        every: Duration,
        /// A point of the grid, ms since 1970; 0, the beginning of 1970, when not said.
        #[serde(default)]
        anchor_ms: i64,
    },
    /// So long after the run before has ended.
    After {
        /// The pause.
        #[serde(with = "millis::plain", rename = "delay_ms")]
        delay: Duration,
    },
    /// Once.
    Once {
        /// When, ms since 1970.
        at_ms: i64,
    },
    /// Never by itself: only when it is started by a person, by the application, or by another job.
    Manual,
}

/// What happens to a due time that a change of clocks skips, such as 02:30 on the night on which summer time begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// [`Gap::FirstValid`] for times of the day, [`Gap::Skip`] for expressions that repeat within the hour or day
    /// (those with `*`, a step or a range in the minutes or hours), as Vixie cron does.
    #[default]
    Auto,
    /// At the first moment after the gap.
    FirstValid,
    /// As much later as the gap is long.
    Shift,
    /// Not on that day.
    Skip,
}

/// What happens to a due time that a change of clocks repeats, such as 02:30 on the night on which summer time ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fold {
    /// [`Fold::First`] for times of the day, [`Fold::Both`] for expressions that repeat within the hour or day.
    #[default]
    Auto,
    /// The first time only.
    First,
    /// The second time only.
    Last,
    /// Both times.
    Both,
}

/// On which node a due run starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// On the leader: one run per due time.
    #[default]
    Leader,
    /// On any node that has the handler and the labels: one run per due time, work is spread.
    Any,
    /// On every node: one run per due time and node.
    Every,
}

/// What happens to due times at which nothing could start, because no node led, or the database was away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "policy", rename_all = "snake_case", deny_unknown_fields)]
pub enum Misfire {
    /// The latest of them starts, the others are noted as coalesced.
    #[default]
    FireOnce,
    /// Each of them starts, oldest first, up to `max`; of more, the oldest are skipped.
    FireAll {
        /// How many at most.
        #[serde(default = "hundred")]
        max: u32,
    },
    /// None of them starts.
    Skip,
}

const fn hundred() -> u32 {
    100
}

/// What happens when a run is due while an earlier one of the same job has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "policy", rename_all = "snake_case", deny_unknown_fields)]
pub enum Overlap {
    /// The new one is skipped.
    #[default]
    Skip,
    /// The new one waits, unless one is waiting already.
    QueueOne,
    /// The new one waits.
    QueueAll,
    /// The earlier one is cancelled.
    CancelPrevious,
    /// Both run, up to `max` at once; more are skipped.
    Allow {
        /// How many at most.
        max: u32,
    },
}

/// Whether and when a failed attempt is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// How often it is tried again; 0 is never.
    #[serde(default)]
    pub retries: u32,
    /// The pause before the first retry.
    #[serde(default = "ten_seconds", with = "millis::plain", rename = "delay_ms")]
    pub delay: Duration,
    /// How the pause grows.
    #[serde(default)]
    pub backoff: Backoff,
    /// The longest pause.
    #[serde(default = "one_day", with = "millis::plain", rename = "max_delay_ms")]
    pub max_delay: Duration,
    /// How much chance there is in the pause, in percent of it: 0 to 100.
    #[serde(default)]
    pub jitter_percent: u8,
}

const fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

const fn one_day() -> Duration {
    Duration::from_secs(86_400)
}

impl Default for Retry {
    fn default() -> Self {
        Self::never()
    }
}

impl Retry {
    /// A failed run is not tried again.
    #[must_use]
    pub const fn never() -> Self {
        Self {
            retries: 0,
            delay: ten_seconds(),
            backoff: Backoff::Fixed,
            max_delay: one_day(),
            jitter_percent: 0,
        }
    }

    /// So many retries, always the same pause apart.
    #[must_use]
    pub const fn fixed(retries: u32, delay: Duration) -> Self {
        Self { retries, delay, ..Self::never() }
    }

    /// So many retries; the pause doubles each time.
    #[must_use]
    pub const fn exponential(retries: u32, delay: Duration) -> Self {
        Self { retries, delay, backoff: Backoff::Exponential, ..Self::never() }
    }

    /// Gives the pause before the attempt after `failed` attempts, without chance; `None` when there is no further one.
    #[must_use]
    pub fn pause_after(&self, failed: u32) -> Option<Duration> {
        if failed > self.retries {
            return None;
        }
        let factor = match self.backoff {
            Backoff::Fixed => 1,
            Backoff::Exponential => 1_u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX),
        };
        Some(self.delay.saturating_mul(factor).min(self.max_delay))
    }
}

/// How the pause between attempts grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// Not at all.
    #[default]
    Fixed,
    /// It doubles.
    Exponential,
}

/// What happens to a run whose node died, stood still or was cut off for longer than `JOBS_STALE_AFTER_MS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "policy", rename_all = "snake_case", deny_unknown_fields)]
pub enum OnOrphan {
    /// It runs again on another node (at least once), up to `max` times; then it is dead, since it may be what kills nodes.
    Retry {
        /// How often.
        #[serde(default = "three")]
        max: u32,
    },
    /// It is lost (at most once).
    Fail,
}

const fn three() -> u32 {
    3
}

impl Default for OnOrphan {
    fn default() -> Self {
        Self::Retry { max: three() }
    }
}

/// What happens to a run with placement `leader` when its node is fenced: when its lease ran out or another leads.
/// A node that hands over in peace finishes its runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLeaseLoss {
    /// It is cancelled, and then treated as an orphan.
    #[default]
    Cancel,
    /// It goes on.
    Continue,
}

/// What becomes of the rest of a chain when one of its jobs fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The rest is noted as skipped.
    #[default]
    Skip,
    /// The rest runs all the same.
    Continue,
}

impl JobSpec {
    /// Makes a job with the default policies, due when `schedule` says, run by the handler of the same name.
    #[must_use]
    pub fn new(name: JobName, schedule: Schedule) -> Self {
        Self {
            handler: name.as_str().to_owned(),
            name,
            description: String::new(),
            schedule,
            params: Value::Null,
            params_schema: None,
            placement: Placement::default(),
            labels: BTreeMap::new(),
            misfire: Misfire::default(),
            misfire_grace: None,
            overlap: Overlap::default(),
            max_concurrency: None,
            concurrency_key: None,
            timeout: None,
            retry: Retry::default(),
            on_orphan: OnOrphan::default(),
            on_lease_loss: OnLeaseLoss::default(),
            priority: 0,
            jitter: Duration::ZERO,
            then: Vec::new(),
            on_failure: OnFailure::default(),
            catch_up_on_resume: false,
            system: false,
        }
    }

    /// Under which key, and up to how many at once, runs of this job are limited in the cluster.
    #[must_use]
    pub fn limit(&self) -> Option<(String, u32)> {
        let max = self.max_concurrency?;
        let key = match &self.concurrency_key {
            Some(key) => format!("key:{key}"),
            None => format!("job:{}", self.name),
        };
        Some((key, max))
    }

    /// Gives the hash by which two definitions are told apart: 32 hexadecimal digits.
    ///
    /// # Panics
    /// Never: a specification can always be written as JSON.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        use sha2::{Digest, Sha256};
        let json = serde_json::to_vec(self).expect("a specification can be written as JSON");
        let hash = Sha256::digest(&json);
        hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests;
