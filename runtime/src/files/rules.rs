//! What the application says of spaces: whether files that nobody uses are removed, whether they share contents, how much may
//! be in one. It is kept in the database, so that it holds on every node, whichever release that has.
//!
//! A rule is for one space, or for all whose names begin with a text (`user-*`). Of several, the one of the very name holds,
//! else the one with the longest beginning. It is looked at in the transaction that it decides about.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DatabaseExecutor, DbErr, QueryResult, Value};
use serde::{Serialize, Serializer};

use super::error::FileError;
use super::rows::Rows;
use super::{Files, naming};
use crate::database::{Backend, DatabaseError};

/// So many rules are told at most.
const MOST: i64 = 1_000;
/// The shortest time after which unused files may be removed: less would remove what a handler is just about to keep.
const LEAST_UNUSED: Duration = Duration::from_secs(1);

/// What holds for a space. The default is what holds where nothing was said: files stay, share nothing, and have the limits
/// of the options alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct SpaceRule {
    /// What becomes of files that nobody uses.
    #[serde(rename = "unused_seconds")]
    pub unused: Unused,
    /// Whether files of the same content share it.
    pub sharing: Sharing,
    /// How many bytes the files of the space may have together, at most what the option says; that alone if not said.
    pub max_bytes: Option<u64>,
    /// How many files the space may have, at most a million.
    pub max_files: Option<u64>,
}

/// What becomes of files that nobody [uses](super::Owner).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unused {
    /// They stay: the application says who uses a file, or removes it itself.
    #[default]
    Stay,
    /// They are removed when nobody has used them for so long. It is what a handler has between writing a file and saying
    /// who uses it, so an hour is little and a day is good. Less than a second is refused.
    RemovedAfter(Duration),
}

/// Whether files of the same content share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// Each has its own. For what is nobody's business: who shares could find out whether somebody else has the same.
    #[default]
    Private,
    /// The content of files that were written with the same SHA-256 and length into spaces that share is kept once.
    Shared,
}

impl Serialize for Unused {
    /// As seconds; null for those that stay.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Stay => serializer.serialize_none(),
            Self::RemovedAfter(time) => serializer.serialize_some(&time.as_secs()),
        }
    }
}

/// A rule, and the spaces that it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedRule {
    /// The name of a space, or what names begin with, and a `*`.
    pub space: String,
    /// What holds there.
    #[serde(flatten)]
    pub rule: SpaceRule,
}

impl Files {
    /// Says what holds for a space, or for all whose names begin with what stands before a `*` at the end. What was said
    /// before is replaced. Said again without a change it does nothing, so every node may say it when it starts.
    ///
    /// When files that nobody uses are to be removed, their time begins now at the earliest.
    ///
    /// # Errors
    /// [`FileError::BadName`]; [`FileError::BadRule`] when unused files are to be removed after less than a second; else when
    /// it cannot be written now.
    pub async fn set_rule(&self, space: &str, rule: SpaceRule) -> Result<(), FileError> {
        let name = rule_name(space)?;
        rule.check()?;
        Ok(self.store()?.rows.set_rule(&name, rule).await?)
    }

    /// Takes back what was said of a space, or of those that begin with a text; says whether there was something.
    ///
    /// # Errors
    /// As [`set_rule`](Self::set_rule).
    pub async fn forget_rule(&self, space: &str) -> Result<bool, FileError> {
        let name = rule_name(space)?;
        Ok(self.store()?.rows.forget_rule(&name).await?)
    }

    /// Lists what was said of spaces, by name, up to a thousand.
    ///
    /// # Errors
    /// When it cannot be read now.
    pub async fn rules(&self) -> Result<Vec<NamedRule>, FileError> {
        Ok(self.store()?.rows.rules().await?)
    }
}

impl SpaceRule {
    /// Says whether it can hold.
    fn check(&self) -> Result<(), FileError> {
        match self.unused {
            Unused::RemovedAfter(time) if time < LEAST_UNUSED => Err(FileError::BadRule {
                field: "unused",
                why: "files are removed after a second at the earliest; Unused::Stay removes none",
            }),
            Unused::RemovedAfter(_) | Unused::Stay => Ok(()),
        }
    }
}

fn rule_name(space: &str) -> Result<String, FileError> {
    match space.strip_suffix('*') {
        Some("") => Ok(space.to_owned()),
        Some(beginning) => naming::space_name(beginning).map(|beginning| format!("{beginning}*")),
        None => naming::space_name(space),
    }
}

/// Gives the SQL that names the rule of a space, or null; `space` is a column or a parameter.
///
/// The order says nothing of `space`: there SQLite finds no column of a query around.
pub(super) fn rule_of(space: &str) -> String {
    format!(
        "(SELECT best.name FROM us_file_rule best WHERE best.name = {space} \
         OR (substr(best.name, length(best.name), 1) = '*' \
         AND substr({space}, 1, length(best.name) - 1) = substr(best.name, 1, length(best.name) - 1)) \
         ORDER BY CASE WHEN substr(best.name, length(best.name), 1) = '*' THEN 1 ELSE 0 END, \
         length(best.name) DESC LIMIT 1)"
    )
}

/// Reads the rule of a space within a transaction.
pub(super) async fn of(
    executor: &DatabaseExecutor<'_>,
    backend: Backend,
    space: &str,
) -> Result<SpaceRule, DbErr> {
    let sql = format!(
        "SELECT name, unused_ms, shares, max_bytes, max_files FROM us_file_rule WHERE name = {}",
        rule_of("CAST($1 AS text)")
    );
    let row = executor.query_one_raw(backend.statement(&sql, [space.into()])).await?;
    row.as_ref().map_or(Ok(SpaceRule::default()), read)
}

