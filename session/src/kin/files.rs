//! Temporary files of sessions, in the database: a row for each, and its contents in pieces, so that no file is ever in
//! memory as a whole.
//!
//! A file is written under an id that nobody knows, and gets its name when all of it is there, in one transaction that takes
//! the file of that name away. So whoever reads sees the old one or the new one, and who reads the old one then is told that
//! it is gone. Bytes are counted in the row of the session as they are written, under its lock, so that no number of uploads
//! at once goes beyond the limit.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, QueryResult, Value};

use super::{Kin, get, number, stored};
use crate::record::Locator;
use crate::sealing::Place;
use crate::store::StoreError;

/// How many bytes of a file are in one row, but for the last.
pub(crate) const CHUNK: usize = 262_144;
/// Most files of one session, those that are being written among them.
pub(crate) const MAX_FILES: u32 = 100;
/// How many abandoned uploads one sweep removes.
const SWEPT: i64 = 100;

/// Whose files: what another user kept in the same session has another scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) session: Locator,
    pub(crate) scope: String,
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) bytes: u64,
    pub(crate) chunks: u64,
    pub(crate) created_ms: u64,
}

/// Answer to [`Kin::begin_file`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    In,
    /// The session has as many files as it may have.
    TooMany,
    /// The session has just been removed.
    Gone,
}

/// Answer to [`Kin::add_chunk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    In,
    /// The files of the session would be larger than they may be.
    Full,
    /// The session, or what was written of the file, has been removed.
    Gone,
}

const COLUMNS: &str = "id, name, kind, bytes, chunks, created_ms";

impl Kin {
    /// Begins to write a file under an id that was drawn for it.
    pub(crate) async fn begin_file(
        &self,
        folder: &Folder,
        id: &str,
        name: &str,
        kind: &str,
    ) -> Result<Begun, StoreError> {
        let now = self.backend().now_ms();
        let insert = format!(
            "INSERT INTO us_session_file \
             (id, session, scope, name, kind, bytes, chunks, ready, created_ms) \
             VALUES ($1, $2, $3, $4, $5, 0, 0, false, {now})"
        );
        let session = folder.session.to_string();
        let values: Vec<Value> = vec![
            id.to_owned().into(),
            session.clone().into(),
            folder.scope.clone().into(),
            name.to_owned().into(),
            kind.to_owned().into(),
        ];
        let count = "UPDATE us_session_kin SET files = files + 1 WHERE session = $1";
        let statements = [
            self.ensure(folder.session),
            self.lock(folder.session),
            self.statement(count, vec![session.into()]),
            self.statement(&insert, values),
        ];
        let begun = self.database.transaction(move |executor| {
            let [ensure, lock, count, insert] = statements.clone();
            Box::pin(async move {
                executor.execute_raw(ensure).await?;
                let Some(row) = executor.query_one_raw(lock).await? else {
                    return Ok(Begun::Gone);
                };
                let files: i64 = row.try_get("", "files")?;
                if files >= i64::from(MAX_FILES) {
                    return Ok(Begun::TooMany);
                }
                executor.execute_raw(count).await?;
                executor.execute_raw(insert).await?;
                Ok(Begun::In)
            })
        });
        Ok(begun.await?)
    }

