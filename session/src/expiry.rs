//! Ends sessions that ran out of time, and tells the application: the duty `session-sweep`, done by one node for all.
//!
//! The store ends a session and keeps what there is to tell in one step; it is forgotten when the application's callback
//! returned. Two sweeps at once hand each session to one of them. So the callback is called once per expired session,
//! whatever happens to nodes before and after; once more when the node that calls it dies in the middle of it or before the
//! store heard that it returned, when the callback fails or takes too long, and when the store itself loses what it had
//! acknowledged (a failover). [`SessionExpired::id`] is the same then. A logout is never told, nor what an emptied Redis
//! took along and nobody put back.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use tokio::time::sleep;
use understudy_runtime::clock::{BootInstant, SharedClock};
use understudy_runtime::duty::{Duty, DutyRun};
use understudy_runtime::ids::Bucket;

use crate::kin::Endings;
use crate::store::{Expired, SharedStore, StoreError};

pub use crate::listener::{CALLBACK_LIMIT, Heard, Listener};
pub use crate::store::ExpiryReason;

/// Name of the duty.
pub const DUTY: &str = "session-sweep";
/// How often sessions that ran out of time are looked for.
pub const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// For how long nobody else is handed what was handed out: after that a callback that failed is called again, here or
/// elsewhere.
pub const HOLD: Duration = Duration::from_secs(60);

/// How many sessions are handed out at a time; with all of them slow there is still time for each within the hold.
const BATCH: u32 = 64;
/// How many callbacks run at once.
const AT_ONCE: usize = 16;
/// How soon a store that is away is told again that a callback returned.
const RETRY: Duration = Duration::from_millis(200);

/// A session that ran out of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SessionExpired {
    /// Names this end of this session: the same when it is told again, and never used for another session. Keep it beside
    /// what you do, in the same transaction, and doing it twice is impossible.
    pub id: String,
    /// The session as log lines name it (`session.id`); worth nothing to whoever reads it.
    pub session: String,
    /// Who was logged in.
    pub user: Option<String>,
    /// Why it was over.
    pub reason: ExpiryReason,
    /// When it began, ms since 1970 on the store's clock. `None` when it vanished.
    pub created_ms: Option<u64>,
    /// When it was over, ms since 1970 on the store's clock.
    pub ended_ms: u64,
}

impl From<&Expired> for SessionExpired {
    fn from(expired: &Expired) -> Self {
        Self {
            id: expired.locator.digest(16),
            session: expired.locator.id_for_logs(),
            user: expired.user.clone(),
            reason: expired.reason,
            created_ms: expired.created_ms,
            ended_ms: expired.ended_ms,
        }
    }
}

/// What one run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Sessions that were ended and had not been handed out before.
    pub expired: u64,
    /// Callbacks that returned.
    pub told: u64,
    /// Callbacks that failed, to be called again.
    pub failed: u64,
}

/// Sweeps all buckets of a store.
#[derive(Debug, Clone)]
pub struct Sweeper {
    store: SharedStore,
    buckets: Vec<Bucket>,
    clock: SharedClock,
    listener: Option<Listener<SessionExpired>>,
    endings: Endings,
}

impl Sweeper {
    /// Makes a sweeper; without a listener sessions are ended and nobody is told.
    #[must_use]
    pub fn new(
        store: SharedStore,
        buckets: impl IntoIterator<Item = Bucket>,
        clock: SharedClock,
        listener: Option<Listener<SessionExpired>>,
    ) -> Self {
        let (buckets, endings) = (buckets.into_iter().collect(), Endings::default());
        Self { store, buckets, clock, listener, endings }
    }

    /// Has what hangs on sessions that ran out of time end with them.
    #[must_use]
    pub(crate) fn telling(self, endings: Endings) -> Self {
        Self { endings, ..self }
    }

