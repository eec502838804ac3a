//! Whether and how this node works with others: `CLUSTER_*`.

use std::time::Duration;

use serde::Deserialize;

use super::reader::Reader;
use crate::ids::ClusterName;

/// Whether and how this node works with others.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// `CLUSTER_ENABLED`: false is embedded mode, one process on its own.
    pub enabled: bool,
    /// `CLUSTER_NAME`: part of every Redis key.
    pub name: ClusterName,
    /// `CLUSTER_HEARTBEAT_MS`: how often a node reports that it lives.
    pub heartbeat: Duration,
    /// `CLUSTER_NODE_TTL_MS`: how long a silent node still counts as alive, and keeps what it owns.
    pub node_ttl: Duration,
    /// `CLUSTER_BROADCAST_TIMEOUT_MS`: how long a message to all waits for the answers.
    pub broadcast_timeout: Duration,
    /// `CLUSTER_CONFIG_DRIFT`: what a node does at its start whose options are not those of the others.
    pub config_drift: DriftPolicy,
}

/// What a node does at its start whose options are not those of the living majority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriftPolicy {
    /// It starts, and all nodes name what differs.
    Warn,
    /// It does not start.
    Refuse,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    enabled: Option<String>,
    name: Option<String>,
    heartbeat_ms: Option<String>,
    node_ttl_ms: Option<String>,
    broadcast_timeout_ms: Option<String>,
    config_drift: Option<String>,
}

impl ClusterConfig {
    pub(super) fn read(read: &mut Reader) -> Self {
        let raw: Raw = read.section("CLUSTER_");
        Self {
            enabled: read.flag("UNDERSTUDY_CLUSTER_ENABLED", raw.enabled.as_deref()),
            name: read.parsed(
                "UNDERSTUDY_CLUSTER_NAME",
                raw.name.as_deref(),
                "1 to 32 of a-z 0-9 _ -",
                |text| text.parse().ok(),
            ),
            heartbeat: read.millis(
                "UNDERSTUDY_CLUSTER_HEARTBEAT_MS",
                raw.heartbeat_ms.as_deref(),
                50..=60_000,
            ),
            // Below a second the pauses of an ordinary machine cost leases all the time.
            node_ttl: read.millis(
                "UNDERSTUDY_CLUSTER_NODE_TTL_MS",
                raw.node_ttl_ms.as_deref(),
                1_000..=300_000,
            ),
            broadcast_timeout: read.millis(
                "UNDERSTUDY_CLUSTER_BROADCAST_TIMEOUT_MS",
                raw.broadcast_timeout_ms.as_deref(),
                100..=60_000,
            ),
            config_drift: read.choice(
                "UNDERSTUDY_CLUSTER_CONFIG_DRIFT",
                raw.config_drift.as_deref(),
                &[("warn", DriftPolicy::Warn), ("refuse", DriftPolicy::Refuse)],
            ),
        }
    }
}
