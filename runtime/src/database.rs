//! The database: an SQLite file in embedded mode, PostgreSQL in a cluster, behind one handle.
//!
//! It connects, checks the version of the server, brings the schema up to date ([`Database::migrate`]), and carries
//! out steps: single statements ([`Database::step`]) and short transactions ([`Database::transaction`]). Statements
//! are written so that they mean the same on both; nothing else in the product knows which one it talks to. What
//! tables there are is the business of whoever brings the migrations.
//!
//! PostgreSQL 12 or newer is needed. TLS is chosen in the URL (`sslmode=verify-full`, `sslrootcert`; the system's roots
//! otherwise). A pooler between node and server must give each connection a session of its own (PgBouncer:
//! `pool_mode=session`), since prepared statements, settings and the lock of a node's place belong to the session.
//!
//! # What an answered write is worth
//! - PostgreSQL: what the server promises; with its defaults the write is on disk. A standby that is promoted
//!   without synchronous replication may lack the latest writes, and nothing here can tell: use
//!   `synchronous_standby_names` when a promotion must lose nothing.
//! - SQLite: it is on disk (write-ahead log with `synchronous = FULL`), so it survives `kill -9`, and a loss of power
//!   as far as the disk keeps what it said it has. One sync serves all writes that wait for it, which makes that
//!   affordable: with many sessions at work it costs nothing measurable, with one session a sync per write.

mod breaker;
mod connect;
mod data_dir;
mod error;
mod listen;
mod migrate;
mod migrations;
mod pools;
mod presence;
pub(crate) mod schema;
#[cfg(any(test, feature = "test-support"))]
pub mod test_postgres;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DatabaseExecutor, DbErr, Statement,
    TransactionTrait as _, Value,
};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::config::{DatabaseConfig, DatabaseUrl};

/// The library in which statements and entities are written; applications use the same version through this.
pub use sea_orm;

pub use data_dir::DataDirLock;
pub use error::DatabaseError;
pub(crate) use listen::Listener;
pub use migrate::{MigrateProgress, Migrated};
pub(crate) use migrations::{MigrationRow, MigrationState, Migrations};
pub use presence::{Presence, PresenceLock};

use breaker::Breaker;
use connect::PostgresTarget;
use pools::Share;
use writer::Writer;

/// How long a step or a transaction may take, the wait for a connection included.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// What one step does, given the connection or transaction to do it on. It may be run again after a rollback.
pub trait Work<T>:
    for<'c> Fn(&'c DatabaseExecutor<'c>) -> BoxFuture<'c, Result<T, DbErr>> + Send + Sync + 'static
{
}

impl<T, W> Work<T> for W where
    W: for<'c> Fn(&'c DatabaseExecutor<'c>) -> BoxFuture<'c, Result<T, DbErr>>
        + Send
        + Sync
        + 'static
{
}

/// Which kind of database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A file of this process.
    Sqlite,
    /// A server for all nodes.
    Postgres,
}

impl Backend {
    /// Gives the SQL of the database's clock: ms since 1970 as a bigint, read when the expression is evaluated and
    /// not when the transaction began.
    #[must_use]
    pub const fn now_ms(self) -> &'static str {
        match self {
            Self::Sqlite => "CAST(round(unixepoch('subsec') * 1000) AS bigint)",
            Self::Postgres => "CAST(extract(epoch from clock_timestamp()) * 1000 AS bigint)",
        }
    }

    /// Gives the SQL that locks the rows of a SELECT until the end of the transaction. On SQLite that is nothing: a
    /// writing transaction has the whole file.
    #[must_use]
    pub const fn for_update(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE",
        }
    }

    /// Gives the SQL that waits until no transaction is changing the rows of a SELECT, and then reads them.
    #[must_use]
    pub const fn for_share(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR SHARE",
        }
    }

    /// Gives the SQL that locks the rows of a SELECT and leaves out those that are locked already.
    #[must_use]
    pub const fn skip_locked(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }

    /// Makes a statement; parameters are `$1`, `$2`, ... on both.
    pub fn statement(self, sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
        let backend = match self {
            Self::Sqlite => sea_orm::DbBackend::Sqlite,
            Self::Postgres => sea_orm::DbBackend::Postgres,
        };
        Statement::from_sql_and_values(backend, sql, values)
    }
}

