//! The sweep: sessions that are over become rows of `us_session_expired` in one transaction; from there they are handed
//! out, each to one caller, until somebody was told.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DatabaseExecutor, DbErr, QueryResult, Statement};

use super::statements::expiry::{Obituary, note_expired, remove};
use super::statements::register::take_off_rolls;
use super::{DatabaseStore, row};
use crate::record::Locator;
use crate::store::{EndReason, Expired, Remains, StoreError, Swept};

/// Most that one transaction ends.
const AT_ONCE: u32 = 256;

impl DatabaseStore {
    pub(super) async fn sweep_all(
        &self,
        limit: u32,
        hold: Option<Duration>,
    ) -> Result<Swept, StoreError> {
        let limit = limit.clamp(1, AT_ONCE);
        let ended = self.end_what_is_over(limit).await?;
        let many = i64::from(limit).into();
        let hand_out = match hold {
            Some(hold) => {
                let hold_ms = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
                self.statement(&self.statements.expiry.hand_out, vec![row::time(hold_ms), many])
            }
            None => self.statement(&self.statements.expiry.hand_out_for_good, vec![many]),
        };
        let handed_out = self.database.step(move |executor| {
            let hand_out = hand_out.clone();
            Box::pin(async move { executor.query_all_raw(hand_out).await })
        });
        let handed_out = handed_out.await?;
        let more = ended.max(handed_out.len()) >= limit as usize;
        let expired = handed_out.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Swept { expired, more })
    }

    /// Moves what is over to where it waits to be told; gives how many rows that were.
    async fn end_what_is_over(&self, limit: u32) -> Result<usize, StoreError> {
        let over = vec![row::time(self.slack_ms), i64::from(limit).into()];
        let over = self.statement(&self.statements.expiry.over, over);
        // Mostly there is nothing, and then nobody need wait for the writer of SQLite.
        if self.database.backend() == understudy_runtime::database::Backend::Sqlite
            && self.fetch(over.clone()).await?.is_none()
        {
            return Ok(0);
        }
        let store = self.clone();
        let moved = self.database.transaction(move |executor| {
            let (store, over) = (store.clone(), over.clone());
            Box::pin(async move { store.move_over(executor, over).await })
        });
        Ok(moved.await?)
    }

    async fn move_over(
        &self,
        executor: &DatabaseExecutor<'_>,
        over: Statement,
    ) -> Result<usize, DbErr> {
        let rows = executor.query_all_raw(over).await?;
        let locators: Result<Vec<String>, _> =
            rows.iter().map(|row| row.try_get("", "locator")).collect();
        let locators = locators?;
        if !locators.is_empty() {
            let backend = self.database.backend();
            let obituary = Obituary { reason: None, estate: self.estate };
            let note = note_expired(backend, obituary, row::time(self.slack_ms), &locators);
            executor.execute_raw(note).await?;
            executor.execute_raw(remove(backend, &locators)).await?;
            executor.execute_raw(take_off_rolls(backend, &locators)).await?;
        }
        Ok(locators.len())
    }

    /// Ends a session: what there is to tell, and the tombstone, in one transaction.
    pub(super) async fn revoke_and_note(
        &self,
        locator: Locator,
        reason: Option<EndReason>,
        revoke: Statement,
    ) -> Result<Option<QueryResult>, StoreError> {
        // Locked first: another end may be under way.
        let lock = self.about(&self.statements.lock_session, locator);
        let (backend, slack) = (self.database.backend(), row::time(self.slack_ms));
        let obituary = Obituary { reason, estate: self.estate };
        let note = note_expired(backend, obituary, slack, &[locator.to_string()]);
        let revoked = self.database.transaction(move |executor| {
            let [lock, note, revoke] = [lock.clone(), note.clone(), revoke.clone()];
            Box::pin(async move {
                executor.query_one_raw(lock).await?;
                executor.execute_raw(note).await?;
                executor.query_one_raw(revoke).await
            })
        });
        Ok(revoked.await?)
    }

    pub(super) async fn read_last_state(
        &self,
        locator: Locator,
    ) -> Result<Option<Remains>, StoreError> {
        let query = self.about(self.statements.expiry.last_state, locator);
        self.fetch(query).await?.as_ref().map(row::read_remains).transpose()
    }
}

fn read(row: &QueryResult) -> Result<Expired, StoreError> {
    let locator = row::text(row, "locator")?;
    let reason = row::text(row, "reason")?;
    Ok(Expired {
        locator: locator.parse().map_err(|error| row::unreadable("locator", error))?,
        user: row::optional_text(row, "user_name")?,
        reason: EndReason::from_text(&reason)
            .ok_or_else(|| row::unreadable("reason", "no reason known"))?,
        created_ms: Some(row::read_number(row, "created_ms")?),
        ended_ms: row::read_number(row, "ended_ms")?,
        again: row::read_number(row, "handed_out")? > 1,
    })
}
