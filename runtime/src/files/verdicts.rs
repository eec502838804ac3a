//! What was said of files that are examined: a row for each that somebody has judged. None means that nobody has yet, so a
//! file cannot get past it because something was not written.

mod shown;

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DbErr, QueryResult, Statement, Value};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use super::judging::{Judgement, Verdict};
use crate::database::{Backend, Database, DatabaseError};

pub(super) use shown::{Reasons, Shown};

/// The table of verdicts; see [`super::schema`].
pub(super) struct Table;

impl MigrationName for Table {
    fn name(&self) -> &'static str {
        "files_0003_verdicts"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Table {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let create = "CREATE TABLE us_file_verdict (
                file text NOT NULL PRIMARY KEY,
                verdict text NOT NULL,
                judged_ms bigint NOT NULL
            )";
        manager.get_connection().execute_unprepared(create).await.map(|_| ())
    }
}

/// A file of which nothing was said yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unjudged {
    pub(super) id: String,
    pub(super) space: String,
    pub(super) name: String,
}

/// The verdicts; a cheap clone.
#[derive(Debug, Clone)]
pub(super) struct Verdicts {
    database: Database,
}

impl Verdicts {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }

    fn statement(&self, sql: &str, values: Vec<Value>) -> Statement {
        self.database.backend().statement(sql, values)
    }

    /// Gives what was said of a file.
    pub(super) async fn of(&self, id: &str) -> Result<Option<Verdict>, DatabaseError> {
        let sql = "SELECT verdict FROM us_file_verdict WHERE file = $1";
        let rows = self.rows(self.statement(sql, vec![id.into()])).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let word: String = row.try_get("", "verdict")?;
        // What this release does not know is not clean.
        Ok(Some(if word == "clean" { Verdict::Clean } else { Verdict::Infected }))
    }

    /// Notes what was said of a file, and that it need not be looked for any more. Where two say different things the worse
    /// counts, whichever came first.
    pub(super) async fn note(&self, id: &str, said: &Judgement) -> Result<(), DatabaseError> {
        let now = self.database.backend().now_ms();
        let sql = format!(
            "INSERT INTO us_file_verdict (file, verdict, judged_ms, reason) \
             VALUES ($1, $2, {now}, $3) \
             ON CONFLICT (file) DO UPDATE SET verdict = excluded.verdict, \
             judged_ms = excluded.judged_ms, reason = excluded.reason \
             WHERE excluded.verdict = 'infected'"
        );
        let reason: Option<String> = said.reason.as_deref().map(shown::kept);
        let values = vec![id.into(), said.verdict.as_str().into(), reason.into()];
        let note = self.statement(&sql, values);
        let judged = "UPDATE us_file SET judged = 1 WHERE id = $1 AND judged = 0";
        let judged = self.statement(judged, vec![id.into()]);
        let noted = self.database.transaction(move |executor| {
            let (note, judged) = (note.clone(), judged.clone());
            Box::pin(async move {
                executor.execute_raw(note).await?;
                executor.execute_raw(judged).await.map(|_| ())
            })
        });
        noted.await
    }

    /// Lists files of which nothing was said for so long, by their ids, those behind `after` and up to `until`.
    pub(super) async fn missing(
        &self,
        age: Duration,
        (after, until): (&str, &str),
        limit: u32,
    ) -> Result<Vec<Unjudged>, DatabaseError> {
        let sql = missing(self.database.backend());
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let values = vec![age.into(), after.into(), until.into(), i64::from(limit).into()];
        let unjudged = |row: &QueryResult| -> Result<Unjudged, DatabaseError> {
            Ok(Unjudged {
                id: row.try_get("", "id")?,
                space: row.try_get("", "space")?,
                name: row.try_get("", "name")?,
            })
        };
        self.rows(self.statement(&sql, values)).await?.iter().map(unjudged).collect()
    }

    /// Marks up to so many files as judged that an earlier release has judged, which notes no more than the verdict, so that
    /// they need not be looked for any more; gives how many.
    pub(super) async fn mark_judged(&self, limit: u32) -> Result<u64, DatabaseError> {
        let sql = "UPDATE us_file SET judged = 1 WHERE id IN (SELECT f.id FROM us_file f \
                   JOIN us_file_verdict v ON v.file = f.id \
                   WHERE f.state = 'ready' AND f.judged = 0 ORDER BY f.id LIMIT $1)";
        let mark = self.statement(sql, vec![i64::from(limit).into()]);
        let marked = self.database.step(move |executor| {
            let mark = mark.clone();
            Box::pin(async move { Ok(executor.execute_raw(mark).await?.rows_affected()) })
        });
        marked.await
    }

    /// Forgets what was said of files that are not there any more.
    pub(super) async fn forget(&self) -> Result<(), DatabaseError> {
        let sql = "DELETE FROM us_file_verdict WHERE NOT EXISTS \
                   (SELECT 1 FROM us_file WHERE us_file.id = us_file_verdict.file)";
        self.change(self.statement(sql, Vec::new())).await?;
        self.forget_tries().await
    }

    async fn rows(&self, query: Statement) -> Result<Vec<QueryResult>, DatabaseError> {
        let rows = self.database.read(move |executor| {
            let query = query.clone();
            Box::pin(async move { executor.query_all_raw(query).await })
        });
        rows.await
    }

    async fn change(&self, update: Statement) -> Result<(), DatabaseError> {
        let changed = self.database.step(move |executor| {
            let update = update.clone();
            Box::pin(async move { executor.execute_raw(update).await.map(|_| ()) })
        });
        changed.await
    }
}

/// Gives the SQL that lists files of which nothing was said. What an older release has judged is in the index still.
pub(super) fn missing(backend: Backend) -> String {
    let now = backend.now_ms();
    format!(
        "SELECT f.id, f.space, f.name FROM us_file f \
         LEFT JOIN us_file_verdict v ON v.file = f.id \
         WHERE f.state = 'ready' AND f.judged = 0 AND v.file IS NULL \
         AND f.created_ms <= {now} - $1 \
         AND f.id > $2 AND f.id <= $3 ORDER BY f.id LIMIT $4"
    )
}
