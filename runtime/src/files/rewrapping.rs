//! Brings encrypted files under the first key, and tells how many are under which: so a key that came out of use can be
//! taken away.
//!
//! What changes is the row of a file, not its content: the key of the file is opened with the former key and sealed under the
//! new one. A row is changed only while it is as it was read, so two who do this at once do no harm, nor one that stood
//! still. Whoever is just reading the file has its key already.
//!
//! A file that does not open is passed over, counted, and found again by the next run. A run begins anywhere and goes round
//! once, so those keep none of the others from coming under the first key.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DbErr, QueryResult, Value};
use serde::Serialize;
use tokio::time::Instant;

use super::encryption::{KeyRole, WrappedKey};
use super::error::FileError;
use super::rows::Rows;
use super::sweep::Start;
use super::{Files, Store};
use crate::database::DatabaseError;
use crate::duty::DutyRun;

pub(super) mod admin;

/// So many are looked for together, and so many times in one run.
const PAGE: u32 = 200;
const PAGES: usize = 50;
/// After which time a run begins with no further one: the sweep before it may have taken long, and the scheduler ends both.
const LIMIT: Duration = Duration::from_secs(60);

/// What one run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Rewrapped {
    /// Files that came under the first key.
    pub(super) files: u64,
    /// Files that did not open with the key that they are said to be under.
    pub(super) unopened: u64,
}

/// Where a run begins, and how far it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    pub(super) start: Start,
    /// How many files are looked for together, and how often.
    pub(super) page: u32,
    pub(super) pages: usize,
}

/// How many files are encrypted under a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct UnderKey {
    /// Its name.
    pub(super) key: String,
    /// What it is to the node that was asked.
    pub(super) role: KeyRole,
    pub(super) files: u64,
}

/// Brings files under the first key, if there is one.
pub(super) async fn run_once(store: &Store, run: &DutyRun) -> Result<Rewrapped, FileError> {
    let reach = Reach { start: Start::drawn(), page: PAGE, pages: PAGES };
    let rewrapped = run_within(store, reach, run).await?;
    if rewrapped.unopened > 0 {
        tracing::warn!(
            files = rewrapped.unopened,
            "encrypted files do not open with the key of UNDERSTUDY_FILES_ENCRYPTION_KEYS that they are under: they stay under it, and it must stay"
        );
    }
    Ok(rewrapped)
}

/// The same from another beginning, and so far.
pub(super) async fn run_within(
    store: &Store,
    Reach { start, page, pages }: Reach,
    run: &DutyRun,
) -> Result<Rewrapped, FileError> {
    let (mut done, mut pages, begun) = (Rewrapped::default(), 0..pages, Instant::now());
    let (mut former, begin) = (store.keys.former(), start.id());
    // Each key comes first now and then, or those behind one of many files that do not open would not come at all.
    let first = start.of(former.len());
    former.rotate_left(first);
    // Ids are hexadecimal digits, so a g is behind all of them.
    let halves = [(begin.clone(), "g".to_owned()), (String::new(), begin)];
    for key in former {
        for (mut after, until) in halves.clone() {
            for _ in pages.by_ref() {
                let found = store.rows.under_key(key, (&after, &until), page).await?;
                let Some((last, _)) = found.last() else { break };
                after.clone_from(last);
                for (id, wrapped) in &found {
                    if run.is_cancelled() || begun.elapsed() >= LIMIT {
                        return Ok(done);
                    }
                    let Some(new) = store.keys.rewrap(id, wrapped) else {
                        done.unopened += 1;
                        continue;
                    };
                    done.files += u64::from(store.rows.rewrap(id, wrapped, &new).await?);
                }
            }
        }
    }
    Ok(done)
}

impl Files {
    /// Counts the encrypted files under each key.
    pub(super) async fn under_keys(&self) -> Result<Vec<UnderKey>, FileError> {
        let store = self.store()?;
        let counted = store.rows.count_by_key().await?;
        let under_key = |(key, files): (String, u64)| {
            let role = store.keys.role(&key);
            UnderKey { key, role, files }
        };
        Ok(counted.into_iter().map(under_key).collect())
    }
}

impl Rows {
    /// Lists some files under a key, those behind an id and up to another. Those that are gone are read by nobody who does not read them yet.
    async fn under_key(
        &self,
        key: &str,
        (after, until): (&str, &str),
        limit: u32,
    ) -> Result<Vec<(String, WrappedKey)>, DatabaseError> {
        let sql = "SELECT id, key_name, key_sealed FROM us_file WHERE key_name = $1 AND id > $2 \
                   AND id <= $3 AND key_sealed IS NOT NULL AND state <> 'gone' \
                   ORDER BY id LIMIT $4";
        let values: [Value; 4] = [key.into(), after.into(), until.into(), i64::from(limit).into()];
        let query = self.database.backend().statement(sql, values);
        let found = self.database.read(move |executor| {
            let query = query.clone();
            Box::pin(async move {
                let rows = executor.query_all_raw(query).await?;
                let wrapped = |row: &QueryResult| -> Result<(String, WrappedKey), DbErr> {
                    let under = row.try_get("", "key_name")?;
                    let text = row.try_get("", "key_sealed")?;
                    Ok((row.try_get("", "id")?, WrappedKey { under, text }))
                };
                rows.iter().map(wrapped).collect::<Result<Vec<(String, WrappedKey)>, DbErr>>()
            })
        });
        found.await
    }

    /// Puts a key in place of another one; false when it is not that one any more.
    async fn rewrap(
        &self,
        id: &str,
        old: &WrappedKey,
        new: &WrappedKey,
    ) -> Result<bool, DatabaseError> {
        let sql = "UPDATE us_file SET key_name = $3, key_sealed = $4 \
                   WHERE id = $1 AND key_sealed = $2";
        let values: [Value; 4] =
            [id.into(), old.text.clone().into(), new.under.clone().into(), new.text.clone().into()];
        let update = self.database.backend().statement(sql, values);
        let changed = self.database.step(move |executor| {
            let update = update.clone();
            Box::pin(async move { Ok(executor.execute_raw(update).await?.rows_affected() == 1) })
        });
        changed.await
    }

    /// Counts the files under each key.
    async fn count_by_key(&self) -> Result<Vec<(String, u64)>, DatabaseError> {
        let sql = "SELECT key_name, CAST(count(*) AS bigint) AS files FROM us_file \
                   WHERE key_name IS NOT NULL AND state <> 'gone' GROUP BY key_name \
                   ORDER BY key_name";
        let query = self.database.backend().statement(sql, []);
        let counted = self.database.read(move |executor| {
            let query = query.clone();
            Box::pin(async move {
                let rows = executor.query_all_raw(query).await?;
                let count = |row: &QueryResult| -> Result<(String, u64), DbErr> {
                    let files: i64 = row.try_get("", "files")?;
                    Ok((row.try_get("", "key_name")?, u64::try_from(files).unwrap_or(0)))
                };
                rows.iter().map(count).collect::<Result<Vec<(String, u64)>, DbErr>>()
            })
        });
        counted.await
    }
}
