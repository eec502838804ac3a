//! Bringing the schema up to date, with any number of processes at it at once.
//!
//! Each migration is one transaction that first takes a lock of that transaction: an advisory lock on PostgreSQL,
//! the one writer's place on SQLite. Under the lock it looks again whether the migration is still missing, notes its
//! name, and applies it. So the lock cannot outlive or be lost before what it protects, whatever happens to the
//! connection, and a process that dies half-way leaves nothing behind.
//!
//! It deliberately does not go back: an older program refuses a newer schema and says which version it needs.

use std::collections::HashSet;
use std::time::Duration;

use sea_orm::{
    ConnectionTrait as _, DatabaseTransaction, DbErr, SqliteTransactionMode, TransactionOptions,
    TransactionTrait as _,
};
use sea_orm_migration::{MigrationTrait, SchemaManager};

use super::error::{DatabaseError, is_locked};
use super::{Backend, Database, schema};
use crate::config::MigrateMode;

/// What the lock is called: `usmigrat` as a number.
const ADVISORY_LOCK: i64 = 0x7573_6d69_6772_6174;
/// How long to wait for another process before the caller is told; it will call again.
const LOCK_LIMIT: Duration = Duration::from_secs(600);
/// How often to look whether the lock is free.
const LOCK_POLL: Duration = Duration::from_millis(100);
/// How often to look whether somebody else has migrated.
const WAIT_POLL: Duration = Duration::from_secs(1);

/// The version that this program notes with each migration it applies.
pub(super) const PROGRAM: &str = env!("CARGO_PKG_VERSION");

const TABLE: &str = "CREATE TABLE IF NOT EXISTS us_migration (
    version text NOT NULL PRIMARY KEY,
    applied_at bigint NOT NULL,
    program text NOT NULL
)";

/// What [`Database::migrate`] is doing, for readiness and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrateProgress<'a> {
    /// Applying this migration.
    Applying(&'a str),
    /// Waiting for another process to apply this one.
    Waiting(&'a str),
}

/// What [`Database::migrate`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Migrated {
    /// The migrations that this process applied, in their order; empty when nothing was missing.
    pub applied: Vec<String>,
}

impl Database {
    /// Brings the schema up to date: the runtime's own migrations first, then `migrations` in their order. Returns
    /// when nothing is missing, whoever applied it. A crash at any point leaves whole migrations only.
    ///
    /// `progress` is called with everything that is begun or waited for, again and again while it waits.
    ///
    /// # Errors
    /// [`DatabaseError::Newer`], [`DatabaseError::Outdated`] and [`DatabaseError::Migration`] are final. When the
    /// database is away, or another process is at it for ten minutes, the error is retryable: call it again.
    pub async fn migrate(
        &self,
        mode: MigrateMode,
        migrations: &[Box<dyn MigrationTrait>],
        progress: &(dyn for<'a> Fn(MigrateProgress<'a>) + Send + Sync),
    ) -> Result<Migrated, DatabaseError> {
        self.migrate_as(&|| mode, migrations, progress).await
    }

    /// The same with a mode that may change while it waits.
    ///
    /// # Errors
    /// As above.
    pub(crate) async fn migrate_as(
        &self,
        mode: &(dyn Fn() -> MigrateMode + Send + Sync),
        migrations: &[Box<dyn MigrationTrait>],
        progress: &(dyn for<'a> Fn(MigrateProgress<'a>) + Send + Sync),
    ) -> Result<Migrated, DatabaseError> {
        let own = schema::migrations();
        let all: Vec<&dyn MigrationTrait> =
            own.iter().chain(migrations).map(AsRef::as_ref).collect();
        let known = unique_names(&all)?;
        let mut done = Migrated::default();
        let mut waited = Duration::ZERO;
        loop {
            let applied = self.applied().await?;
            refuse_newer(&applied, &known)?;
            let applied: HashSet<&str> = applied.iter().map(|one| &*one.name).collect();
            let mut missing = all.iter().filter(|one| !applied.contains(one.name()));
            let Some(next) = missing.next() else { return Ok(done) };
            let poll = match mode() {
                MigrateMode::Off => {
                    let names: Vec<&str> =
                        std::iter::once(next).chain(missing).map(|one| one.name()).collect();
                    return Err(DatabaseError::Outdated(names.join(", ")));
                }
                MigrateMode::Wait => WAIT_POLL,
                MigrateMode::Auto => {
                    progress(MigrateProgress::Applying(next.name()));
                    match self.apply(*next).await? {
                        Attempt::Applied => {
                            tracing::info!(migration = next.name(), "migration applied");
                            done.applied.push(next.name().to_owned());
                            waited = Duration::ZERO;
                            continue;
                        }
                        Attempt::AlreadyThere => continue,
                        Attempt::Locked if waited >= LOCK_LIMIT => {
                            return Err(DatabaseError::MigrationBusy(waited));
                        }
                        Attempt::Locked => LOCK_POLL,
                    }
                }
            };
            progress(MigrateProgress::Waiting(next.name()));
            tokio::time::sleep(poll).await;
            waited += poll;
        }
    }

    /// Compares the migrations that are in with those that the program knows, given the names of those of its services:
    /// those that are missing, and those that it does not know.
    pub(crate) async fn compare_migrations(
        &self,
        services: &[String],
    ) -> Result<(Vec<String>, Vec<String>), DatabaseError> {
        let own = schema::migrations();
        let known: Vec<&str> =
            own.iter().map(|one| one.name()).chain(services.iter().map(String::as_str)).collect();
        let applied: Vec<String> = self.applied().await?.into_iter().map(|one| one.name).collect();
        let missing = known.iter().filter(|name| !applied.iter().any(|one| one == *name));
        let missing = missing.map(|name| (*name).to_owned()).collect();
        let unknown = applied.iter().filter(|one| !known.contains(&one.as_str())).cloned();
        Ok((missing, unknown.collect()))
    }

    /// Reads which migrations are in; none when even their table is missing.
    pub(super) async fn applied(&self) -> Result<Vec<Applied>, DatabaseError> {
        self.read(|executor| {
            Box::pin(async move {
                if !SchemaManager::new(executor_of(executor)).has_table("us_migration").await? {
                    return Ok(Vec::new());
                }
                let query = sea_orm::Statement::from_string(
                    executor.get_database_backend(),
                    "SELECT version, program, applied_at FROM us_migration ORDER BY applied_at, version",
                );
                let rows = executor.query_all_raw(query).await?;
                rows.iter()
                    .map(|row| {
                        let (name, program) = (row.try_get_by(0)?, row.try_get_by(1)?);
                        Ok(Applied { name, program, applied_s: row.try_get_by(2)? })
                    })
                    .collect()
            })
        })
        .await
    }

    /// Applies one migration, unless another process has or is just doing it.
    async fn apply(&self, migration: &dyn MigrationTrait) -> Result<Attempt, DatabaseError> {
        let failed = |source: DbErr| {
            let error = DatabaseError::from(source);
            if let DatabaseError::Refused(source) = error {
                return DatabaseError::Migration { name: migration.name().to_owned(), source };
            }
            error
        };
        if migration.use_transaction() == Some(false) {
            return Err(failed(DbErr::Custom(
                "migrations without transaction cannot be undone".into(),
            )));
        }
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let transaction = match self.connection().begin_with_options(options).await {
            Ok(transaction) => transaction,
            Err(error) if is_locked(&error) => return Ok(Attempt::Locked),
            Err(error) => return Err(error.into()),
        };
        if !lock(self.backend(), &transaction).await? {
            transaction.rollback().await?;
            return Ok(Attempt::Locked);
        }
        transaction.execute_unprepared(TABLE).await?;
        // The name goes in first: should two processes ever be here at once, its key lets only one of them pass.
        let note = format!(
            "INSERT INTO us_migration (version, applied_at, program) VALUES ($1, {} / 1000, $2) \
             ON CONFLICT (version) DO NOTHING",
            self.backend().now_ms()
        );
        let values = [migration.name().into(), PROGRAM.into()];
        let noted = transaction.execute_raw(self.backend().statement(&note, values)).await?;
        if noted.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(Attempt::AlreadyThere);
        }
        migration.up(&SchemaManager::new(&transaction)).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Attempt::Applied)
    }
}

