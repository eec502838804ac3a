//! What is known of files: a row for each, and one for each space, which counts.
//!
//! A file is written under an id that nobody knows (`writing`), and gets its name when all of it is there (`ready`), in the
//! transaction that takes the name away from the one that had it before (`gone`) and counts both. So whoever asks for a name
//! finds the old file or the new one, on every node, and whoever reads the old one reads on to its end: its content stays for
//! [`GRACE`](super::sweep::GRACE).
//!
//! | the process dies | what is left | who tidies up |
//! |---|---|---|
//! | while a file is written, or before its name is given | a row `writing`, and a part of its content or all of it | the duty, when nothing was heard of it for [`SILENCE`](super::sweep::SILENCE) |
//! | while the name is given | all of it or nothing: it is one transaction | nobody, or as above |
//! | after that | the content of the one before | the duty, as ever |
//! | while content is removed | the rest of it, and the row | the duty, the next time |
//!
//! A process that stands still for longer than [`SILENCE`](super::sweep::SILENCE) while it writes, and goes on, finds its row
//! `gone` and gives no name.
//!
//! The row of a space is locked before those of its files.

mod leftovers;
mod room;

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, QueryResult, Statement, TryGetable, Value};

use super::encryption::WrappedKey;
use super::info::{FileInfo, PutWhen, SpaceInfo};
use super::points::{self, Point};
use super::rules::{Sharing, SpaceRule};
use super::shared::Written;
use super::{once, owners, rules, shared};
use crate::database::{Backend, Database, DatabaseError};

#[cfg(test)]
pub(super) use leftovers::due;
pub(super) use leftovers::{Behind, INDEXED, Leftover};
pub(super) use room::{NoRoom, Room};

/// Most files of one space.
pub(super) const MAX_FILES: u64 = 1_000_000;

/// The rows of files; a cheap clone.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub(super) database: Database,
}

/// A file that is about to be written.
#[derive(Debug, Clone)]
pub(super) struct NewFile {
    pub(super) id: String,
    pub(super) space: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) piece: u64,
    pub(super) place: &'static str,
    /// What opens it, where it is encrypted.
    pub(super) key: Option<WrappedKey>,
}

/// What is known of a file when all of it is there.
#[derive(Debug, Clone)]
pub(super) struct Finished {
    pub(super) file: NewFile,
    pub(super) bytes: u64,
    pub(super) sha256: String,
    pub(super) when: PutWhen,
    /// How many bytes the space may have.
    pub(super) space_bytes: u64,
}

/// Answer to [`Rows::publish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    /// It has its name; when it was given, by the database's clock.
    In { created_ms: u64 },
    /// The space does not take it.
    NoRoom(NoRoom),
    /// What is there is not what the caller wanted to be there.
    Changed,
    /// What was written has been given up meanwhile.
    Gone,
}

/// Answer to [`Rows::delete`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deleted {
    Out,
    /// There is none of this name.
    None,
    /// It is another one than the caller knows.
    Changed,
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileRow {
    pub(super) info: FileInfo,
    pub(super) piece: u64,
    pub(super) place: String,
    /// Under which id its content lies: its own, or that of a file which had the same before.
    pub(super) content: String,
    /// What opens it, where it is encrypted.
    pub(super) key: Option<WrappedKey>,
}

const COLUMNS: &str = "id, space, name, kind, bytes, piece, sha256, place, created_ms, content, \
     key_name, key_sealed";
/// Gives a space a row if it has none, and locks it.
pub(super) const ENTER: &str = "INSERT INTO us_file_space (name, bytes, files) VALUES ($1, 0, 0) \
     ON CONFLICT (name) DO UPDATE SET files = us_file_space.files RETURNING bytes, files";
pub(super) const COUNT: &str = "UPDATE us_file_space SET bytes = $2, files = $3 WHERE name = $1";
const OF_NAME: &str =
    "SELECT id, bytes FROM us_file WHERE space = $1 AND name = $2 AND state = 'ready'";

