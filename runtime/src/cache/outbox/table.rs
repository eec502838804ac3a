//! The table of what is to be forgotten: all SQL of it, the same for PostgreSQL and SQLite.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseExecutor, DbBackend, DbErr, QueryResult, Value};

use crate::cache::shared::Forgotten;
use crate::database::{Backend, Database, DatabaseError};

/// How many rows are told at a time.
pub(super) const PAGE: usize = 1_000;

/// What is to be forgotten of a region.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) region: &'a str,
    pub(super) what: &'a Forgotten,
    /// For how long the version of a tag is kept.
    pub(super) keep: Duration,
}

/// A row, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) region: String,
    pub(super) what: Forgotten,
    pub(super) keep: Duration,
}

/// Which rows are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pick {
    /// Those of all regions but these.
    AllBut(Vec<String>),
    /// The first of each of these regions.
    FirstOf(Vec<String>),
}

/// The row that has waited for longest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Oldest {
    pub(super) id: i64,
    pub(super) region: String,
    /// How long ago it was written, by the database's clock.
    pub(super) age: Duration,
}

/// Writes a row; returns its number.
pub(super) async fn write<C>(transaction: &C, entry: Entry<'_>) -> Result<i64, DbErr>
where
    C: ConnectionTrait,
{
    let is_sqlite = transaction.get_database_backend() == DbBackend::Sqlite;
    let backend = if is_sqlite { Backend::Sqlite } else { Backend::Postgres };
    let sql = format!(
        "INSERT INTO us_cache_outbox (region, kind, key, keep_ms, at_ms) \
         VALUES ($1, $2, $3, $4, {}) RETURNING id",
        backend.now_ms()
    );
    let (kind, key) = match entry.what {
        Forgotten::One(key) => ("k", key.as_str()),
        Forgotten::Tagged(tag) => ("t", tag.as_str()),
        Forgotten::All => ("c", ""),
    };
    let keep_ms = i64::try_from(entry.keep.as_millis()).unwrap_or(i64::MAX);
    let values: [Value; 4] = [entry.region.into(), kind.into(), key.into(), keep_ms.into()];
    let written = transaction.query_one_raw(backend.statement(&sql, values)).await?;
    let lost = || DbErr::Custom("the database does not say which row it has written".into());
    written.ok_or_else(lost)?.try_get("", "id")
}

/// Looks which row has waited for longest, if there is any.
pub(super) async fn oldest(database: &Database) -> Result<Option<Oldest>, DatabaseError> {
    let backend = database.backend();
    let sql = format!(
        "SELECT id, region, {} - at_ms AS age_ms FROM us_cache_outbox ORDER BY id LIMIT 1",
        backend.now_ms()
    );
    let query = backend.statement(&sql, []);
    let found = database.read(move |on| {
        let query = query.clone();
        Box::pin(async move { on.query_one_raw(query).await })
    });
    let Some(row) = found.await? else { return Ok(None) };
    let age_ms: i64 = row.try_get("", "age_ms")?;
    let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or(0));
    Ok(Some(Oldest { id: row.try_get("", "id")?, region: row.try_get("", "region")?, age }))
}

/// Says which of some regions have rows.
pub(super) async fn waiting(
    database: &Database,
    regions: &[String],
) -> Result<Vec<String>, DatabaseError> {
    let sql = format!(
        "SELECT DISTINCT region FROM us_cache_outbox WHERE region IN ({})",
        places(regions.len())
    );
    let query = database.backend().statement(&sql, values(regions));
    let found = database.read(move |on| {
        let query = query.clone();
        Box::pin(async move { on.query_all_raw(query).await })
    });
    let mut waiting = Vec::new();
    for row in found.await? {
        waiting.push(row.try_get("", "region")?);
    }
    Ok(waiting)
}

/// Reads rows that are in nobody's hand, those that have waited for longest first; on PostgreSQL they are in this transaction's
/// then.
pub(super) async fn pick(
    on: &DatabaseExecutor<'_>,
    backend: Backend,
    pick: &Pick,
) -> Result<Vec<Row>, DbErr> {
    let (which, regions) = match pick {
        Pick::AllBut(regions) if regions.is_empty() => (String::new(), regions),
        Pick::AllBut(regions) => {
            (format!(" WHERE region NOT IN ({})", places(regions.len())), regions)
        }
        Pick::FirstOf(regions) => {
            let which = format!(
                " WHERE id IN (SELECT min(id) FROM us_cache_outbox \
                 WHERE region IN ({}) GROUP BY region)",
                places(regions.len())
            );
            (which, regions)
        }
    };
    let sql = format!(
        "SELECT id, region, kind, key, keep_ms FROM us_cache_outbox{which} ORDER BY id LIMIT {PAGE}{}",
        backend.skip_locked()
    );
    let rows = on.query_all_raw(backend.statement(&sql, values(regions))).await?;
    rows.iter().map(row).collect()
}

/// `$1, $2, ...`, for so many values.
fn places(count: usize) -> String {
    let places: Vec<String> = (1..=count).map(|place| format!("${place}")).collect();
    places.join(", ")
}

fn values(regions: &[String]) -> Vec<Value> {
    regions.iter().map(|region| Value::from(region.clone())).collect()
}

fn row(found: &QueryResult) -> Result<Row, DbErr> {
    let (kind, key): (String, String) = (found.try_get("", "kind")?, found.try_get("", "key")?);
    let keep_ms: i64 = found.try_get("", "keep_ms")?;
    let what = match kind.as_str() {
        "k" => Forgotten::One(key),
        "t" => Forgotten::Tagged(key),
        // Also what a newer release means by a word that this one does not know: all is never too little.
        _ => Forgotten::All,
    };
    Ok(Row {
        id: found.try_get("", "id")?,
        region: found.try_get("", "region")?,
        what,
        keep: Duration::from_millis(u64::try_from(keep_ms).unwrap_or(0)),
    })
}

/// Strikes rows off.
pub(super) async fn strike_off(on: &DatabaseExecutor<'_>, rows: &[i64]) -> Result<(), DbErr> {
    if rows.is_empty() {
        return Ok(());
    }
    let rows: Vec<String> = rows.iter().map(i64::to_string).collect();
    // Numbers, and others each time: nothing to prepare.
    let sql = format!("DELETE FROM us_cache_outbox WHERE id IN ({})", rows.join(", "));
    on.execute_unprepared(&sql).await.map(|_| ())
}

/// Strikes one row off, unless somebody has it in hand, who will do so.
pub(super) async fn strike_off_one(database: &Database, row: i64) -> Result<(), DatabaseError> {
    let backend = database.backend();
    let sql = format!(
        "DELETE FROM us_cache_outbox WHERE id IN (SELECT id FROM us_cache_outbox WHERE id = $1{})",
        backend.skip_locked()
    );
    let delete = backend.statement(&sql, [row.into()]);
    let deleted = database.step(move |on| {
        let delete = delete.clone();
        Box::pin(async move { on.execute_raw(delete).await.map(|_| ()) })
    });
    deleted.await
}