enum Attempt {
    Applied,
    AlreadyThere,
    Locked,
}

pub(super) struct Applied {
    pub(super) name: String,
    pub(super) program: String,
    /// Seconds since 1970, by the database's clock.
    pub(super) applied_s: i64,
}

/// The names of the runtime's own migrations, in their order.
pub(super) fn own_names() -> impl Iterator<Item = String> {
    schema::migrations().into_iter().map(|migration| migration.name().to_owned())
}

fn executor_of<'c>(executor: &'c sea_orm::DatabaseExecutor<'c>) -> sea_orm::DatabaseExecutor<'c> {
    match executor {
        sea_orm::DatabaseExecutor::Connection(connection) => (*connection).into(),
        sea_orm::DatabaseExecutor::Transaction(transaction) => (*transaction).into(),
        sea_orm::DatabaseExecutor::OwnedTransaction(transaction) => transaction.into(),
    }
}

/// Takes the lock that ends with the transaction; `false` when another process has it.
async fn lock(backend: Backend, transaction: &DatabaseTransaction) -> Result<bool, DatabaseError> {
    if backend == Backend::Sqlite {
        // An immediate transaction has it already.
        return Ok(true);
    }
    // A migration may take as long as it needs, and may wait for rows of nodes that still work.
    transaction
        .execute_unprepared(
            "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0",
        )
        .await?;
    let query = backend.statement("SELECT pg_try_advisory_xact_lock($1)", [ADVISORY_LOCK.into()]);
    let row = transaction.query_one_raw(query).await?;
    Ok(row.map(|row| row.try_get_by(0)).transpose()?.unwrap_or(false))
}

fn unique_names<'a>(all: &[&'a dyn MigrationTrait]) -> Result<HashSet<&'a str>, DatabaseError> {
    let mut known = HashSet::new();
    for migration in all {
        if !known.insert(migration.name()) {
            return Err(DatabaseError::MigrationName(migration.name().to_owned()));
        }
    }
    Ok(known)
}

/// Refuses a schema that a newer program has changed: this one would not know what it means.
fn refuse_newer(applied: &[Applied], known: &HashSet<&str>) -> Result<(), DatabaseError> {
    match applied.iter().rfind(|one| !known.contains(&*one.name)) {
        None => Ok(()),
        Some(one) => Err(DatabaseError::Newer {
            migration: one.name.clone(),
            applied_by: one.program.clone(),
            program: PROGRAM,
        }),
    }
}
