//! Ends sessions that ran out of time, and tells the application of all that are over: the duty `session-sweep`, done by one
//! node for all.
//!
//! The store ends a session and keeps what there is to tell in one step, whoever ends it and why; it is forgotten when the
//! application's callbacks returned. Two sweeps at once hand each session to one of them. So callbacks are called once per
//! session, whatever happens to nodes before and after; once more when the node that calls dies in the middle of it or before
//! the store heard that they returned, when one fails or takes too long, and when the store itself loses what it had
//! acknowledged (a failover). [`SessionEnded::id`] is the same then. What an emptied Redis took along and nobody put back is not
//! told. What a callback did not take for a week is given up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::sleep;
use understudy_runtime::clock::{BootInstant, SharedClock};
use understudy_runtime::duty::{Duty, DutyRun};
use understudy_runtime::ids::Bucket;

use crate::error::SessionError;
use crate::kin::Endings;
use crate::record::Attributes;
use crate::schema::{Schema, Schemas, SessionState, decode};
use crate::store::{Expired, SharedStore, StoreError};

pub use crate::listener::{CALLBACK_LIMIT, Heard, Listener};
pub use crate::store::EndReason;

/// Name of the duty.
pub const DUTY: &str = "session-sweep";
/// How often sessions that ran out of time are looked for.
pub const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// For how long nobody else is handed what was handed out: after that a callback that failed is called again, here or
/// elsewhere.
pub const HOLD: Duration = Duration::from_secs(60);

/// After so long an end that a callback does not take is given up, so that what waits does not grow for ever.
pub const GIVE_UP: Duration = Duration::from_secs(7 * 24 * 3_600);

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
    pub reason: EndReason,
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

/// A session that is over, whatever the reason.
///
/// Shown for debugging without what the session held.
#[derive(Clone)]
#[non_exhaustive]
pub struct SessionEnded {
    /// Names this end of this session: the same when it is told again, and never used for another session; the id by which
    /// operators knew it. Keep it beside what you do, in the same transaction, and doing it twice is impossible.
    pub id: String,
    /// The session as log lines name it (`session.id`); worth nothing to whoever reads it.
    pub session: String,
    /// Who was logged in.
    pub user: Option<String>,
    /// Why it is over.
    pub reason: EndReason,
    /// When it began, ms since 1970 on the store's clock. `None` when it vanished, or could not be read.
    pub created_ms: Option<u64>,
    /// When it was over, ms since 1970 on the store's clock.
    pub ended_ms: u64,
    attributes: Option<Arc<Attributes>>,
    schemas: Schemas,
}

impl SessionEnded {
    fn new(expired: &Expired, attributes: Option<Arc<Attributes>>, schemas: Schemas) -> Self {
        Self {
            id: expired.locator.public_id(),
            session: expired.locator.id_for_logs(),
            user: expired.user.clone(),
            reason: expired.reason,
            created_ms: expired.created_ms,
            ended_ms: expired.ended_ms,
            attributes,
            schemas,
        }
    }

    /// Says whether it is known what the session held. It is not when the session vanished, could not be opened, or ended more
    /// than an hour before anybody could be told.
    #[must_use]
    pub fn has_state(&self) -> bool {
        self.attributes.is_some()
    }

    /// Gives an attribute as it was at the end, in the latest version of its [schema](crate::schema); `None` when it was not
    /// there, or nothing is known.
    ///
    /// # Errors
    /// [`SessionError::WrongType`] when it is of another type, [`SessionError::NewerSchema`] when a newer release wrote it;
    /// [`SessionError::SchemaStep`] when it cannot be brought to the latest version.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, SessionError> {
        self.get_as(name, self.schemas.of(name).as_deref())
    }

    /// Gives the [state](SessionState) as it was at the end; `None` when there was none, or nothing is known.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn state<S: SessionState>(&self) -> Result<Option<S>, SessionError> {
        self.get_as(S::NAME, Some(&Schema::of::<S>()))
    }

    fn get_as<T: DeserializeOwned>(
        &self,
        name: &str,
        schema: Option<&Schema>,
    ) -> Result<Option<T>, SessionError> {
        let text = self.attributes.as_ref().and_then(|attributes| attributes.get(name));
        let Some(text) = text else { return Ok(None) };
        decode(schema, text).map(Some).map_err(|error| error.of(name))
    }

    /// Gives the names of all attributes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.attributes.iter().flat_map(|attributes| attributes.keys().map(|name| &**name))
    }
}

impl fmt::Debug for SessionEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionEnded")
            .field("id", &self.id)
            .field("user", &self.user)
            .field("reason", &self.reason)
            .field("ended_ms", &self.ended_ms)
            .finish_non_exhaustive()
    }
}

/// Whom to tell.
#[derive(Debug, Clone, Default)]
struct Listeners {
    expired: Option<Listener<SessionExpired>>,
    ended: Option<Listener<SessionEnded>>,
    /// What the application keeps in attributes.
    schemas: Schemas,
}

impl Listeners {
    fn are_there(&self) -> bool {
        self.expired.is_some() || self.ended.is_some()
    }

