//! How to reach Redis: `REDIS_*`.

mod address;
mod options;
mod section;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

pub(super) use self::section::RedisSection;
use crate::secret::Secret;

/// How to reach one Redis, Sentinel or Cluster.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `REDIS_URL`, `REDIS_MODE`, `REDIS_TLS`, `REDIS_USERNAME`, `REDIS_PASSWORD`, `REDIS_DB`, `REDIS_OPTIONS` put together.
    pub targets: RedisTarget,
    /// `REDIS_SENTINEL_PASSWORD`: for the Sentinels themselves.
    pub sentinel_password: Option<Secret<String>>,
    /// User name for the Sentinels themselves, from `sentinelUsername` in the URL.
    pub sentinel_username: Option<String>,
    /// `REDIS_TLS_CA_FILE`: PEM file to trust in place of the system's authorities.
    pub tls_ca_file: Option<PathBuf>,
    /// `REDIS_TLS_CERT_FILE`: PEM file with this node's certificate; comes with a key.
    pub tls_cert_file: Option<PathBuf>,
    /// `REDIS_TLS_KEY_FILE`: PEM file with the key of that certificate.
    pub tls_key_file: Option<PathBuf>,
    /// `REDIS_POOL_SIZE`: connections for data; at least 1.
    pub pool_size: usize,
    /// `REDIS_CONNECT_TIMEOUT_MS`.
    pub connect_timeout: Duration,
    /// `REDIS_COMMAND_TIMEOUT_MS`.
    pub command_timeout: Duration,
    /// `REDIS_RECONNECT_MIN_MS`: the first pause between attempts, which never end.
    pub reconnect_min: Duration,
    /// `REDIS_RECONNECT_MAX_MS`: the longest pause between attempts.
    pub reconnect_max: Duration,
}

/// What to connect to, and as whom.
#[derive(Debug, Clone)]
pub struct RedisTarget {
    /// What the hosts are.
    pub topology: Topology,
    /// Host (name, IPv4, or IPv6 without brackets) and port; at least one. The Sentinels if there are any.
    pub hosts: Vec<(String, u16)>,
    /// Whether to speak TLS, to the Sentinels too.
    pub tls: bool,
    /// The numbered database; always 0 on a Cluster.
    pub db: u8,
    /// ACL user.
    pub username: Option<String>,
    /// Password, of the user if there is one.
    pub password: Option<Secret<String>>,
}

/// What kind of Redis there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Standalone,
    /// Sentinels that know which server is the primary.
    Sentinel {
        /// The name under which they know it.
        service: String,
    },
    /// Redis Cluster.
    Cluster,
    /// To be found out by asking: standalone or Cluster.
    Auto,
}
