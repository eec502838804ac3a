//! The table of settings. The row without a name counts the changes, and makes them wait for each other.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DbErr, QueryResult, Statement, Value};

use super::board::{Board, Deadline, StoredSetting};
use super::{Change, ChangeError};
use crate::clock::BootInstant;
use crate::database::{Backend, Database, DatabaseError};

/// The SQL of the settings, and the database they are in.
#[derive(Debug)]
pub(super) struct Store {
    database: Database,
}

impl Store {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }

    /// Reads all rows; what is left of their time counts from `asked_at` on, so that a slow answer prolongs nothing.
    pub(super) async fn read(&self, asked_at: BootInstant) -> Result<Board, DatabaseError> {
        let backend = self.database.backend();
        let sql = format!(
            "SELECT name, node, value, by_name, why, at_ms, until_ms, revision, until_ms - {} AS remaining_ms \
             FROM us_setting ORDER BY name, node",
            backend.now_ms()
        );
        let statement = backend.statement(&sql, []);
        let work = self.database.read(move |executor| {
            let statement = statement.clone();
            Box::pin(async move {
                let rows = executor.query_all_raw(statement).await?;
                let rows = rows.iter().map(|row| stored(row, asked_at));
                rows.collect::<Result<Vec<StoredSetting>, DbErr>>()
            })
        });
        let rows = work.await?;
        let (counters, rows): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| row.name.is_empty());
        Ok(Board::new(counters.first().map_or(0, |counter| counter.revision), rows))
    }

    /// Makes a change, takes away what has ended by itself, and returns which change it was.
    pub(super) async fn change(&self, change: &Change) -> Result<i64, ChangeError> {
        let backend = self.database.backend();
        let steps = Steps::of(backend, change);
        let only_at = change.only_at;
        let work = self.database.transaction(move |executor| {
            let steps = steps.clone();
            Box::pin(async move {
                // First the lock, in a statement of its own: what is read after it is what the one before has written.
                executor.query_one_raw(steps.lock).await?;
                if let Some(expected) = only_at {
                    let row = executor.query_one_raw(steps.look).await?;
                    let revision = row.map_or(Ok(0), |row| row.try_get_by(0))?;
                    if revision != expected {
                        return Ok(Err(revision));
                    }
                }
                let counted = executor.query_one_raw(steps.count).await?;
                let gone = || DbErr::RecordNotFound("the counter of settings".to_owned());
                let revision: i64 = counted.ok_or_else(gone)?.try_get_by(0)?;
                executor.execute_raw(steps.purge).await?;
                executor.execute_raw(steps.delete).await?;
                if let Some(insert) = steps.insert {
                    executor.execute_raw(insert).await?;
                }
                Ok(Ok(revision))
            })
        });
        work.await?.map_err(ChangeError::Changed)
    }
}

/// The statements of one change.
#[derive(Clone)]
struct Steps {
    lock: Statement,
    look: Statement,
    count: Statement,
    purge: Statement,
    delete: Statement,
    insert: Option<Statement>,
}

impl Steps {
    fn of(backend: Backend, change: &Change) -> Self {
        let now = backend.now_ms();
        let place = || -> [Value; 2] { [change.name.into(), change.node.as_str().into()] };
        let none = || std::iter::empty::<Value>();
        let lock =
            format!("SELECT revision FROM us_setting WHERE name = ''{}", backend.for_update());
        let look = format!(
            "SELECT revision FROM us_setting WHERE name = $1 AND node = $2 \
             AND (until_ms IS NULL OR until_ms > {now})"
        );
        let count =
            "UPDATE us_setting SET revision = revision + 1 WHERE name = '' RETURNING revision";
        let purge =
            format!("DELETE FROM us_setting WHERE until_ms IS NOT NULL AND until_ms <= {now}");
        let delete = "DELETE FROM us_setting WHERE name = $1 AND node = $2";
        let insert = format!(
            "INSERT INTO us_setting (name, node, value, by_name, why, at_ms, until_ms, revision) \
             SELECT $1, $2, $3, $4, $5, {now}, {now} + CAST($6 AS bigint), revision FROM us_setting WHERE name = ''"
        );
        let insert = change.value.as_ref().map(|value| {
            let lasts: Option<i64> = change.lasts.map(millis);
            let values: [Value; 6] = [
                change.name.into(),
                change.node.as_str().into(),
                value.as_str().into(),
                change.by.as_str().into(),
                change.why.as_str().into(),
                lasts.into(),
            ];
            backend.statement(&insert, values)
        });
        Self {
            lock: backend.statement(&lock, none()),
            look: backend.statement(&look, place()),
            count: backend.statement(count, none()),
            purge: backend.statement(&purge, none()),
            delete: backend.statement(delete, place()),
            insert,
        }
    }
}

fn stored(row: &QueryResult, asked_at: BootInstant) -> Result<StoredSetting, DbErr> {
    let value: String = row.try_get("", "value")?;
    let remaining_ms: Option<i64> = row.try_get("", "remaining_ms")?;
    let deadline = remaining_ms
        .map(|remaining| asked_at + Duration::from_millis(remaining.max(0).unsigned_abs()));
    Ok(StoredSetting {
        name: row.try_get("", "name")?,
        node: row.try_get("", "node")?,
        value: value.into(),
        by: row.try_get("", "by_name")?,
        why: row.try_get("", "why")?,
        at_ms: row.try_get("", "at_ms")?,
        until_ms: row.try_get("", "until_ms")?,
        revision: row.try_get("", "revision")?,
        deadline: Deadline(deadline),
    })
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4)
}