    /// Whether somebody wants to hear of this one.
    fn want(&self, expired: &Expired) -> bool {
        self.ended.is_some() || self.expired.is_some() && expired.reason.is_expiry()
    }

    /// Tells all who want to hear of it; one that fails does not keep the other from hearing.
    async fn tell(
        &self,
        expired: &Expired,
        attributes: Option<Arc<Attributes>>,
    ) -> Result<(), String> {
        let first = async {
            match self.expired.as_ref().filter(|_| expired.reason.is_expiry()) {
                Some(listener) => listener.tell(SessionExpired::from(expired)).await,
                None => Ok(()),
            }
        };
        let second = async {
            match &self.ended {
                Some(listener) => {
                    let schemas = self.schemas.clone();
                    listener.tell(SessionEnded::new(expired, attributes, schemas)).await
                }
                None => Ok(()),
            }
        };
        let (first, second) = join(first, second).await;
        first.and(second)
    }
}

/// What one run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Sessions that ran out of time and had not been handed out before.
    pub expired: u64,
    /// Sessions of whose end somebody was told.
    pub told: u64,
    /// Sessions with a callback that failed, to be called again.
    pub failed: u64,
}

/// Sweeps all buckets of a store.
#[derive(Debug, Clone)]
pub struct Sweeper {
    store: SharedStore,
    buckets: Vec<Bucket>,
    clock: SharedClock,
    listeners: Listeners,
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
        let listeners = Listeners { expired: listener, ..Listeners::default() };
        let (buckets, endings) = (buckets.into_iter().collect(), Endings::default());
        Self { store, buckets, clock, listeners, endings }
    }

    /// Has `listener` told of every end, with what the session held.
    #[must_use]
    pub fn telling_all(mut self, listener: Option<Listener<SessionEnded>>) -> Self {
        self.listeners.ended = listener;
        self
    }

    /// Takes the schemas of what sessions held.
    #[must_use]
    pub(crate) fn with_schemas(mut self, schemas: Schemas) -> Self {
        self.listeners.schemas = schemas;
        self
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
            description: "ends sessions that ran out of time, and tells the application of all ends",
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
        let hold = self.listeners.are_there().then_some(HOLD);
        while !run.is_cancelled() {
            let held_until = self.clock.now() + HOLD;
            let swept = self.store.sweep(bucket, BATCH, hold).await?;
            for expired in swept.expired.iter().filter(|expired| !expired.again) {
                let reason = expired.reason.as_str();
                if expired.reason.is_expiry() {
                    report.expired += 1;
                    // Of other ends whoever made them has told.
                    self.endings.tell(expired.locator);
                    metrics::counter!("session_expired_total", "reason" => reason).increment(1);
                } else {
                    metrics::counter!("session_ended_total", "reason" => reason).increment(1);
                }
            }
            if hold.is_some() {
                let batch = Batch { sweeper: self, held_until, run };
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
                "a callback failed for sessions that are over, and will be called again for them"
            );
        }
    }

    /// Tells of one; nothing when it is too late to be the only one who does, or the run was cancelled.
    async fn tell(&self, expired: &Expired) -> Option<Result<(), String>> {
        let latest = self.held_until.saturating_sub(CALLBACK_LIMIT);
        if self.run.is_cancelled() || self.sweeper.clock.now() >= latest {
            return None;
        }
        if !self.sweeper.listeners.want(expired) {
            self.acknowledge(expired).await;
            return None;
        }
        let heard = self.call(expired).await;
        if heard.is_ok() || self.is_given_up(expired) {
            self.acknowledge(expired).await;
        }
        Some(heard)
    }

    async fn call(&self, expired: &Expired) -> Result<(), String> {
        let attributes = match &self.sweeper.listeners.ended {
            Some(_) => self.last_state(expired).await?,
            None => None,
        };
        self.sweeper.listeners.tell(expired, attributes).await
    }

    /// Reads what a session held. What cannot be read never can: the end is told without it.
    async fn last_state(&self, expired: &Expired) -> Result<Option<Arc<Attributes>>, String> {
        match self.sweeper.store.last_state(expired.locator).await {
            Ok(remains) => Ok(remains.map(|remains| remains.attributes)),
            Err(StoreError::Unreadable(reason)) => {
                let session = expired.locator.id_for_logs();
                tracing::warn!(session.id = session, reason, "what a session held is not told");
                Ok(None)
            }
            Err(error @ (StoreError::Unavailable(_) | StoreError::Refused(_))) => {
                Err(error.to_string())
            }
        }
    }

    /// Says whether no callback took it for so long that nobody is told any more.
    fn is_given_up(&self, expired: &Expired) -> bool {
        let limit_ms = u64::try_from(GIVE_UP.as_millis()).unwrap_or(u64::MAX);
        let age_ms = self.sweeper.clock.wall_ms().saturating_sub(expired.ended_ms);
        let given_up = expired.again && age_ms > limit_ms;
        if given_up {
            let session = expired.locator.id_for_logs();
            tracing::warn!(
                session.id = session,
                "nobody could be told of the end of a session for a week: it is given up"
            );
        }
        given_up
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
                    tracing::warn!(session.id = session, %error, "the end of a session will be told once more");
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
