//! What is written once for a key, however often and at whichever node it is tried: a row for each key under which a file got
//! its name, written in the transaction that gives it. So an upload that fails uses nothing up, and of many at once one succeeds.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DbErr, Statement, Value};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

use super::error::FileError;
use super::info::PutWhen;
use super::naming;
use super::rows::Rows;
use crate::database::Backend;

/// For how long a key is remembered: longer than a link can be good, by a day for clocks that differ.
const KEPT: Duration = Duration::from_secs(8 * 86_400);
/// How many keys are forgotten at once.
const PAGE: i64 = 100;

/// The table of keys that were used; see [`super::schema`].
pub(super) struct Table;

impl MigrationName for Table {
    fn name(&self) -> &'static str {
        "files_0005_once"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's macro does not see them, so neither may this"
)]
#[async_trait::async_trait]
impl MigrationTrait for Table {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let create = "CREATE TABLE us_file_once (
                id text NOT NULL PRIMARY KEY,
                used_ms bigint NOT NULL
            );
            CREATE INDEX us_file_once_used ON us_file_once (used_ms)";
        manager.get_connection().execute_unprepared(create).await.map(|_| ())
    }
}

/// The statement that uses up the key of a condition, if it has one. It changes no row when the key was used before; while
/// somebody else is about to use it, it waits for what becomes of that.
pub(super) fn use_up(backend: Backend, when: &PutWhen) -> Option<Statement> {
    let key = match when {
        PutWhen::Once(key) => key.clone(),
        PutWhen::Always | PutWhen::Absent | PutWhen::Version(_) => return None,
    };
    let now = backend.now_ms();
    let sql = format!(
        "INSERT INTO us_file_once (id, used_ms) VALUES ($1, {now}) ON CONFLICT (id) DO NOTHING"
    );
    let values: [Value; 1] = [key.into()];
    Some(backend.statement(&sql, values))
}

impl Rows {
    /// Says whether a key was used.
    ///
    /// # Errors
    /// [`FileError::BadName`] when it can be none; else when it cannot be looked for now.
    pub(super) async fn is_used(&self, key: &str) -> Result<bool, FileError> {
        if naming::checked(key).is_none() {
            return Err(FileError::BadName { field: "key" });
        }
        let sql = "SELECT id FROM us_file_once WHERE id = $1";
        let values: [Value; 1] = [key.into()];
        let query = self.database.backend().statement(sql, values);
        let found = self.database.read(move |executor| {
            let query = query.clone();
            Box::pin(async move { executor.query_one_raw(query).await })
        });
        Ok(found.await?.is_some())
    }

    /// Forgets some keys that nobody can use any more; what is left is left to the next one.
    pub(super) async fn forget_used(&self) {
        let now = self.database.backend().now_ms();
        let sql = format!(
            "DELETE FROM us_file_once WHERE id IN \
             (SELECT id FROM us_file_once WHERE used_ms <= {now} - $1 ORDER BY used_ms LIMIT $2)"
        );
        let kept = i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX);
        let values: [Value; 2] = [kept.into(), PAGE.into()];
        let delete = self.database.backend().statement(&sql, values);
        let forgotten = self.database.step(move |executor| {
            let delete = delete.clone();
            Box::pin(async move { executor.execute_raw(delete).await.map(|_| ()) })
        });
        if let Err(error) = forgotten.await {
            tracing::debug!(%error, "keys of uploads that were used are forgotten later");
        }
    }
}
