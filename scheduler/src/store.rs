//! Everything the scheduler keeps in the database, and all of its SQL.
//!
//! Statements mean the same on PostgreSQL and SQLite. What must be one step is one transaction that locks, in this
//! order: the term, the switches of the cluster, cursors by job, limits by key, runs. The database's clock is read
//! after the locks were taken, since a lock may have to be waited for.

mod board;
mod claim;
mod definitions;
mod enqueue;
mod finish;
mod history;
mod look;
mod nodes;
mod recordset;
mod runs;
mod schema;
mod switches;
mod take;
mod terms;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sea_orm::{ConnectionTrait as _, DatabaseExecutor, DbErr, QueryResult, Value};
use understudy_runtime::database::{Backend, Database, DatabaseError};

pub use claim::{ClaimOutcome, Decision, JobPlan, Outcome, Start};
pub(crate) use claim::{Claimant, Room, epoch_is_ours};
pub(crate) use definitions::Cursor;
pub use definitions::{Definition, DefinitionError, Origin, Pause, SyncReport};
pub(crate) use enqueue::enqueue_in;
pub use enqueue::{EnqueueError, Enqueued, Order};
pub(crate) use finish::{Ending, Finished, carry_out as finish_in, guard, lock_before};
pub(crate) use history::RunLine;
pub use history::{Attempt, DecisionRow, LogLine, RunFilter, RunRow};
pub use look::{CursorRow, DueRow, JobRow};
pub(crate) use nodes::Need;
pub use nodes::SchedulerNode;
pub(crate) use runs::{Cancelled, Heartbeat};
pub use schema::migrations;
pub use switches::{Switch, Switches};
pub use take::TakenRun;
pub(crate) use take::Taker;
pub use terms::TermRow;

/// The scheduler's tables; a cheap clone.
#[derive(Debug, Clone)]
pub struct Store {
    database: Database,
    cache: Arc<board::DefinitionCache>,
}

/// What is done in a transaction with what it was given.
type Work<I, T> = for<'c> fn(&'c Tx<'c>, Arc<I>) -> BoxFuture<'c, std::result::Result<T, DbErr>>;

/// A result of the store.
pub(crate) type Result<T> = std::result::Result<T, DatabaseError>;

impl Store {
    /// Uses a database whose schema is up to date ([`migrations`]). `zone` is the time zone of cron expressions that
    /// name none.
    #[must_use]
    pub fn new(database: Database, zone: crate::schedule::ZoneName) -> Self {
        Self { database, cache: Arc::new(board::DefinitionCache::new(zone)) }
    }

    /// Returns the database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Returns the time zone of expressions that name none.
    #[must_use]
    pub fn zone(&self) -> &crate::schedule::ZoneName {
        self.cache.zone()
    }

    pub(crate) fn backend(&self) -> Backend {
        self.database.backend()
    }

    /// Reads the database's clock, ms since 1970.
    ///
    /// # Errors
    /// [`DatabaseError`] when it is away.
    pub async fn now_ms(&self) -> Result<i64> {
        let sql = format!("SELECT {} AS now_ms", self.backend().now_ms());
        let row = self.one(sql, Vec::new()).await?;
        Ok(required(row)?.try_get("", "now_ms")?)
    }

    /// Reads at most one row.
    async fn one(&self, sql: String, values: Vec<Value>) -> Result<Option<QueryResult>> {
        let statement = self.backend().statement(&sql, values);
        self.database
            .read(move |executor| {
                let statement = statement.clone();
                Box::pin(async move { executor.query_one_raw(statement).await })
            })
            .await
    }

    /// Reads rows.
    async fn all(&self, sql: String, values: Vec<Value>) -> Result<Vec<QueryResult>> {
        let statement = self.backend().statement(&sql, values);
        self.database
            .read(move |executor| {
                let statement = statement.clone();
                Box::pin(async move { executor.query_all_raw(statement).await })
            })
            .await
    }

    /// Carries out one statement that writes and gives rows.
    async fn change(&self, sql: String, values: Vec<Value>) -> Result<Vec<QueryResult>> {
        let statement = self.backend().statement(&sql, values);
        self.database
            .step(move |executor| {
                let statement = statement.clone();
                Box::pin(async move { executor.query_all_raw(statement).await })
            })
            .await
    }

    /// Carries out one statement that writes; gives how many rows it touched.
    async fn execute(&self, sql: String, values: Vec<Value>) -> Result<u64> {
        let statement = self.backend().statement(&sql, values);
        self.database
            .step(move |executor| {
                let statement = statement.clone();
                Box::pin(async move { Ok(executor.execute_raw(statement).await?.rows_affected()) })
            })
            .await
    }

    /// Carries out several statements as one step. `work` is given what it needs by value, and may be run again after a
    /// rollback.
    async fn transaction<I, T>(&self, input: I, work: Work<I, T>) -> Result<T>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
    {
        let (backend, input) = (self.backend(), Arc::new(input));
        self.database
            .transaction(move |executor| {
                let input = Arc::clone(&input);
                Box::pin(async move {
                    let tx = Tx { executor, backend };
                    work(&tx, input).await
                })
            })
            .await
    }
}

/// A transaction under way, and which kind of database it is on.
pub(crate) struct Tx<'c> {
    executor: &'c DatabaseExecutor<'c>,
    backend: Backend,
}

impl<'c> Tx<'c> {
    pub(crate) fn new(executor: &'c DatabaseExecutor<'c>, backend: Backend) -> Self {
        Self { executor, backend }
    }

    async fn one(
        &self,
        sql: &str,
        values: Vec<Value>,
    ) -> std::result::Result<Option<QueryResult>, DbErr> {
        self.executor.query_one_raw(self.backend.statement(sql, values)).await
    }

    async fn all(
        &self,
        sql: &str,
        values: Vec<Value>,
    ) -> std::result::Result<Vec<QueryResult>, DbErr> {
        self.executor.query_all_raw(self.backend.statement(sql, values)).await
    }

    async fn execute(&self, sql: &str, values: Vec<Value>) -> std::result::Result<u64, DbErr> {
        Ok(self.executor.execute_raw(self.backend.statement(sql, values)).await?.rows_affected())
    }

    /// Reads the clock, now that all locks are held.
    async fn now_ms(&self) -> std::result::Result<i64, DbErr> {
        let row = self.one(&format!("SELECT {} AS now_ms", self.backend.now_ms()), vec![]).await?;
        required(row)?.try_get("", "now_ms")
    }

    fn now(&self) -> &'static str {
        self.backend.now_ms()
    }

    fn now_once(&self) -> String {
        now_once(self.backend)
    }
}

/// The clock as it stands in comparisons: read once per statement, so that an index can be used. On its own it may be
/// another for every row.
fn now_once(backend: Backend) -> String {
    format!("(SELECT {})", backend.now_ms())
}

/// A row that must be there.
fn required(row: Option<QueryResult>) -> std::result::Result<QueryResult, DbErr> {
    row.ok_or_else(|| DbErr::RecordNotFound("a row that is always there".into()))
}

/// Reads JSON of our own making.
fn json<T: serde::de::DeserializeOwned>(text: &str) -> std::result::Result<T, DbErr> {
    serde_json::from_str(text).map_err(|error| DbErr::Json(error.to_string()))
}

/// Writes JSON.
fn text_of<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

#[cfg(test)]
mod tests;