impl Rows {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }

    fn backend(&self) -> Backend {
        self.database.backend()
    }

    fn statement(&self, sql: &str, values: Vec<Value>) -> Statement {
        self.backend().statement(sql, values)
    }

    /// Notes a file before anything of it is written, so that what is left of it is found; gives what room there is for it.
    pub(super) async fn begin(&self, file: &NewFile) -> Result<Room, DatabaseError> {
        let (backend, now) = (self.backend(), self.backend().now_ms());
        let insert = format!(
            "INSERT INTO us_file \
             (id, space, name, kind, bytes, piece, sha256, place, state, created_ms, touched_ms, \
             key_name, key_sealed) \
             VALUES ($1, $2, $3, $4, 0, $5, '', $6, 'writing', {now}, {now}, $7, $8)"
        );
        let (under, key): (Option<String>, Option<String>) =
            file.key.clone().map(|key| (key.under, key.text)).unzip();
        let values: Vec<Value> = vec![
            file.id.clone().into(),
            file.space.clone().into(),
            file.name.clone().into(),
            file.kind.clone().into(),
            stored(file.piece),
            file.place.into(),
            under.into(),
            key.into(),
        ];
        let insert = self.statement(&insert, values);
        let (space, name) = (file.space.clone(), file.name.clone());
        let room = self.database.transaction(move |executor| {
            let (insert, space, name) = (insert.clone(), space.clone(), name.clone());
            Box::pin(async move {
                executor.execute_raw(insert).await?;
                room::look(executor, backend, (&space, &name)).await
            })
        });
        room.await
    }

    /// Notes that a file is still being written; false when it has been given up.
    pub(super) async fn touch(&self, id: &str) -> Result<bool, DatabaseError> {
        let now = self.backend().now_ms();
        let sql =
            format!("UPDATE us_file SET touched_ms = {now} WHERE id = $1 AND state = 'writing'");
        Ok(self.change(self.statement(&sql, vec![id.into()])).await? == 1)
    }

    /// Gives a file that was written its name; the one that had it before loses it.
    pub(super) async fn publish(&self, finished: &Finished) -> Result<Published, DatabaseError> {
        let publishing = Publishing::new(self.backend(), finished);
        let published = self.database.transaction(move |executor| {
            let publishing = publishing.clone();
            Box::pin(async move {
                let Some(space) = executor.query_one_raw(publishing.enter.clone()).await? else {
                    return Ok(Published::Gone);
                };
                if executor.query_one_raw(publishing.mine.clone()).await?.is_none() {
                    return Ok(Published::Gone);
                }
                let old = executor.query_one_raw(publishing.old.clone()).await?;
                let old: Option<Old> = old.map(|row| Old::read(&row)).transpose()?;
                let counts = (space.try_get("", "bytes")?, space.try_get("", "files")?);
                let rule = rules::of(executor, publishing.backend, &publishing.space).await?;
                let counts = match publishing.decide(counts, old.as_ref(), &rule) {
                    Ok(counts) => counts,
                    Err(refused) => return Ok(refused),
                };
                if let Some(once) = &publishing.once
                    && executor.execute_raw(once.clone()).await?.rows_affected() == 0
                {
                    return Ok(Published::Changed);
                }
                if let Some(old) = old {
                    executor.execute_raw(publishing.give_up(&old.id)).await?;
                }
                executor.execute_raw(publishing.ready.clone()).await?;
                if rule.sharing == Sharing::Shared {
                    shared::share(executor, publishing.backend, &publishing.written).await?;
                }
                executor.execute_raw(publishing.count(counts)).await?;
                let row = executor.query_one_raw(publishing.look.clone()).await?;
                let created: i64 = row.map_or(Ok(0), |row| row.try_get("", "created_ms"))?;
                points::pass(Point::Named).await;
                Ok(Published::In { created_ms: u64::try_from(created).unwrap_or(0) })
            })
        });
        published.await
    }

    /// Gives up what is being written, unless it has got its name: whoever gave it that may not have heard so. False when it
    /// was not being written any more.
    pub(super) async fn give_up(&self, id: &str) -> Result<bool, DatabaseError> {
        let sql = gone(self.backend(), "id = $1 AND state = 'writing'");
        Ok(self.change(self.statement(&sql, vec![id.into()])).await? == 1)
    }

    /// Says whether there is a row, whatever its state, or its content is kept for other files.
    pub(super) async fn knows(&self, id: &str) -> Result<bool, DatabaseError> {
        let sql = "SELECT id FROM us_file WHERE id = $1 \
                   UNION ALL SELECT id FROM us_file_content WHERE id = $1";
        Ok(!self.rows(self.statement(sql, vec![id.into()])).await?.is_empty())
    }

    /// Takes a file its name away; `version` is the one that it must be.
    pub(super) async fn delete(
        &self,
        space: &str,
        name: &str,
        version: Option<&str>,
    ) -> Result<Deleted, DatabaseError> {
        let backend = self.backend();
        let enter = self.statement(ENTER, vec![space.into()]);
        let old = self.statement(OF_NAME, vec![space.into(), name.into()]);
        let unused = self.statement(owners::FORGET, vec![space.into(), name.into()]);
        let (space, version) = (space.to_owned(), version.map(str::to_owned));
        let deleted = self.database.transaction(move |executor| {
            let (enter, old, unused) = (enter.clone(), old.clone(), unused.clone());
            let (space, version) = (space.clone(), version.clone());
            Box::pin(async move {
                let Some(counts) = executor.query_one_raw(enter).await? else {
                    return Ok(Deleted::None);
                };
                let Some(old) = executor.query_one_raw(old).await? else {
                    return Ok(Deleted::None);
                };
                let old = Old::read(&old)?;
                if version.is_some_and(|version| version != old.id) {
                    return Ok(Deleted::Changed);
                }
                let bytes: i64 = counts.try_get("", "bytes")?;
                let files: i64 = counts.try_get("", "files")?;
                let gone = gone(backend, "id = $1");
                executor.execute_raw(backend.statement(&gone, [old.id.into()])).await?;
                executor.execute_raw(unused).await?;
                let left: [Value; 3] =
                    [space.into(), (bytes - old.bytes).into(), (files - 1).into()];
                executor.execute_raw(backend.statement(COUNT, left)).await?;
                Ok(Deleted::Out)
            })
        });
        deleted.await
    }

    /// Finds a file by its name.
    pub(super) async fn find(
        &self,
        space: &str,
        name: &str,
    ) -> Result<Option<FileRow>, DatabaseError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM us_file WHERE space = $1 AND name = $2 AND state = 'ready'"
        );
        let rows = self.rows(self.statement(&sql, vec![space.into(), name.into()])).await?;
        rows.first().map(read_file).transpose()
    }

    /// Lists files by name, those behind `after`.
    pub(super) async fn list(
        &self,
        space: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<FileInfo>, DatabaseError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM us_file WHERE space = $1 AND name > $2 AND state = 'ready' \
             ORDER BY name LIMIT $3"
        );
        let values = vec![space.into(), after.into(), i64::from(limit).into()];
        let rows = self.rows(self.statement(&sql, values)).await?;
        rows.iter().map(|row| read_file(row).map(|file| file.info)).collect()
    }

    /// Lists spaces in which there is something by name, those behind `after`.
    pub(super) async fn spaces(
        &self,
        after: &str,
        limit: u32,
    ) -> Result<Vec<SpaceInfo>, DatabaseError> {
        let sql = "SELECT name, bytes, files FROM us_file_space WHERE name > $1 AND files > 0 \
                   ORDER BY name LIMIT $2";
        let rows = self.statement(sql, vec![after.into(), i64::from(limit).into()]);
        let space = |row: &QueryResult| -> Result<SpaceInfo, DatabaseError> {
            Ok(SpaceInfo {
                name: get(row, "name")?,
                bytes: number(row, "bytes")?,
                files: number(row, "files")?,
            })
        };
        self.rows(rows).await?.iter().map(space).collect()
    }

    async fn rows(&self, query: Statement) -> Result<Vec<QueryResult>, DatabaseError> {
        let rows = self.database.read(move |executor| {
            let query = query.clone();
            Box::pin(async move { executor.query_all_raw(query).await })
        });
        rows.await
    }

    async fn change(&self, update: Statement) -> Result<u64, DatabaseError> {
        let changed = self.database.step(move |executor| {
            let update = update.clone();
            Box::pin(async move { Ok(executor.execute_raw(update).await?.rows_affected()) })
        });
        changed.await
    }
}

