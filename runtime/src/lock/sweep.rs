//! Removes the rows of locks that nobody has wanted for a day, so that names may be as many as an application likes.
//!
//! The greatest token among them is remembered, and new names begin above it: a token still only grows. Whoever makes
//! a row waits for a sweep that is under way, since both lock the row that remembers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sea_orm::ConnectionTrait as _;

use super::Inner;
use super::table::{LockTable, millis};
use crate::database::DatabaseError;

/// How long a lock must have been free.
const IDLE: Duration = Duration::from_secs(24 * 3600);
/// How often a node sweeps at most.
const EVERY: Duration = Duration::from_secs(3600);
/// How many rows go at once, so that nobody waits long for the end of a sweep.
const BATCH: u32 = 5_000;

impl Inner {
    /// Sweeps in the background unless that was done lately; called when a row was made, which is when rows become more.
    pub(super) fn sweep_sometimes(&self) {
        let now = self.clock.now().as_nanos();
        let last = self.table.swept.load(Ordering::Relaxed);
        let every = u64::try_from(EVERY.as_nanos()).unwrap_or(u64::MAX);
        let is_due = last == 0 || now.saturating_sub(last) >= every;
        let swept = &self.table.swept;
        if !is_due
            || swept.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let table = self.table.clone();
        self.home.spawn(async move {
            loop {
                match table.sweep(IDLE).await {
                    Ok(gone) if gone == u64::from(BATCH) => {}
                    Ok(_) => return,
                    Err(error) => {
                        // The next one to make a row tries again, in an hour at the earliest.
                        tracing::debug!(%error, "locks that nobody wants could not be swept");
                        return;
                    }
                }
            }
        });
    }
}

impl LockTable {
    /// Removes locks that have been free for so long; returns how many.
    pub(super) async fn sweep(&self, idle: Duration) -> Result<u64, DatabaseError> {
        let backend = self.database.backend();
        let now = backend.now_ms();
        let lock =
            format!("SELECT token FROM us_cluster_lock WHERE name = ''{}", backend.for_update());
        let delete = format!(
            "DELETE FROM us_cluster_lock WHERE name IN (SELECT name FROM us_cluster_lock \
             WHERE name <> '' AND deadline_ms <= {now} - $1 LIMIT {BATCH}) \
             AND deadline_ms <= {now} - $1 RETURNING token"
        );
        let raise = "UPDATE us_cluster_lock SET token = $1 WHERE name = '' AND token < $1";
        let lock = self.statement(&lock, Vec::new());
        let delete = self.statement(&delete, vec![millis(idle).into()]);
        let swept = self.database.transaction(move |executor| {
            let (lock, delete) = (lock.clone(), delete.clone());
            Box::pin(async move {
                executor.query_one_raw(lock).await?;
                let rows = executor.query_all_raw(delete).await?;
                let tokens: Result<Vec<i64>, _> =
                    rows.iter().map(|row| row.try_get_by(0)).collect();
                let tokens = tokens?;
                if let Some(greatest) = tokens.iter().max() {
                    let raise = backend.statement(raise, [(*greatest).into()]);
                    executor.execute_raw(raise).await?;
                }
                Ok(u64::try_from(tokens.len()).unwrap_or(u64::MAX))
            })
        });
        swept.await
    }
}
