//! How connections are made: pools, time limits, the version check.

use std::path::Path;
use std::time::Duration;

use sea_orm::{DatabaseConnection, DbErr, SqlxError};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::data_dir::create_private_dir;
use super::error::{DatabaseError, is_locked};
use super::pools::Demand;
use crate::config::DatabaseConfig;

/// The oldest PostgreSQL with generated columns, which the session table uses.
const OLDEST_POSTGRES: u32 = 12_00_00;
/// How long SQLite waits for another process that has the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Most connections to one SQLite file: one writes, the others read.
const SQLITE_CONNECTIONS: u32 = 8;
/// A pooled connection unused for so long is tried before it is used again.
const TRY_AFTER: Duration = Duration::from_secs(1);

/// Limits on the side of the server, so that a node that was stopped in the middle of something holds no row for
/// long, and a node whose machine vanished holds nothing for ever.
const POSTGRES_SESSION: &str = "
    SET statement_timeout = '30s';
    SET lock_timeout = '5s';
    SET idle_in_transaction_session_timeout = '2s';
    SET tcp_keepalives_idle = 10;
    SET tcp_keepalives_interval = 5;
    SET tcp_keepalives_count = 3;
    SET client_min_messages = 'warning'";

/// Opens the file, creating it and its folder.
pub(super) async fn sqlite(
    path: &Path,
    config: &DatabaseConfig,
) -> Result<DatabaseConnection, DatabaseError> {
    create_private_file(path)
        .map_err(|source| DatabaseError::File { path: path.to_owned(), source })?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true);
    let pool = SqlitePoolOptions::new()
        .max_connections(config.pool_max.clamp(2, SQLITE_CONNECTIONS))
        .acquire_timeout(config.acquire_timeout)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None);
    let open = async {
        // The change to the write-ahead log does not respect the busy time-out, so processes that meet on a new file
        // have to be patient here.
        loop {
            match pool.clone().connect_with(options.clone()).await {
                Ok(pool) => return Ok(DatabaseConnection::from(pool)),
                Err(error) => {
                    let error = connection_error(error);
                    if !is_locked(&error) {
                        return Err(DatabaseError::from(error));
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let opened = tokio::time::timeout(config.acquire_timeout, open).await;
    opened.map_err(|_| DatabaseError::TimedOut(config.acquire_timeout))?
}

/// Where a PostgreSQL is and how its pools are made.
#[derive(Clone)]
pub(super) struct PostgresTarget {
    pub(super) options: PgConnectOptions,
    /// Of all pools made from this target and its clones.
    pub(super) demand: Demand,
    config: DatabaseConfig,
}

impl PostgresTarget {
    /// Connects once outside of a pool, to learn what is wrong if anything is: a pool only says "timed out".
    pub(super) async fn check(url: &str, config: &DatabaseConfig) -> Result<Self, DatabaseError> {
        let options: PgConnectOptions = url.parse().map_err(|_: SqlxError| DatabaseError::Url)?;
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("understudy"),
        };
        let limit = config.acquire_timeout;
        let checked = tokio::time::timeout(limit, check_postgres(&options)).await;
        checked.map_err(|_| DatabaseError::TimedOut(limit))??;
        Ok(Self { options, demand: Demand::default(), config: config.clone() })
    }

    /// Returns how many connections the pool for everything may open.
    pub(super) fn pool_max(&self) -> u32 {
        self.config.pool_max
    }

    /// Makes a pool that connects when it is used; on the current runtime.
    pub(super) fn pool(&self, most: u32) -> DatabaseConnection {
        let config = &self.config;
        PgPoolOptions::new()
            .max_connections(most)
            .min_connections(config.pool_min.min(most))
            .acquire_timeout(config.acquire_timeout)
            .idle_timeout(config.idle)
            .max_lifetime(config.max_lifetime)
            // One more round trip for each statement is too dear; a broken connection shows up soon enough.
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(
                    async move { Ok(meta.idle_for < TRY_AFTER || connection.ping().await.is_ok()) },
                )
            })
            .after_connect(|connection, _meta| {
                Box::pin(async move { connection.execute(POSTGRES_SESSION).await.map(|_| ()) })
            })
            .connect_lazy_with(self.options.clone())
            .into()
    }
}

/// Opens a connection outside of the pool, with the limits of the pool's.
pub(super) async fn postgres_connection(
    options: &PgConnectOptions,
) -> Result<PgConnection, DatabaseError> {
    let mut connection = PgConnection::connect_with(options).await?;
    connection.execute(POSTGRES_SESSION).await?;
    Ok(connection)
}

async fn check_postgres(options: &PgConnectOptions) -> Result<(), DatabaseError> {
    let mut connection = postgres_connection(options).await?;
    let version = connection.server_version_num().unwrap_or_default();
    if version < OLDEST_POSTGRES {
        let found = format!("{}.{}", version / 10_000, version % 10_000 / 100);
        return Err(DatabaseError::TooOld { found, needed: "12" });
    }
    let (standby,): (bool,) =
        sqlx::query_as("SELECT pg_is_in_recovery()").fetch_one(&mut connection).await?;
    // Closing is a courtesy to the server's log.
    connection.close().await.ok();
    if standby { Err(DatabaseError::ReadOnly) } else { Ok(()) }
}

fn connection_error(error: SqlxError) -> DbErr {
    DbErr::Conn(sea_orm::RuntimeErr::SqlxError(error.into()))
}

fn create_private_file(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        create_private_dir(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    // SQLite gives the files beside it (-wal, -shm) the same rights.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(|_| ())
}
