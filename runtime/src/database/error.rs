//! What can go wrong with the database, told apart by what helps: waiting, or a person.

use std::path::PathBuf;
use std::time::Duration;

use sea_orm::{DbErr, RuntimeErr, SqlxError};

/// Why the database, or the data directory, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The URL is not one of PostgreSQL; its text is not shown, since it may hold a password.
    #[error("DATABASE_URL is not a valid PostgreSQL URL")]
    Url,
    /// It does not answer, is starting, is full of connections, or the connection broke; a write may be in or not.
    #[error("the database is not available")]
    Away(#[source] DbErr),
    /// It did not answer in time; a write may be in or not.
    #[error("the database did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// It takes no writes, like a standby before it is promoted.
    #[error("the database is read-only, as a standby is")]
    ReadOnly,
    /// It answered with an error: wrong password, no such database, disk full, wrong statement.
    #[error("the database refused")]
    Refused(#[source] DbErr),
    /// Its version is too old.
    #[error("the database is PostgreSQL {found}, but {needed} or newer is needed")]
    TooOld {
        /// Version of the server, such as `11.4`.
        found: String,
        /// The oldest version that will do.
        needed: &'static str,
    },
    /// The file of the embedded database cannot be made.
    #[error("cannot create the database file {}", .path.display())]
    File {
        /// The file, or its folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A newer version of the program has changed the schema.
    #[error(
        "the database is newer than this program: migration {migration} was applied by version {applied_by}, \
         and this is version {program}; start version {applied_by} or newer"
    )]
    Newer {
        /// Migrations that this program does not know.
        migration: String,
        /// The version that applied the latest of them.
        applied_by: String,
        /// The version of this program.
        program: &'static str,
    },
    /// The schema lacks migrations, and `DATABASE_MIGRATE=off` forbids to apply them.
    #[error("the database lacks the migrations {0}; apply them with DATABASE_MIGRATE=auto")]
    Outdated(String),
    /// Another process holds the lock of the migrations for longer than the limit.
    #[error("another process has been migrating the database for more than {} s", .0.as_secs())]
    MigrationBusy(Duration),
    /// A migration failed and was rolled back.
    #[error("the migration {name} failed")]
    Migration {
        /// Its name.
        name: String,
        /// What the database said.
        #[source]
        source: DbErr,
    },
    /// Two migrations have one name: a mistake in the program.
    #[error("two migrations are called {0}")]
    MigrationName(String),
    /// The data directory cannot be used.
    #[error("cannot use the data directory {}", .path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Another process uses the data directory.
    #[error("the data directory {} is in use by {}", .path.display(), holder(.pid))]
    DataDirInUse {
        /// The directory.
        path: PathBuf,
        /// The process, if it has told its id already.
        pid: Option<u32>,
    },
    /// A node without a cluster shares this database with another node.
    #[error(
        "another node uses this database, and at least one of the two runs without a cluster; \
         set CLUSTER_ENABLED=true on both, or give each a database of its own"
    )]
    NotAlone,
}

impl DatabaseError {
    /// Says whether trying again may help without anybody doing anything here.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Away(_) | Self::TimedOut(_) | Self::ReadOnly | Self::MigrationBusy(_) => true,
            Self::Url
            | Self::Refused(_)
            | Self::TooOld { .. }
            | Self::File { .. }
            | Self::Newer { .. }
            | Self::Outdated(_)
            | Self::Migration { .. }
            | Self::MigrationName(_)
            | Self::DataDir { .. }
            | Self::DataDirInUse { .. }
            | Self::NotAlone => false,
        }
    }
}

impl DatabaseError {
    /// Says whether it tells something about the server and not just about one statement.
    pub(super) fn is_lost_connection(&self) -> bool {
        let Self::Away(error) = self else { return matches!(self, Self::TimedOut(_)) };
        // What comes from the server with a code (a lock time-out, a deadlock) came over a connection, unless it says
        // good-bye.
        match sqlx_error(error) {
            Some(SqlxError::Database(cause)) => {
                cause.code().is_some_and(|code| code.starts_with("57P"))
            }
            Some(_) | None => true,
        }
    }
}

impl From<DbErr> for DatabaseError {
    fn from(error: DbErr) -> Self {
        match sqlx_error(&error).map_or(Kind::of_other(&error), Kind::of_sqlx) {
            Kind::Away => Self::Away(error),
            Kind::ReadOnly => Self::ReadOnly,
            Kind::Refused => Self::Refused(error),
        }
    }
}

impl From<SqlxError> for DatabaseError {
    fn from(error: SqlxError) -> Self {
        DbErr::Conn(RuntimeErr::SqlxError(error.into())).into()
    }
}

fn holder(pid: &Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

fn sqlx_error(error: &DbErr) -> Option<&SqlxError> {
    if let DbErr::Conn(cause) | DbErr::Exec(cause) | DbErr::Query(cause) = error
        && let RuntimeErr::SqlxError(cause) = cause
    {
        return Some(cause);
    }
    None
}

/// Says whether a lock was not to be had in time: SQLite's `BUSY`, PostgreSQL's `lock_not_available`.
pub(super) fn is_locked(error: &DbErr) -> bool {
    let Some(SqlxError::Database(cause)) = sqlx_error(error) else { return false };
    let code = cause.code().unwrap_or_default();
    let sqlite = cause.try_downcast_ref::<sea_orm::SqlxSqliteError>().is_some();
    if sqlite { matches!(primary(&code), Some(5 | 6)) } else { code == "55P03" }
}

enum Kind {
    Away,
    ReadOnly,
    Refused,
}

impl Kind {
    fn of_other(error: &DbErr) -> Self {
        // What is no error of sqlx comes from the pool (closed, or no connection in time) or from sea-orm itself
        // (a column of another type), where trying again does not help.
        let pool = matches!(error, DbErr::ConnectionAcquire(_) | DbErr::Conn(_));
        if pool { Self::Away } else { Self::Refused }
    }

    fn of_sqlx(error: &SqlxError) -> Self {
        if let SqlxError::Database(cause) = error {
            let code = cause.code().unwrap_or_default();
            return if cause.try_downcast_ref::<sea_orm::SqlxSqliteError>().is_some() {
                Self::of_sqlite(&code)
            } else {
                Self::of_postgres(&code)
            };
        }
        let away = matches!(
            error,
            SqlxError::Io(_)
                | SqlxError::Protocol(_)
                | SqlxError::PoolTimedOut
                | SqlxError::PoolClosed
                | SqlxError::WorkerCrashed
        );
        if away { Self::Away } else { Self::Refused }
    }

    /// Sorts by SQLSTATE.
    fn of_postgres(code: &str) -> Self {
        match code {
            "25006" => Self::ReadOnly,
            // Too many connections, statement time-out, lock time-out, idle in transaction, deadlock, serialization.
            "53300" | "57014" | "55P03" | "25P03" | "40P01" | "40001" => Self::Away,
            // Connection exceptions; being shut down, crashed, starting.
            _ if code.starts_with("08") || code.starts_with("57P") => Self::Away,
            _ => Self::Refused,
        }
    }

    /// Sorts by the primary result code: BUSY, LOCKED, INTERRUPT, IOERR pass; FULL, CORRUPT, READONLY do not.
    fn of_sqlite(code: &str) -> Self {
        if matches!(primary(code), Some(5 | 6 | 9 | 10)) { Self::Away } else { Self::Refused }
    }
}

fn primary(code: &str) -> Option<u32> {
    code.parse::<u32>().ok().map(|code| code & 0xff)
}