/// The database; a cheap clone.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    connection: DatabaseConnection,
    kind: BackendKind,
    breaker: Breaker,
    home: Handle,
}

impl Inner {
    fn new(connection: DatabaseConnection, kind: BackendKind, home: Handle) -> Self {
        Self { connection, kind, breaker: Breaker::new(), home }
    }
}

enum BackendKind {
    /// With the task that does all writes.
    Sqlite(Writer),
    /// With what is needed for a connection outside of the pool, or for another pool.
    Postgres { target: Box<PostgresTarget>, _share: Share },
}

impl Database {
    /// Connects, creating the file of an embedded database, and checks that the server will do. One attempt, bounded
    /// by the acquire time-out: call it again while the error says so.
    ///
    /// Must be called on a tokio runtime that lives as long as the database is used, best one with several threads:
    /// all work is done there, whoever asks for it. (A connection belongs to the runtime that opened it. Opened on
    /// the thread of an actor, it would answer others only when that actor is idle, and no longer after its end.)
    ///
    /// # Errors
    /// [`DatabaseError`]; [`is_retryable`](DatabaseError::is_retryable) tells whether waiting helps.
    pub async fn connect(config: &DatabaseConfig) -> Result<Self, DatabaseError> {
        let (connection, kind) = match &config.url {
            DatabaseUrl::Sqlite(path) => {
                let connection = connect::sqlite(path, config).await?;
                (connection.clone(), BackendKind::Sqlite(Writer::start(connection)))
            }
            DatabaseUrl::Postgres(url) => {
                let target = PostgresTarget::check(url.expose(), config).await?;
                let share = target.demand.share(config.pool_max);
                let pool = target.pool(config.pool_max);
                (pool, BackendKind::Postgres { target: Box::new(target), _share: share })
            }
        };
        Ok(Self { inner: Arc::new(Inner::new(connection, kind, Handle::current())) })
    }

    /// Gives the same database with connections of its own, so that others cannot keep its user waiting for one. On
    /// SQLite that is this database, whose writer is one for all.
    #[must_use]
    pub fn with_own_connections(self, most: u32) -> Self {
        let Some(target) = self.postgres() else { return self };
        let home = self.inner.home.clone();
        // A pool has a task that looks after it.
        let entered = home.enter();
        let connection = target.pool(most);
        drop(entered);
        let share = target.demand.share(most);
        let kind = BackendKind::Postgres { target: Box::new(target.clone()), _share: share };
        Self { inner: Arc::new(Inner::new(connection, kind, home)) }
    }

    /// Gives the pool, for reads and for entities. On SQLite use [`step`](Self::step) or
    /// [`transaction`](Self::transaction) to write: a writer beside their queue makes all of them wait.
    #[must_use]
    pub fn connection(&self) -> &DatabaseConnection {
        &self.inner.connection
    }

    /// Says which kind of database it is.
    #[must_use]
    pub fn backend(&self) -> Backend {
        match self.inner.kind {
            BackendKind::Sqlite(_) => Backend::Sqlite,
            BackendKind::Postgres { .. } => Backend::Postgres,
        }
    }

    fn postgres(&self) -> Option<&PostgresTarget> {
        match &self.inner.kind {
            BackendKind::Sqlite(_) => None,
            BackendKind::Postgres { target, .. } => Some(target),
        }
    }

