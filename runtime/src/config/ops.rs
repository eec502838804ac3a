//! Readiness and drain: `OPS_*`.

use std::collections::BTreeSet;
use std::time::Duration;

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
