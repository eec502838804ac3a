//! The database: `DATABASE_*`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sqlx::postgres::PgConnectOptions;

use super::effective::masked_url;
use super::reader::Reader;
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    url: Option<String>,
    pool_max: Option<String>,
    pool_min: Option<String>,
    acquire_timeout_ms: Option<String>,
    idle_s: Option<String>,
    max_lifetime_s: Option<String>,
    migrate: Option<String>,
}

impl DatabaseConfig {
    /// Reads the section; embedded mode keeps its file in the data folder.
    pub(super) fn read(read: &mut Reader, data_dir: &Path) -> Self {
        let raw: Raw = read.section("DATABASE_");
        Self {
            url: url(read, raw.url.as_deref(), data_dir),
            pool_max: read.number(
                "UNDERSTUDY_DATABASE_POOL_MAX",
                raw.pool_max.as_deref(),
                1..=10_000,
            ),
            pool_min: read.number(
                "UNDERSTUDY_DATABASE_POOL_MIN",
                raw.pool_min.as_deref(),
                0..=10_000,
            ),
            acquire_timeout: read.millis(
                "UNDERSTUDY_DATABASE_ACQUIRE_TIMEOUT_MS",
                raw.acquire_timeout_ms.as_deref(),
                100..=600_000,
            ),
            idle: read.seconds("UNDERSTUDY_DATABASE_IDLE_S", raw.idle_s.as_deref(), 1..=86_400),
            max_lifetime: read.seconds(
                "UNDERSTUDY_DATABASE_MAX_LIFETIME_S",
                raw.max_lifetime_s.as_deref(),
                1..=604_800,
            ),
            migrate: read.choice(
                "UNDERSTUDY_DATABASE_MIGRATE",
                raw.migrate.as_deref(),
                &[
                    ("auto", MigrateMode::Auto),
                    ("wait", MigrateMode::Wait),
                    ("off", MigrateMode::Off),
                ],
            ),
        }
    }
}

fn url(read: &mut Reader, given: Option<&str>, data_dir: &Path) -> DatabaseUrl {
    const NAME: &str = "UNDERSTUDY_DATABASE_URL";
    let embedded = DatabaseUrl::Sqlite(data_dir.join("understudy.db"));
    let Some(text) = given.map(str::trim) else {
        // Where the file is differs with the data folder, which is node-local: it must not look like drift.
        read.show(NAME, "");
        return embedded;
    };
    read.show_masked(NAME, &masked_url(text), Some(text));
    parse(text).unwrap_or_else(|| {
        read.problem(NAME, "must be postgres://user:password@host/name or sqlite://path, special characters percent-escaped");
        embedded
    })
}

fn parse(text: &str) -> Option<DatabaseUrl> {
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        text.parse::<PgConnectOptions>().ok()?;
        return Some(DatabaseUrl::Postgres(Secret::new(text.to_owned())));
    }
    let path = text.strip_prefix("sqlite://")?;
    // `mode=rwc` is what this node does anyway; other options of the driver would be lost without a word.
    let path = path.strip_suffix("?mode=rwc").unwrap_or(path);
    (!path.is_empty() && !path.contains('?')).then(|| DatabaseUrl::Sqlite(PathBuf::from(path)))
}