/// The one that has a name now.
struct Old {
    id: String,
    bytes: i64,
}

impl Old {
    fn read(row: &QueryResult) -> Result<Self, sea_orm::DbErr> {
        Ok(Self { id: row.try_get("", "id")?, bytes: row.try_get("", "bytes")? })
    }
}

/// The statements of [`Rows::publish`], and what it decides.
#[derive(Clone)]
struct Publishing {
    backend: Backend,
    enter: Statement,
    mine: Statement,
    old: Statement,
    ready: Statement,
    look: Statement,
    /// Uses up the key under which it is written, if there is one.
    once: Option<Statement>,
    space: String,
    written: Written,
    bytes: i64,
    space_bytes: u64,
    when: PutWhen,
}

impl Publishing {
    fn new(backend: Backend, finished: &Finished) -> Self {
        let Finished { file, bytes, sha256, when, space_bytes } = finished;
        let (now, lock) = (backend.now_ms(), backend.for_update());
        let space = || Value::from(file.space.clone());
        let id = || Value::from(file.id.clone());
        let mine = format!("SELECT id FROM us_file WHERE id = $1 AND state = 'writing'{lock}");
        let ready = format!(
            "UPDATE us_file SET state = 'ready', bytes = $2, sha256 = $3, created_ms = {now}, \
             touched_ms = {now} WHERE id = $1"
        );
        let look = "SELECT created_ms FROM us_file WHERE id = $1";
        Self {
            backend,
            enter: backend.statement(ENTER, [space()]),
            mine: backend.statement(&mine, [id()]),
            old: backend.statement(OF_NAME, [space(), file.name.clone().into()]),
            ready: backend.statement(&ready, [id(), stored(*bytes), sha256.clone().into()]),
            look: backend.statement(look, [id()]),
            once: once::use_up(backend, when),
            space: file.space.clone(),
            written: Written::of(finished),
            bytes: signed(*bytes),
            space_bytes: *space_bytes,
            when: when.clone(),
        }
    }

