//! The database as a second place of sessions that are in Redis: what [`PersistedStore`](crate::store::PersistedStore) needs of
//! it.
//!
//! The table is that of sessions in the database, and so are the columns. What differs is who decides: Redis does, and a row is
//! only ever replaced by a later version (or by the same one, with a later claim or access); a row that says that a session
//! was ended by nothing. Its owner, epoch and times are those that Redis had, and no lease is looked at. An end is kept until
//! the session would be over by itself; so whoever comes late with a copy, however late, brings nothing to life.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DatabaseExecutor, DbErr, Statement, Value};

use super::register::behind;
use super::statements::{NOBODY, stored_values};
use super::{DatabaseStore, row};
use crate::record::{Locator, Record};
use crate::store::StoreError;
use crate::store::register::Place;

/// What became of a session that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Kept {
    /// It is there as it was given.
    Put,
    /// A later version is there.
    Later,
    /// It was ended.
    Ended,
}

/// What is known of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Known {
    /// Nothing.
    Nothing,
    /// It was ended.
    Ended,
    /// It is there, with this version.
    Version(u64),
}

/// The statements that keep one session.
#[derive(Debug, Clone)]
pub(in crate::store) struct Put {
    put: Statement,
    state: Statement,
}

impl Put {
    async fn carry_out(&self, executor: &DatabaseExecutor<'_>) -> Result<Kept, DbErr> {
        if executor.query_one_raw(self.put.clone()).await?.is_some() {
            return Ok(Kept::Put);
        }
        let row = executor.query_one_raw(self.state.clone()).await?;
        let revoked: Option<i64> = match row {
            None => None,
            Some(row) => row.try_get("", "revoked_until_ms")?,
        };
        Ok(if revoked.is_some() { Kept::Ended } else { Kept::Later })
    }
}

impl DatabaseStore {
    /// Makes the statements that keep a session.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when it cannot be kept as it is.
    pub(in crate::store) fn prepare(
        &self,
        locator: Locator,
        record: &Record,
    ) -> Result<Put, StoreError> {
        let mut values: Vec<Value> = vec![locator.to_string().into()];
        values.extend(stored_values(record)?);
        if record.owner.is_none() && record.seal.key().is_some() {
            values[2] = NOBODY.to_owned().into(); // the owner's node; see `schema`
        }
        values.extend([
            row::time(record.created_ms),
            row::time(record.absolute_ms),
            row::time(record.last_access_ms),
            locator.public_id().into(),
        ]);
        let archive = &self.statements.archive;
        let put = self.statement(&archive.put, values);
        Ok(Put { put, state: self.about(archive.state, locator) })
    }

    /// Keeps a session.
    pub(in crate::store) async fn put(&self, put: Put) -> Result<Kept, StoreError> {
        // One statement that writes, so that on SQLite it shares its commit with others.
        if self.change(put.put.clone()).await?.is_some() {
            return Ok(Kept::Put);
        }
        let revoked = match self.fetch(put.state).await? {
            None => false,
            Some(row) => row::is_revoked(&row)?,
        };
        Ok(if revoked { Kept::Ended } else { Kept::Later })
    }

    /// Keeps many, in one transaction. They must come in the same order wherever they are written, so that two transactions
    /// do not wait for each other.
    pub(in crate::store) async fn put_all(&self, puts: Vec<Put>) -> Result<Vec<Kept>, StoreError> {
        let puts = Arc::new(puts);
        let kept = self.database.transaction(move |executor| {
            let puts = Arc::clone(&puts);
            Box::pin(async move {
                let mut kept = Vec::with_capacity(puts.len());
                for put in puts.iter() {
                    kept.push(put.carry_out(executor).await?);
                }
                Ok(kept)
            })
        });
        Ok(kept.await?)
    }

    /// Keeps that a session was ended, for as long as it might have lived, and for `longest` when it is not there.
    pub(in crate::store) async fn keep_end(
        &self,
        locator: Locator,
        longest: Duration,
    ) -> Result<(), StoreError> {
        let longest_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        let values = vec![locator.to_string().into(), row::time(longest_ms)];
        let end = self.statement(&self.statements.archive.end, values);
        self.count_rows(end).await.map(|_| ())
    }

    /// Says what is known of a session.
    pub(in crate::store) async fn known_of(&self, locator: Locator) -> Result<Known, StoreError> {
        let state = self.about(self.statements.archive.state, locator);
        Ok(match self.fetch(state).await? {
            None => Known::Nothing,
            Some(row) if row::is_revoked(&row)? => Known::Ended,
            Some(row) => Known::Version(row::read_number(&row, "version")?),
        })
    }

    /// Lists the sessions of a user that live, as places of a roll.
    pub(in crate::store) async fn of_user(&self, user: &str) -> Result<Vec<Place>, StoreError> {
        let values = vec![row::time(self.slack_ms), user.into()];
        let rows = self.fetch_all(self.statement(&self.statements.archive.of_user, values)).await?;
        let mut places = Vec::with_capacity(rows.len());
        for row in &rows {
            let locator: Result<Locator, _> = row::text(row, "locator")?.parse();
            let locator = locator.map_err(|error| row::unreadable("locator", error))?;
            places.push(Place { at_ms: row::read_number(row, "created_ms")?, locator });
        }
        Ok(places)
    }

    /// Finds sessions that live by the beginning of their public id.
    pub(in crate::store) async fn find_living(&self, id: &str) -> Result<Vec<Locator>, StoreError> {
        let values = vec![row::time(self.slack_ms), id.into(), behind(id).into()];
        let rows = self.fetch_all(self.statement(&self.statements.archive.find, values)).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            found.extend(row::text(row, "locator")?.parse::<Locator>().ok());
        }
        Ok(found)
    }

    /// Takes away up to `limit` rows of sessions and ends that have been over for so long; gives how many that were.
    pub(in crate::store) async fn purge(
        &self,
        over_for: Duration,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let over_for_ms = u64::try_from(over_for.as_millis()).unwrap_or(u64::MAX);
        let over_for_ms = over_for_ms.saturating_add(self.slack_ms);
        let values = vec![row::time(over_for_ms), i64::from(limit).into()];
        self.count_rows(self.statement(&self.statements.archive.purge, values)).await
    }
}
