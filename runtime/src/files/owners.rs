//! Who uses a file: references, which keep it from being removed as one that nobody needs.
//!
//! A reference says that something of the application, its *owner*, uses the file of a name, whichever version that has. It is
//! written and taken away in the transaction of the application that makes and removes the owner, so there is none without
//! an owner and no owner without its own.
//!
//! Whoever makes or takes away a reference touches the row of the file in the same transaction. So the statement by which
//! [`orphans`](super::orphans) removes files waits for it, finds another row than it has looked at, and leaves it; and the
//! time for which a file is unused begins when its last reference went.
//!
//! Locks are taken in this order: rows of files by id, then references.

use sea_orm::{ConnectionTrait as _, DatabaseExecutor, DbErr, QueryResult, Value};
use serde::Serialize;

use super::error::FileError;
use super::{Files, Space, naming};
use crate::database::Backend;

/// A file that is just being replaced is looked for again, so often.
const TRIES: usize = 3;
/// So many owners of a file are told at most.
const MOST: i64 = 1_000;
/// Forgets who uses a file.
pub(super) const FORGET: &str = "DELETE FROM us_file_reference WHERE space = $1 AND name = $2";

/// Something of the application that uses files: of which kind, and which one; `order` and `4812`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Owner {
    kind: String,
    key: String,
}

impl Owner {
    /// Names an owner. Both follow the rules for names of files.
    ///
    /// # Errors
    /// [`FileError::BadName`] with `owner.kind` or `owner.key`.
    pub fn new(kind: &str, key: &str) -> Result<Self, FileError> {
        let named = |text: &str, field: &'static str| {
            naming::checked(text).ok_or(FileError::BadName { field })
        };
        Ok(Self { kind: named(kind, "owner.kind")?, key: named(key, "owner.key")? })
    }

    /// Tells of which kind it is.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Tells which one it is.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl Space {
    /// Notes that somebody uses a file; false when there is no such file. Said twice it is noted once. It stays noted when the
    /// file is replaced, until it is [released](Self::release), its [owner goes](Files::release_all), or the file is deleted.
    ///
    /// # Errors
    /// [`FileError::BadName`]; else when it cannot be written now.
    pub async fn keep(&self, name: &str, owner: &Owner) -> Result<bool, FileError> {
        let (store, space) = self.entered()?;
        let (name, owner) = (naming::file_name(name)?, owner.clone());
        let database = &store.rows.database;
        let backend = database.backend();
        let kept = database.transaction(move |executor| {
            let (space, name, owner) = (space.clone(), name.clone(), owner.clone());
            Box::pin(async move { keep(executor, backend, (&space, &name), &owner).await })
        });
        Ok(kept.await?)
    }

    /// The same within a transaction of the application, best the one that makes the owner: both are in, or neither.
    ///
    /// # Errors
    /// What the database says; when `executor` is no transaction, or a name will not do.
    pub async fn keep_in(
        &self,
        executor: &DatabaseExecutor<'_>,
        name: &str,
        owner: &Owner,
    ) -> Result<bool, DbErr> {
        let (store, space) = self.entered().map_err(refused)?;
        let name = naming::file_name(name).map_err(refused)?;
        in_transaction(executor)?;
        keep(executor, store.rows.database.backend(), (&space, &name), owner).await
    }

    /// Notes that somebody does not use a file any more; says whether they did.
    ///
    /// # Errors
    /// As [`keep`](Self::keep).
    pub async fn release(&self, name: &str, owner: &Owner) -> Result<bool, FileError> {
        let (store, space) = self.entered()?;
        let (name, owner) = (naming::file_name(name)?, owner.clone());
        let database = &store.rows.database;
        let backend = database.backend();
        let released = database.transaction(move |executor| {
            let (space, name, owner) = (space.clone(), name.clone(), owner.clone());
            Box::pin(async move { release(executor, backend, (&space, &name), &owner).await })
        });
        Ok(released.await?)
    }

    /// The same within a transaction of the application.
    ///
    /// # Errors
    /// As [`keep_in`](Self::keep_in).
    pub async fn release_in(
        &self,
        executor: &DatabaseExecutor<'_>,
        name: &str,
        owner: &Owner,
    ) -> Result<bool, DbErr> {
        let (store, space) = self.entered().map_err(refused)?;
        let name = naming::file_name(name).map_err(refused)?;
        in_transaction(executor)?;
        release(executor, store.rows.database.backend(), (&space, &name), owner).await
    }

    /// Lists who uses a file, by kind and key, up to a thousand.
    ///
    /// # Errors
    /// [`FileError::BadName`]; else when it cannot be read now.
    pub async fn owners(&self, name: &str) -> Result<Vec<Owner>, FileError> {
        let (store, space) = self.entered()?;
        let name = naming::file_name(name)?;
        let sql = "SELECT kind, owner FROM us_file_reference WHERE space = $1 AND name = $2 \
                   ORDER BY kind, owner LIMIT $3";
        let database = &store.rows.database;
        let query = database.backend().statement(sql, [space.into(), name.into(), MOST.into()]);
        let owners = database.read(move |executor| {
            let query = query.clone();
            Box::pin(async move {
                let owner = |row: &QueryResult| -> Result<Owner, DbErr> {
                    Ok(Owner { kind: row.try_get("", "kind")?, key: row.try_get("", "owner")? })
                };
                let rows = executor.query_all_raw(query).await?;
                rows.iter().map(owner).collect::<Result<Vec<Owner>, DbErr>>()
            })
        });
        Ok(owners.await?)
    }
}

