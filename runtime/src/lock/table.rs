//! The table of locks: one statement per step, by the database's clock.
//!
//! `token` only grows, and stays when a lock is freed. `deadline_ms` is until when the lock is held, and of a free one
//! since when it is free. The row with the empty name, which no lock has, remembers for the names that are swept away.
//!
//! Every acquisition has a `holder` of its own, never used again: a statement that is carried out late, after its sender
//! has given up, can then change nothing but what it was meant for.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement, Value};

use super::LockInfo;
use crate::database::{Backend, Database, DatabaseError};

/// One more attempt when a lock was new, and one more when it was swept away at that moment.
const ATTEMPTS: u32 = 3;

/// The SQL of the locks, and the database they are in; a cheap clone.
#[derive(Debug, Clone)]
pub(super) struct LockTable {
    pub(super) database: Database,
    statements: Arc<Statements>,
    /// When this node last swept, by the process's own clock.
    pub(super) swept: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Statements {
    take: String,
    look: String,
    create: String,
    extend: String,
    free: String,
    lock: String,
    clear: String,
    list: String,
    free_all: String,
}

/// What an attempt to take a lock came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is the caller's.
    Granted { token: u64, is_new: bool },
    /// Somebody else has it.
    Held(HeldBy),
}

/// Who has a lock, and for how long at least.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HeldBy {
    pub(super) holder: String,
    pub(super) node: String,
    pub(super) remaining: Duration,
}

impl Statements {
    fn new(backend: Backend) -> Self {
        let (now, share) = (backend.now_ms(), backend.for_share());
        Self {
            take: format!(
                "UPDATE us_cluster_lock SET token = token + 1, holder = $2, node = $3, \
                 acquired_ms = {now}, deadline_ms = {now} + $4 \
                 WHERE name = $1 AND (holder IS NULL OR deadline_ms <= {now}) RETURNING token"
            ),
            look: format!(
                "SELECT coalesce(holder, ''), node, deadline_ms - {now} \
                 FROM us_cluster_lock WHERE name = $1"
            ),
            // The row that remembers is locked while it is read: a sweep under way may be raising it.
            create: format!(
                "INSERT INTO us_cluster_lock (name, token, holder, node, acquired_ms, deadline_ms) \
                 SELECT $1, token, NULL, '', 0, {now} FROM us_cluster_lock WHERE name = ''{share} \
                 ON CONFLICT (name) DO NOTHING"
            ),
            // A lock whose time is over but that nobody took is still this holder's.
            extend: format!(
                "UPDATE us_cluster_lock SET deadline_ms = {now} + $3 \
                 WHERE name = $1 AND holder = $2"
            ),
            free: format!(
                "UPDATE us_cluster_lock SET holder = NULL, deadline_ms = {now} \
                 WHERE name = $1 AND holder = $2"
            ),
            lock: format!(
                "SELECT name FROM us_cluster_lock WHERE name = $1{}",
                backend.for_update()
            ),
            clear: format!(
                "UPDATE us_cluster_lock SET holder = NULL, deadline_ms = {now} WHERE name = $1"
            ),
            list: format!(
                "SELECT name, token, node, holder, acquired_ms, deadline_ms - {now} AS remaining_ms \
                 FROM us_cluster_lock WHERE holder IS NOT NULL AND deadline_ms > {now}"
            ),
            free_all: format!(
                "UPDATE us_cluster_lock SET holder = NULL, deadline_ms = {now} \
                 WHERE holder IS NOT NULL"
            ),
        }
    }
}

impl LockTable {
    pub(super) fn new(database: Database) -> Self {
        let statements = Arc::new(Statements::new(database.backend()));
        Self { database, statements, swept: Arc::default() }
    }

    /// Takes a lock that nobody has, or whose time is over.
    pub(super) async fn take(
        &self,
        name: &str,
        holder: &str,
        node: &str,
        ttl: Duration,
    ) -> Result<Taken, DatabaseError> {
        let mut is_new = false;
        for _ in 0..ATTEMPTS {
            let values = vec![name.into(), holder.into(), node.into(), millis(ttl).into()];
            let take = self.statement(&self.statements.take, values);
            let look = self.statement(&self.statements.look, vec![name.into()]);
            let step = self.database.step(move |executor| {
                let (take, look) = (take.clone(), look.clone());
                Box::pin(async move {
                    if let Some(row) = executor.query_one_raw(take).await? {
                        let token: i64 = row.try_get_by(0)?;
                        return Ok(Some(Ok(token.unsigned_abs())));
                    }
                    let row = executor.query_one_raw(look).await?;
                    row.map(|row| held_by(&row).map(Err)).transpose()
                })
            });
            match step.await? {
                Some(Ok(token)) => return Ok(Taken::Granted { token, is_new }),
                Some(Err(held)) => return Ok(Taken::Held(held)),
                None => {
                    is_new = true;
                    self.change(&self.statements.create, vec![name.into()]).await?;
                }
            }
        }
        Ok(Taken::Held(HeldBy::default()))
    }

