//! Whether and how this node works with others: `CLUSTER_*`.

use std::time::Duration;

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
}