impl Files {
    /// Notes that an owner uses no file any more, in whichever space; gives how many it did.
    ///
    /// # Errors
    /// When it cannot be written now.
    pub async fn release_all(&self, owner: &Owner) -> Result<u64, FileError> {
        let database = &self.store()?.rows.database;
        let (backend, owner) = (database.backend(), owner.clone());
        let released = database.transaction(move |executor| {
            let owner = owner.clone();
            Box::pin(async move { release_all(executor, backend, &owner).await })
        });
        Ok(released.await?)
    }

    /// The same within the transaction of the application that removes the owner.
    ///
    /// # Errors
    /// What the database says; when `executor` is no transaction.
    pub async fn release_all_in(
        &self,
        executor: &DatabaseExecutor<'_>,
        owner: &Owner,
    ) -> Result<u64, DbErr> {
        let backend = self.store().map_err(refused)?.rows.database.backend();
        in_transaction(executor)?;
        release_all(executor, backend, owner).await
    }
}

/// Lets `?` within a transaction roll it back.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn refused(error: FileError) -> DbErr {
    DbErr::Custom(error.to_string())
}

fn in_transaction(executor: &DatabaseExecutor<'_>) -> Result<(), DbErr> {
    if matches!(executor, DatabaseExecutor::Connection(_)) {
        let needed =
            "who uses a file is noted within a transaction, so that all of it is in or nothing";
        return Err(DbErr::Custom(needed.to_owned()));
    }
    Ok(())
}

/// Gives the SQL of the time at which a file is touched: always a later one than before, whatever the clock does, since it is
/// by this that others see the touch.
fn later(backend: Backend) -> String {
    let now = backend.now_ms();
    format!("CASE WHEN touched_ms < {now} THEN {now} ELSE touched_ms + 1 END")
}

/// Touches a file; false when there is none of the name.
async fn touch(
    executor: &DatabaseExecutor<'_>,
    backend: Backend,
    (space, name): (&str, &str),
) -> Result<bool, DbErr> {
    let sql = format!(
        "UPDATE us_file SET touched_ms = {} WHERE space = $1 AND name = $2 AND state = 'ready'",
        later(backend)
    );
    // A file that was just replaced is another row, which only the next statement sees.
    for _ in 0..TRIES {
        let touch = backend.statement(&sql, [space.into(), name.into()]);
        if executor.execute_raw(touch).await?.rows_affected() == 1 {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn keep(
    executor: &DatabaseExecutor<'_>,
    backend: Backend,
    (space, name): (&str, &str),
    owner: &Owner,
) -> Result<bool, DbErr> {
    if !touch(executor, backend, (space, name)).await? {
        return Ok(false);
    }
    let sql = format!(
        "INSERT INTO us_file_reference (space, name, kind, owner, created_ms) \
         VALUES ($1, $2, $3, $4, {}) ON CONFLICT (space, name, kind, owner) DO NOTHING",
        backend.now_ms()
    );
    let values: [Value; 4] =
        [space.into(), name.into(), owner.kind.clone().into(), owner.key.clone().into()];
    executor.execute_raw(backend.statement(&sql, values)).await?;
    Ok(true)
}

async fn release(
    executor: &DatabaseExecutor<'_>,
    backend: Backend,
    (space, name): (&str, &str),
    owner: &Owner,
) -> Result<bool, DbErr> {
    touch(executor, backend, (space, name)).await?;
    let sql =
        "DELETE FROM us_file_reference WHERE space = $1 AND name = $2 AND kind = $3 AND owner = $4";
    let values: [Value; 4] =
        [space.into(), name.into(), owner.kind.clone().into(), owner.key.clone().into()];
    let released = executor.execute_raw(backend.statement(sql, values)).await?;
    Ok(released.rows_affected() == 1)
}

async fn release_all(
    executor: &DatabaseExecutor<'_>,
    backend: Backend,
    owner: &Owner,
) -> Result<u64, DbErr> {
    let values = || -> [Value; 2] { [owner.kind.clone().into(), owner.key.clone().into()] };
    // In one order, so that two who do this do not wait for each other.
    let lock = format!(
        "SELECT file.id FROM us_file file JOIN us_file_reference reference \
         ON reference.space = file.space AND reference.name = file.name \
         WHERE reference.kind = $1 AND reference.owner = $2 AND file.state = 'ready' ORDER BY file.id{}",
        backend.for_update()
    );
    executor.query_all_raw(backend.statement(&lock, values())).await?;
    let touch = format!(
        "UPDATE us_file SET touched_ms = {} WHERE state = 'ready' AND (space, name) IN \
         (SELECT space, name FROM us_file_reference WHERE kind = $1 AND owner = $2)",
        later(backend)
    );
    executor.execute_raw(backend.statement(&touch, values())).await?;
    let delete = "DELETE FROM us_file_reference WHERE kind = $1 AND owner = $2";
    Ok(executor.execute_raw(backend.statement(delete, values())).await?.rows_affected())
}