fn read(row: &QueryResult) -> Result<SpaceRule, DbErr> {
    let unused: Option<i64> = row.try_get("", "unused_ms")?;
    let shares: i64 = row.try_get("", "shares")?;
    let max_bytes: Option<i64> = row.try_get("", "max_bytes")?;
    let max_files: Option<i64> = row.try_get("", "max_files")?;
    let whole = |number: i64| u64::try_from(number).unwrap_or(0);
    let unused = unused.map(|time| Unused::RemovedAfter(Duration::from_millis(whole(time))));
    Ok(SpaceRule {
        unused: unused.unwrap_or_default(),
        sharing: if shares == 0 { Sharing::Private } else { Sharing::Shared },
        max_bytes: max_bytes.map(whole),
        max_files: max_files.map(whole),
    })
}

fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Rows {
    async fn set_rule(&self, name: &str, rule: SpaceRule) -> Result<(), DatabaseError> {
        let backend = self.database.backend();
        let sql = format!(
            "INSERT INTO us_file_rule (name, unused_ms, since_ms, shares, max_bytes, max_files) \
             VALUES ($1, $2, {now}, $3, $4, $5) ON CONFLICT (name) DO UPDATE SET \
             since_ms = CASE WHEN coalesce(us_file_rule.unused_ms, -1) = coalesce(excluded.unused_ms, -1) \
             THEN us_file_rule.since_ms ELSE excluded.since_ms END, unused_ms = excluded.unused_ms, \
             shares = excluded.shares, max_bytes = excluded.max_bytes, max_files = excluded.max_files",
            now = backend.now_ms()
        );
        let unused = match rule.unused {
            Unused::Stay => None,
            Unused::RemovedAfter(time) => {
                Some(stored(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
            }
        };
        let values: [Value; 5] = [
            name.into(),
            unused.into(),
            i64::from(rule.sharing == Sharing::Shared).into(),
            rule.max_bytes.map(stored).into(),
            rule.max_files.map(stored).into(),
        ];
        let statement = backend.statement(&sql, values);
        let set = self.database.step(move |executor| {
            let statement = statement.clone();
            Box::pin(async move { executor.execute_raw(statement).await.map(|_| ()) })
        });
        set.await
    }

    async fn forget_rule(&self, name: &str) -> Result<bool, DatabaseError> {
        let sql = "DELETE FROM us_file_rule WHERE name = $1";
        let statement = self.database.backend().statement(sql, [name.into()]);
        let forgotten = self.database.step(move |executor| {
            let statement = statement.clone();
            Box::pin(async move { Ok(executor.execute_raw(statement).await?.rows_affected() == 1) })
        });
        forgotten.await
    }

    async fn rules(&self) -> Result<Vec<NamedRule>, DatabaseError> {
        let sql = "SELECT name, unused_ms, shares, max_bytes, max_files FROM us_file_rule \
                   ORDER BY name LIMIT $1";
        let statement = self.database.backend().statement(sql, [MOST.into()]);
        let rules = self.database.read(move |executor| {
            let statement = statement.clone();
            Box::pin(async move {
                let rows = executor.query_all_raw(statement).await?;
                let rule = |row: &QueryResult| -> Result<NamedRule, DbErr> {
                    Ok(NamedRule { space: row.try_get("", "name")?, rule: read(row)? })
                };
                rows.iter().map(rule).collect::<Result<Vec<NamedRule>, DbErr>>()
            })
        });
        rules.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f7_a_rule_is_for_a_space_or_for_a_beginning() {
        for good in ["avatars", "user-*", "*"] {
            assert_eq!(rule_name(good).unwrap(), good);
        }
        for bad in ["", "a/b", "a/*", "..", "..*"] {
            assert!(matches!(rule_name(bad), Err(FileError::BadName { field: "space" })), "{bad}");
        }
    }

    #[test]
    fn f7_a_rule_that_would_remove_what_was_just_written_is_refused() {
        let rule = |time: Duration| {
            let unused = Unused::RemovedAfter(time);
            SpaceRule { unused, ..SpaceRule::default() }.check()
        };
        for bad in [Duration::ZERO, Duration::from_millis(999)] {
            let refused = rule(bad);
            assert!(
                matches!(refused, Err(FileError::BadRule { field: "unused", .. })),
                "{bad:?}: {refused:?}"
            );
        }
        assert!(rule(Duration::from_secs(1)).is_ok());
        assert!(SpaceRule::default().check().is_ok());
    }

    #[test]
    fn a_rule_is_told_in_seconds() {
        let unused = Unused::RemovedAfter(Duration::from_secs(90));
        let rule = SpaceRule { unused, sharing: Sharing::Shared, ..SpaceRule::default() };
        let told = serde_json::to_value(NamedRule { space: "a*".to_owned(), rule }).unwrap();
        assert_eq!(
            told,
            serde_json::json!({
                "space": "a*", "unused_seconds": 90, "sharing": "shared",
                "max_bytes": null, "max_files": null,
            })
        );
        let told = serde_json::to_value(SpaceRule::default()).unwrap();
        assert_eq!(told["unused_seconds"], serde_json::Value::Null);
        assert_eq!(told["sharing"], "private");
    }
}
