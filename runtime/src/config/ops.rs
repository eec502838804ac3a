//! Readiness and drain: `OPS_*`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use super::reader::{Reader, list, word};

/// Readiness and drain.
#[derive(Debug, Clone)]
pub struct OpsConfig {
    /// `OPS_DRAIN_DELAY_MS`: how long a stopping node goes on accepting after it has said it is not ready.
    pub drain_delay: Duration,
    /// `OPS_DRAIN_TIMEOUT_MS`: how long requests may then take to finish.
    pub drain_timeout: Duration,
    /// `OPS_DRAIN_MODE`: how the balancer learns of it.
    pub drain_mode: DrainMode,
    /// `OPS_READY_REQUIRES`: without what the node is not ready.
    pub ready_requires: BTreeSet<Requirement>,
    /// `OPS_RETRY_AFTER_S`: what a client is told when the node cannot serve it now.
    pub retry_after: Duration,
}

/// How the balancer learns that a node drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainMode {
    /// It looks at answers only: a draining node answers 503 to what may be repeated elsewhere.
    PassiveLb,
    /// It asks `/health/ready`: a draining node serves all that still arrives.
    ActiveLb,
}

/// Something without which a node is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requirement {
    /// The database answers.
    Database,
    /// Redis answers; not asked in embedded mode.
    Redis,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    drain_delay_ms: Option<String>,
    drain_timeout_ms: Option<String>,
    drain_mode: Option<String>,
    ready_requires: Option<String>,
    retry_after_s: Option<String>,
}

impl OpsConfig {
    pub(super) fn read(read: &mut Reader) -> Self {
        let raw: Raw = read.section("OPS_");
        let requirements = [("database", Requirement::Database), ("redis", Requirement::Redis)];
        let mut ops = Self {
            drain_delay: read.millis(
                "UNDERSTUDY_OPS_DRAIN_DELAY_MS",
                raw.drain_delay_ms.as_deref(),
                0..=600_000,
            ),
            drain_timeout: read.millis(
                "UNDERSTUDY_OPS_DRAIN_TIMEOUT_MS",
                raw.drain_timeout_ms.as_deref(),
                0..=3_600_000,
            ),
            drain_mode: read.choice(
                "UNDERSTUDY_OPS_DRAIN_MODE",
                raw.drain_mode.as_deref(),
                &[("passive_lb", DrainMode::PassiveLb), ("active_lb", DrainMode::ActiveLb)],
            ),
            ready_requires: read.parsed(
                "UNDERSTUDY_OPS_READY_REQUIRES",
                raw.ready_requires.as_deref(),
                "none, or some of database, redis, separated by commas",
                |text| match text {
                    "none" => Some(BTreeSet::new()),
                    _ => list(text).map(|part| word(part, &requirements)).collect(),
                },
            ),
            retry_after: read.seconds(
                "UNDERSTUDY_OPS_RETRY_AFTER_S",
                raw.retry_after_s.as_deref(),
                0..=86_400,
            ),
        };
        if raw.drain_delay_ms.is_none() && ops.drain_delay > ops.drain_timeout {
            // Who shortens the one has not asked for the default of the other.
            ops.drain_delay = ops.drain_timeout;
            let millis = ops.drain_delay.as_millis().to_string();
            read.show("UNDERSTUDY_OPS_DRAIN_DELAY_MS", &millis);
        }
        ops
    }
}