    /// Writes the next piece of a file; `number` counts from 0.
    pub(crate) async fn add_chunk(
        &self,
        session: Locator,
        id: &str,
        number: u64,
        bytes: &[u8],
    ) -> Result<Added, StoreError> {
        let most = i64::try_from(self.limits.session_bytes).unwrap_or(i64::MAX);
        let many = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        let closed = self.ring.close_bytes(Place::chunk(session, &place(id, number)), bytes);
        let grow = "UPDATE us_session_file SET bytes = bytes + $2, chunks = chunks + 1 \
                    WHERE id = $1 AND NOT ready AND chunks = $3";
        let count = "UPDATE us_session_kin SET bytes = bytes + $2 WHERE session = $1";
        let insert = "INSERT INTO us_session_file_chunk (file, number, data) VALUES ($1, $2, $3)";
        let statements = [
            self.lock(session),
            self.statement(grow, vec![id.to_owned().into(), many.into(), stored(number)]),
            self.statement(count, vec![session.to_string().into(), many.into()]),
            self.statement(insert, vec![id.to_owned().into(), stored(number), closed.into()]),
        ];
        let added = self.database.transaction(move |executor| {
            let [lock, grow, count, insert] = statements.clone();
            Box::pin(async move {
                let Some(row) = executor.query_one_raw(lock).await? else {
                    return Ok(Added::Gone);
                };
                let used: i64 = row.try_get("", "bytes")?;
                if used.saturating_add(many) > most {
                    return Ok(Added::Full);
                }
                if executor.execute_raw(grow).await?.rows_affected() == 0 {
                    return Ok(Added::Gone);
                }
                executor.execute_raw(count).await?;
                executor.execute_raw(insert).await?;
                Ok(Added::In)
            })
        });
        Ok(added.await?)
    }

    /// Gives a file that was written its name; the one that had it before goes. False when the session, or the file, has been
    /// removed meanwhile.
    pub(crate) async fn publish_file(
        &self,
        folder: &Folder,
        id: &str,
        name: &str,
    ) -> Result<bool, StoreError> {
        let session: Value = folder.session.to_string().into();
        let named = vec![session.clone(), folder.scope.clone().into(), name.to_owned().into()];
        let mine = "SELECT id FROM us_session_file WHERE id = $1 AND NOT ready";
        let old = "SELECT id, bytes FROM us_session_file \
                   WHERE session = $1 AND scope = $2 AND name = $3 AND ready";
        let ready = "UPDATE us_session_file SET ready = true WHERE id = $1";
        let statements = [
            self.lock(folder.session),
            self.statement(mine, vec![id.to_owned().into()]),
            self.statement(old, named),
            self.statement(ready, vec![id.to_owned().into()]),
        ];
        let backend = self.backend();
        let published = self.database.transaction(move |executor| {
            let [lock, mine, old, ready] = statements.clone();
            let session = session.clone();
            Box::pin(async move {
                let known = executor.query_one_raw(lock).await?.is_some();
                if !known || executor.query_one_raw(mine).await?.is_none() {
                    return Ok(false);
                }
                if let Some(row) = executor.query_one_raw(old).await? {
                    let id: String = row.try_get("", "id")?;
                    let bytes: i64 = row.try_get("", "bytes")?;
                    for (sql, values) in removal(&id, bytes, &session) {
                        executor.execute_raw(backend.statement(sql, values)).await?;
                    }
                }
                executor.execute_raw(ready).await?;
                Ok(true)
            })
        });
        Ok(published.await?)
    }

    /// Removes a file, ready or not.
    pub(crate) async fn drop_file(&self, session: Locator, id: &str) -> Result<bool, StoreError> {
        self.drop_found(session, id, "SELECT bytes FROM us_session_file WHERE id = $1").await
    }

    /// Removes what was written of a file, unless it has got its name meanwhile: whoever gave it that may not have heard the
    /// database say so.
    pub(crate) async fn drop_upload(&self, session: Locator, id: &str) -> Result<bool, StoreError> {
        let look = "SELECT bytes FROM us_session_file WHERE id = $1 AND NOT ready";
        self.drop_found(session, id, look).await
    }