    /// Gives how many bytes and files the space has afterwards, or why not.
    fn decide(
        &self,
        (bytes, files): (i64, i64),
        old: Option<&Old>,
        rule: &SpaceRule,
    ) -> Result<(i64, i64), Published> {
        if !self.when.allows(old.map(|old| old.id.as_str())) {
            return Err(Published::Changed);
        }
        let whole = |number: i64| u64::try_from(number).unwrap_or(0);
        let replaced = old.map(|old| whole(old.bytes));
        let room = Room { bytes: whole(bytes), files: whole(files), replaced, rule: *rule };
        room.admit(whole(self.bytes), self.space_bytes).map_err(Published::NoRoom)?;
        let freed = old.map_or(0, |old| old.bytes);
        let bytes_after = (bytes - freed).saturating_add(self.bytes);
        let files_after = files + i64::from(old.is_none());
        Ok((bytes_after, files_after))
    }

    fn give_up(&self, id: &str) -> Statement {
        self.backend.statement(&gone(self.backend, "id = $1"), [id.into()])
    }

    fn count(&self, (bytes, files): (i64, i64)) -> Statement {
        let values: [Value; 3] = [self.space.clone().into(), bytes.into(), files.into()];
        self.backend.statement(COUNT, values)
    }
}

/// The statement by which files lose their name, or are given up; their content is removed after the grace.
pub(super) fn gone(backend: Backend, which: &str) -> String {
    let now = backend.now_ms();
    format!("UPDATE us_file SET state = 'gone', touched_ms = {now} WHERE {which}")
}

fn read_file(row: &QueryResult) -> Result<FileRow, DatabaseError> {
    let (id, content): (String, Option<String>) = (get(row, "id")?, get(row, "content")?);
    let key: (Option<String>, Option<String>) = (get(row, "key_name")?, get(row, "key_sealed")?);
    Ok(FileRow {
        content: content.unwrap_or_else(|| id.clone()),
        info: FileInfo {
            space: get(row, "space")?,
            name: get(row, "name")?,
            content_type: get(row, "kind")?,
            bytes: number(row, "bytes")?,
            sha256: get(row, "sha256")?,
            version: id,
            created_ms: number(row, "created_ms")?,
        },
        piece: number(row, "piece")?.max(1),
        place: get(row, "place")?,
        key: key.0.zip(key.1).map(|(under, text)| WrappedKey { under, text }),
    })
}

fn get<T: TryGetable>(row: &QueryResult, column: &str) -> Result<T, DatabaseError> {
    Ok(row.try_get("", column)?)
}

fn number(row: &QueryResult, column: &str) -> Result<u64, DatabaseError> {
    let number: i64 = get(row, column)?;
    Ok(u64::try_from(number).unwrap_or(0))
}

/// Gives a number as a column keeps it.
fn stored(number: u64) -> Value {
    signed(number).into()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn millis(time: Duration) -> Value {
    stored(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