    /// Makes the duty that the leader does every [`SWEEP_EVERY`].
    #[must_use]
    pub fn duty(self) -> Duty {
        Duty {
            name: DUTY,
            description: "ends sessions that ran out of time, and tells the application",
            every: SWEEP_EVERY,
            run: Arc::new(move |run| {
                let sweeper = self.clone();
                Box::pin(async move {
                    let report = sweeper.run_once(&run).await.map_err(|error| error.to_string())?;
                    serde_json::to_value(report).map_err(|error| error.to_string())
                })
            }),
        }
    }

    /// Ends and tells whatever is due, until nothing is or the run is cancelled.
    ///
    /// # Errors
    /// [`StoreError`] of the first bucket that could not be swept; the others were.
    pub async fn run_once(&self, run: &DutyRun) -> Result<Report, StoreError> {
        let mut report = Report::default();
        let mut failed = None;
        for bucket in &self.buckets {
            if let Err(error) = self.sweep(*bucket, run, &mut report).await {
                failed.get_or_insert(error);
            }
        }
        if report != Report::default() {
            tracing::debug!(report.expired, report.told, report.failed, "sessions swept");
        }
        failed.map_or(Ok(report), Err)
    }

    async fn sweep(
        &self,
        bucket: Bucket,
        run: &DutyRun,
        report: &mut Report,
    ) -> Result<(), StoreError> {
        let hold = self.listener.as_ref().map(|_| HOLD);
        while !run.is_cancelled() {
            let held_until = self.clock.now() + HOLD;
            let swept = self.store.sweep(bucket, BATCH, hold).await?;
            for expired in swept.expired.iter().filter(|expired| !expired.again) {
                report.expired += 1;
                self.endings.tell(expired.locator);
                let reason = expired.reason.as_str();
                metrics::counter!("session_expired_total", "reason" => reason).increment(1);
            }
            if let Some(listener) = &self.listener {
                let batch = Batch { sweeper: self, listener, held_until, run };
                batch.tell_all(&swept.expired, report).await;
            }
            if !swept.more {
                break;
            }
        }
        Ok(())
    }
}

/// What was handed out together.
struct Batch<'a> {
    sweeper: &'a Sweeper,
    listener: &'a Listener<SessionExpired>,
    /// Until then nobody else is handed it.
    held_until: BootInstant,
    run: &'a DutyRun,
}

impl Batch<'_> {
    async fn tell_all(&self, expired: &[Expired], report: &mut Report) {
        let calls = expired.iter().map(|expired| self.tell(expired));
        let mut calls = stream::iter(calls.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        let (mut failed, mut why) = (0, None);
        while let Some(called) = calls.next().await {
            match called {
                None => {}
                Some(Ok(())) => report.told += 1,
                Some(Err(error)) => {
                    failed += 1;
                    why.get_or_insert(error);
                }
            }
        }
        report.failed += failed;
        if let Some(error) = why {
            tracing::warn!(
                failed,
                error,
                "on_expired failed for some sessions and will be called again for them"
            );
        }
    }

    /// Tells of one; nothing when it is too late to be the only one who does, or the run was cancelled.
    async fn tell(&self, expired: &Expired) -> Option<Result<(), String>> {
        let latest = self.held_until.saturating_sub(CALLBACK_LIMIT);
        if self.run.is_cancelled() || self.sweeper.clock.now() >= latest {
            return None;
        }
        let heard = self.listener.tell(SessionExpired::from(expired)).await;
        if heard.is_ok() {
            self.acknowledge(expired).await;
        }
        Some(heard)
    }

    /// Goes on as long as nobody else is handed it, for a store that is away for a moment must not lead to a second call.
    async fn acknowledge(&self, expired: &Expired) {
        loop {
            match self.sweeper.store.acknowledge(expired).await {
                Ok(()) => return,
                Err(StoreError::Unavailable(_)) if self.sweeper.clock.now() < self.held_until => {
                    sleep(RETRY).await;
                }
                Err(error) => {
                    let session = expired.locator.id_for_logs();
                    tracing::warn!(session.id = session, %error, "a session will be told as expired once more");
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