    async fn drop_found(
        &self,
        session: Locator,
        id: &str,
        look: &'static str,
    ) -> Result<bool, StoreError> {
        let lock = self.lock(session);
        let look = self.statement(look, vec![id.to_owned().into()]);
        let (backend, id) = (self.backend(), id.to_owned());
        let session: Value = session.to_string().into();
        let dropped = self.database.transaction(move |executor| {
            let (lock, look, id) = (lock.clone(), look.clone(), id.clone());
            let session = session.clone();
            Box::pin(async move {
                executor.query_one_raw(lock).await?;
                let Some(row) = executor.query_one_raw(look).await? else { return Ok(false) };
                let bytes: i64 = row.try_get("", "bytes")?;
                for (sql, values) in removal(&id, bytes, &session) {
                    executor.execute_raw(backend.statement(sql, values)).await?;
                }
                Ok(true)
            })
        });
        Ok(dropped.await?)
    }

    /// Finds a file by its name.
    pub(crate) async fn find_file(
        &self,
        folder: &Folder,
        name: &str,
    ) -> Result<Option<FileRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM us_session_file \
             WHERE session = $1 AND scope = $2 AND name = $3 AND ready"
        );
        let values = vec![
            folder.session.to_string().into(),
            folder.scope.clone().into(),
            name.to_owned().into(),
        ];
        let rows = self.rows(self.statement(&sql, values)).await?;
        rows.first().map(read).transpose()
    }

    /// Lists the files of a session by name.
    pub(crate) async fn list_files(&self, folder: &Folder) -> Result<Vec<FileRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM us_session_file \
             WHERE session = $1 AND scope = $2 AND ready ORDER BY name"
        );
        let values = vec![folder.session.to_string().into(), folder.scope.clone().into()];
        let rows = self.rows(self.statement(&sql, values)).await?;
        rows.iter().map(read).collect()
    }

    /// Reads a piece of a file; `None` when it has been removed.
    pub(crate) async fn read_chunk(
        &self,
        session: Locator,
        id: &str,
        number: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT data FROM us_session_file_chunk WHERE file = $1 AND number = $2";
        let query = self.statement(sql, vec![id.to_owned().into(), stored(number)]);
        let rows = self.rows(query).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let closed: Vec<u8> = get(row, "data")?;
        Ok(Some(self.ring.open_bytes(Place::chunk(session, &place(id, number)), &closed)?))
    }

    /// Removes what was written of files that take too long; gives how many.
    pub(crate) async fn drop_stale_uploads(&self, limit: Duration) -> Result<u64, StoreError> {
        let now = self.backend().now_ms();
        let sql = format!(
            "SELECT id, session FROM us_session_file \
             WHERE NOT ready AND created_ms < {now} - $1 ORDER BY created_ms LIMIT $2"
        );
        let limit_ms = stored(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        let mut dropped = 0;
        for row in self.rows(self.statement(&sql, vec![limit_ms, SWEPT.into()])).await? {
            let id: String = get(&row, "id")?;
            let session = super::locator(&row, "session")?;
            dropped += u64::from(self.drop_upload(session, &id).await?);
        }
        Ok(dropped)
    }
}

/// Which piece of which file, for the cipher.
fn place(id: &str, number: u64) -> String {
    format!("{id}/{number}")
}

/// What takes a file away.
fn removal(id: &str, bytes: i64, session: &Value) -> [(&'static str, Vec<Value>); 3] {
    let id = || -> Vec<Value> { vec![id.to_owned().into()] };
    [
        ("DELETE FROM us_session_file_chunk WHERE file = $1", id()),
        ("DELETE FROM us_session_file WHERE id = $1", id()),
        (
            "UPDATE us_session_kin SET bytes = bytes - $2, files = files - 1 WHERE session = $1",
            vec![session.clone(), bytes.into()],
        ),
    ]
}

fn read(row: &QueryResult) -> Result<FileRow, StoreError> {
    Ok(FileRow {
        id: get(row, "id")?,
        name: get(row, "name")?,
        kind: get(row, "kind")?,
        bytes: number(row, "bytes")?,
        chunks: number(row, "chunks")?,
        created_ms: number(row, "created_ms")?,
    })
}

#[cfg(test)]
mod tests;