    /// Gives a lock more time; false when it is not this holder's any more.
    pub(super) async fn extend(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<bool, DatabaseError> {
        let values = vec![name.into(), holder.into(), millis(ttl).into()];
        Ok(self.change(&self.statements.extend, values).await? > 0)
    }

    /// Frees a lock; false when it is not this holder's any more.
    pub(super) async fn free(&self, name: &str, holder: &str) -> Result<bool, DatabaseError> {
        let values = vec![name.into(), holder.into()];
        Ok(self.change(&self.statements.free, values).await? > 0)
    }

    pub(super) async fn free_all(&self) -> Result<(), DatabaseError> {
        self.change(&self.statements.free_all, Vec::new()).await.map(|_| ())
    }

    /// Frees a lock, whoever holds it; gives what it was.
    pub(super) async fn clear(&self, name: &str) -> Result<Option<LockInfo>, DatabaseError> {
        let named = |sql: &str| self.statement(sql, vec![name.into()]);
        let lock = named(&self.statements.lock);
        let look = named(&format!("{} AND name = $1", self.statements.list));
        let clear = named(&self.statements.clear);
        let cleared = self.database.transaction(move |executor| {
            let (lock, look, clear) = (lock.clone(), look.clone(), clear.clone());
            Box::pin(async move {
                // First the lock on the row, so that what is told is what is cleared.
                executor.query_one_raw(lock).await?;
                let Some(row) = executor.query_one_raw(look).await? else { return Ok(None) };
                executor.execute_raw(clear).await?;
                lock_info(&row).map(Some)
            })
        });
        cleared.await
    }

    pub(super) async fn list(&self, most: u32) -> Result<Vec<LockInfo>, DatabaseError> {
        let sql = format!("{} ORDER BY acquired_ms, name LIMIT {most}", self.statements.list);
        let list = self.statement(&sql, Vec::new());
        let listed = self.database.read(move |executor| {
            let list = list.clone();
            Box::pin(
                async move { executor.query_all_raw(list).await?.iter().map(lock_info).collect() },
            )
        });
        listed.await
    }

    pub(super) fn statement(&self, sql: &str, values: Vec<Value>) -> Statement {
        self.database.backend().statement(sql, values)
    }

    async fn change(&self, sql: &str, values: Vec<Value>) -> Result<u64, DatabaseError> {
        let statement = self.statement(sql, values);
        let step = self.database.step(move |executor| {
            let statement = statement.clone();
            Box::pin(async move { Ok(executor.execute_raw(statement).await?.rows_affected()) })
        });
        step.await
    }
}

/// Demands, in a transaction of the application, that the lock is this holder's, and keeps it so until its end.
pub(super) async fn is_held_by<C: ConnectionTrait>(
    transaction: &C,
    backend: Backend,
    name: &str,
    holder: &str,
) -> Result<bool, DbErr> {
    let sql = format!(
        "SELECT name FROM us_cluster_lock WHERE name = $1 AND holder = $2{}",
        backend.for_share()
    );
    let query = backend.statement(&sql, [name.into(), holder.into()]);
    Ok(transaction.query_one_raw(query).await?.is_some())
}

fn held_by(row: &QueryResult) -> Result<HeldBy, DbErr> {
    let remaining: i64 = row.try_get_by(2)?;
    Ok(HeldBy {
        holder: row.try_get_by(0)?,
        node: row.try_get_by(1)?,
        remaining: Duration::from_millis(remaining.max(0).unsigned_abs()),
    })
}

fn lock_info(row: &QueryResult) -> Result<LockInfo, DbErr> {
    let token: i64 = row.try_get("", "token")?;
    Ok(LockInfo {
        name: row.try_get("", "name")?,
        token: token.unsigned_abs(),
        node: row.try_get("", "node")?,
        holder: row.try_get("", "holder")?,
        acquired_ms: row.try_get("", "acquired_ms")?,
        remaining_ms: row.try_get("", "remaining_ms")?,
    })
}

pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 4)
}
