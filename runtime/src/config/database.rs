//! The database: `DATABASE_*`.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;

/// The database and its pool.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// `DATABASE_URL`; in a cluster always PostgreSQL.
    pub url: DatabaseUrl,
    /// `DATABASE_POOL_MAX`: most connections of this node.
    pub pool_max: u32,
    /// `DATABASE_POOL_MIN`: connections kept open.
    pub pool_min: u32,
    /// `DATABASE_ACQUIRE_TIMEOUT_MS`: how long to wait for a free connection.
    pub acquire_timeout: Duration,
    /// `DATABASE_IDLE_S`: when an unused connection is closed.
    pub idle: Duration,
    /// `DATABASE_MAX_LIFETIME_S`: when a connection is replaced.
    pub max_lifetime: Duration,
    /// `DATABASE_MIGRATE`: who brings the schema up to date.
    pub migrate: MigrateMode,
}

/// Where the database is.
#[derive(Debug, Clone)]
pub enum DatabaseUrl {
    /// A PostgreSQL URL, password included.
    Postgres(Secret<String>),
    /// An SQLite file; it and its folder may not exist yet.
    Sqlite(PathBuf),
}

/// Who brings the schema up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrateMode {
    /// This node does, if no other one is at it.
    Auto,
    /// Someone else does; this node waits until it is done.
    Wait,
    /// Nobody; this node refuses to start on an old schema.
    Off,
}
