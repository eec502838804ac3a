//! What operators are shown of an examination: what was said of a file, why, and when. It decides nothing.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait as _, DbErr, Value};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};
use serde::Serialize;

use super::Verdicts;
use crate::database::DatabaseError;

/// The longest reason that is kept, in characters.
const LONGEST: usize = 500;

/// Adds the reasons: of a verdict beside it, and of each file of which nothing could be said yet a row with the last try.
pub(in super::super) struct Reasons;

impl MigrationName for Reasons {
    fn name(&self) -> &'static str {
        "files_0006_reasons"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Reasons {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let create = "ALTER TABLE us_file_verdict ADD COLUMN reason text;
            CREATE TABLE us_file_examination (
                file text NOT NULL PRIMARY KEY,
                reason text NOT NULL,
                tried_ms bigint NOT NULL
            )";
        manager.get_connection().execute_unprepared(create).await.map(|_| ())
    }
}

/// How a file stands that is examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Standing {
    /// Nothing was said yet, so it is served to nobody.
    #[default]
    Waiting,
    /// It is served.
    Clean,
    /// It is served to nobody.
    Infected,
}

/// What was said of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(in super::super) struct Shown {
    pub(in super::super) state: Standing,
    /// What the examiner said of it, or why it could say nothing.
    pub(in super::super) reason: Option<String>,
    /// When, or when it was tried last, ms since 1970 on the database's clock.
    pub(in super::super) at_ms: Option<u64>,
}

/// A reason as it is kept: not longer than it can be shown, and in one line.
pub(super) fn kept(reason: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    reason.chars().take(LONGEST).map(shown).collect()
}

impl Verdicts {
    /// Notes that nothing could be said of a file now, and why.
    pub(in super::super) async fn tried(&self, id: &str, why: &str) -> Result<(), DatabaseError> {
        let now = self.database.backend().now_ms();
        let sql = format!(
            "INSERT INTO us_file_examination (file, reason, tried_ms) VALUES ($1, $2, {now}) \
             ON CONFLICT (file) DO UPDATE SET reason = excluded.reason, tried_ms = excluded.tried_ms"
        );
        self.change(self.statement(&sql, vec![id.into(), kept(why).into()])).await
    }

    /// Forgets tries at files of which something was said since, or that are not there any more.
    pub(super) async fn forget_tries(&self) -> Result<(), DatabaseError> {
        let sql = "DELETE FROM us_file_examination WHERE NOT EXISTS \
                   (SELECT 1 FROM us_file WHERE us_file.id = us_file_examination.file) OR EXISTS \
                   (SELECT 1 FROM us_file_verdict WHERE us_file_verdict.file = us_file_examination.file)";
        self.change(self.statement(sql, Vec::new())).await
    }

    /// Gives what was said of these files, in their order.
    pub(in super::super) async fn shown(&self, ids: &[&str]) -> Result<Vec<Shown>, DatabaseError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let marks: Vec<String> = (1..=ids.len()).map(|number| format!("${number}")).collect();
        let marks = marks.join(", ");
        let values = || -> Vec<Value> { ids.iter().map(|id| Value::from(*id)).collect() };
        let tries = format!(
            "SELECT file, reason, tried_ms AS at_ms FROM us_file_examination WHERE file IN ({marks})"
        );
        let said = format!(
            "SELECT file, verdict, reason, judged_ms AS at_ms FROM us_file_verdict WHERE file IN ({marks})"
        );
        let mut found: HashMap<String, Shown> = HashMap::new();
        for row in self.rows(self.statement(&tries, values())).await? {
            let reason: String = row.try_get("", "reason")?;
            let at: i64 = row.try_get("", "at_ms")?;
            let at_ms = u64::try_from(at).ok();
            let shown = Shown { state: Standing::Waiting, reason: Some(reason), at_ms };
            found.insert(row.try_get("", "file")?, shown);
        }
        // What was said counts more than that nothing could be said before, or by another one.
        for row in self.rows(self.statement(&said, values())).await? {
            let word: String = row.try_get("", "verdict")?;
            let at: i64 = row.try_get("", "at_ms")?;
            // What this release does not know is not clean.
            let state = if word == "clean" { Standing::Clean } else { Standing::Infected };
            let (reason, at_ms) = (row.try_get("", "reason")?, u64::try_from(at).ok());
            found.insert(row.try_get("", "file")?, Shown { state, reason, at_ms });
        }
        Ok(ids.iter().map(|id| found.remove(*id).unwrap_or_default()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_kept_in_one_line_and_not_longer_than_it_can_be_shown() {
        assert_eq!(kept("a\u{1b}[31m\r\nb\0"), "a [31m  b ");
        assert_eq!(kept(&"\u{fc}".repeat(10_000)).chars().count(), LONGEST);
    }
}
