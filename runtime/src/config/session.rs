//! Sessions and their cookie: `SESSION_*`.

use std::time::Duration;

use super::RedisConfig;
use crate::secret::Secret;

/// Sessions and their cookie.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// `SESSION_STORE`: where sessions are kept.
    pub store: StoreKind,
    /// `SESSION_REDIS_URL`, else the same as `REDIS_URL`; always there when the store is Redis.
    pub redis: Option<RedisConfig>,
    /// `SESSION_IDLE_S`: how long a session lives without a request.
    pub idle: Duration,
    /// `SESSION_ABSOLUTE_S`: how long a session lives at most.
    pub absolute: Duration,
    /// `SESSION_TOUCH_S`: how often at most a request that changes nothing is written down; may be below a second.
    pub touch: Duration,
    /// `SESSION_COOKIE_NAME` in full, with its `__Host-` prefix if it has one.
    pub cookie_name: String,
    /// `SESSION_COOKIE_SECURE`, with `auto` already decided by the external URL.
    pub cookie_secure: bool,
    /// `SESSION_COOKIE_SAMESITE`.
    pub cookie_samesite: SameSite,
    /// `SESSION_COOKIE_DOMAIN`; none binds the cookie to the very host.
    pub cookie_domain: Option<String>,
    /// `SESSION_COOKIE_PATH`.
    pub cookie_path: String,
    /// `SESSION_SECRET`: the first signs, all verify; empty only in embedded mode.
    pub secret: Vec<Secret<String>>,
    /// `SESSION_MAX_BYTES`: the largest session.
    pub max_bytes: usize,
    /// `SESSION_MAX_ATTRIBUTE_BYTES`: the largest single value.
    pub max_attribute_bytes: usize,
    /// `SESSION_PASSIVATE_AFTER_MS`: when an unused session leaves memory.
    pub passivate_after: Duration,
    /// `SESSION_ACTORS_MAX`: most sessions in memory.
    pub actors_max: usize,
    /// `SESSION_WAIT_MS`: how long a write waits for an owner that is silent.
    pub wait: Duration,
}

/// Where sessions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// Redis; only in a cluster.
    Redis,
    /// The database.
    Database,
    /// This process; gone with it. Only in embedded mode.
    Memory,
}

/// The `SameSite` attribute of a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Sent when the user follows a link to here.
    Lax,
    /// Sent by pages from here only.
    Strict,
    /// Always sent; the cookie is `Secure`.
    None,
}