    /// Returns the host of the server and whether its certificate is verified; nothing for a file.
    pub(crate) fn server(&self) -> Option<(String, bool)> {
        let options = &self.postgres()?.options;
        let host = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => options.get_host().to_owned(),
        };
        let verified = matches!(
            options.get_ssl_mode(),
            sqlx::postgres::PgSslMode::VerifyCa | sqlx::postgres::PgSslMode::VerifyFull
        );
        Some((host, verified))
    }

    /// Asks the database for a sign of life.
    ///
    /// # Errors
    /// [`DatabaseError`] when none comes within `limit`.
    pub async fn ping(&self, limit: Duration) -> Result<(), DatabaseError> {
        let query = self.backend().statement("SELECT 1", []);
        let answer = tokio::time::timeout(limit, self.connection().query_one_raw(query)).await;
        answer.map_err(|_| DatabaseError::TimedOut(limit))??;
        Ok(())
    }

    /// Does a read, within a limit of time.
    ///
    /// # Errors
    /// [`DatabaseError`] when the database is away or refuses.
    pub async fn read<T, W>(&self, work: W) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: for<'c> Fn(&'c DatabaseExecutor<'c>) -> BoxFuture<'c, Result<T, DbErr>>
            + Send
            + Sync
            + 'static,
    {
        let connection = self.connection().clone();
        let work = async move { Ok(work(&DatabaseExecutor::Connection(&connection)).await?) };
        self.at_home(work).await
    }

    /// Does work that writes with at most one statement: that statement is the transaction. On SQLite it shares its
    /// commit with other writes.
    ///
    /// # Errors
    /// [`DatabaseError`] when the database is away or refuses. After a retryable one the write may be in or not.
    pub async fn step<T, W>(&self, work: W) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: for<'c> Fn(&'c DatabaseExecutor<'c>) -> BoxFuture<'c, Result<T, DbErr>>
            + Send
            + Sync
            + 'static,
    {
        match &self.inner.kind {
            BackendKind::Sqlite(writer) => limited(writer.write(work)).await,
            BackendKind::Postgres { .. } => self.read(work).await,
        }
    }

    /// Does work in one short transaction: all of it or nothing. An error of the work rolls back.
    ///
    /// On PostgreSQL the isolation is READ COMMITTED: lock the rows you decide upon ([`Backend::for_update`]), and ask
    /// for the time in a later statement than the one that locks, since a lock may have to be waited for. The server
    /// ends a transaction that pauses for 2 s, so that a node that was stopped half-way holds nobody up.
    ///
    /// # Errors
    /// [`DatabaseError`] when the database is away or refuses. After a retryable one the writes may be in or not.
    pub async fn transaction<T, W>(&self, work: W) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: for<'c> Fn(&'c DatabaseExecutor<'c>) -> BoxFuture<'c, Result<T, DbErr>>
            + Send
            + Sync
            + 'static,
    {
        match &self.inner.kind {
            BackendKind::Sqlite(writer) => limited(writer.write(work)).await,
            BackendKind::Postgres { .. } => {
                let connection = self.connection().clone();
                let work = async move {
                    let transaction = connection.begin().await?;
                    let result = work(&DatabaseExecutor::Transaction(&transaction)).await?;
                    transaction.commit().await?;
                    Ok(result)
                };
                self.at_home(work).await
            }
        }
    }

    /// Does work on the runtime of the database, within the limit of a step. It goes on when the caller goes away.
    async fn at_home<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, DatabaseError>> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        if !self.inner.breaker.lets_through(Instant::now()) {
            return Err(DatabaseError::Away(DbErr::Custom(
                "its connections broke just now".into(),
            )));
        }
        match self.inner.home.spawn(limited(work).in_current_span()).await {
            Ok(result) => {
                self.inner.breaker.note(Instant::now(), &result);
                result
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(DatabaseError::Away(DbErr::Custom("its runtime has ended".into()))),
        }
    }
}

impl fmt::Debug for Database {
    /// Shows no URL, since it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("backend", &self.backend()).finish_non_exhaustive()
    }
}

async fn limited<T>(
    work: impl Future<Output = Result<T, DatabaseError>>,
) -> Result<T, DatabaseError> {
    let answer = tokio::time::timeout(STEP_LIMIT, work).await;
    answer.map_err(|_| DatabaseError::TimedOut(STEP_LIMIT))?
}

#[cfg(test)]
mod tests;
