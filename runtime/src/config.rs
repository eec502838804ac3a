//! The options of a node: read once at start from environment variables, checked as a whole, passed down by value.
//!
//! One flat struct and one file per section. A field is called like its variable in lower case, without the
//! section and, where its type is [`Duration`](std::time::Duration), without the unit.

mod admin;
mod cluster;
mod database;
mod external_url;
mod http;
mod log;
mod metrics;
mod node;
mod ops;
mod redis;
mod session;

pub use admin::AdminConfig;
pub use cluster::ClusterConfig;
pub use database::{DatabaseConfig, DatabaseUrl, MigrateMode};
pub use external_url::{ExternalUrl, Scheme};
pub use http::HttpConfig;
pub use log::{LogConfig, LogFormat};
pub use metrics::MetricsConfig;
pub use node::NodeConfig;
pub use ops::{DrainMode, OpsConfig, Requirement};
pub use redis::{RedisConfig, RedisTarget, Topology};
pub use session::{SameSite, SessionConfig, StoreKind};

/// The exit status of a process whose configuration is wrong: `EX_CONFIG` of sysexits.h.
pub const EXIT_CONFIG: i32 = 78;

/// All options of a node, checked against each other.
#[derive(Debug, Clone)]
pub struct Config {
    /// `NODE_*`, `DATA_DIR`, `WEB_ROOT`: what this process is.
    pub node: NodeConfig,
    /// `HTTP_*`: the public listener.
    pub http: HttpConfig,
    /// `ADMIN_*`: the administration listener.
    pub admin: AdminConfig,
    /// `CLUSTER_*`: whether and how this node works with others.
    pub cluster: ClusterConfig,
    /// `REDIS_*`; none when `REDIS_URL` is not set, which a cluster does not allow.
    pub redis: Option<RedisConfig>,
    /// `DATABASE_*`.
    pub database: DatabaseConfig,
    /// `SESSION_*`.
    pub session: SessionConfig,
    /// `OPS_*`: readiness and drain.
    pub ops: OpsConfig,
    /// `LOG_*`.
    pub log: LogConfig,
    /// `METRICS_*`.
    pub metrics: MetricsConfig,
    /// What an operator should hear although it does not stop the node; to be logged once telemetry runs.
    pub warnings: Vec<String>,
}
