//! What a handler is given: who it is, what it may know, and how it tells how far it is.

mod journal;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use sea_orm::{DatabaseExecutor, DbErr};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use understudy_runtime::database::DatabaseError;
use understudy_runtime::service::NodeContext;

use crate::error::JobError;
use crate::progress::{Items, Progress, Stage, Teller};
use crate::run::{Fence, RunId, RunState};
use crate::store::{Ending, Finished, Store, TakenRun, Tx};

pub(crate) use journal::{Journal, ToWrite};

/// One attempt of a run, as its handler sees it; a cheap clone.
#[derive(Debug, Clone)]
pub struct JobContext {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    run: TakenRun,
    node: NodeContext,
    store: Store,
    cancel: Cancel,
    progress: Teller,
    journal: Journal,
    completed: Arc<AtomicBool>,
}

/// Tells a run to end, and why; a cheap clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cancel {
    token: CancellationToken,
    why: Arc<watch::Sender<Option<CancelReason>>>,
}

/// Why a run is told to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelReason {
    /// Somebody asked for it: their name.
    Asked(String),
    /// It took longer than its limit.
    TimedOut(Duration),
    /// Its node leads no more.
    LeaseLost,
    /// It was given to another node, since this one was silent for too long.
    Fenced,
    /// Its node stops, and the time for finishing is over.
    NodeStops,
}

impl Cancel {
    /// Tells the run to end; only the first reason counts.
    pub(crate) fn cancel(&self, why: CancelReason) {
        self.why.send_if_modified(|known| {
            if known.is_none() {
                *known = Some(why);
                return true;
            }
            false
        });
        self.token.cancel();
    }

    pub(crate) fn why(&self) -> Option<CancelReason> {
        self.why.borrow().clone()
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }
}

/// What a context is made of.
pub(crate) struct Parts {
    pub(crate) run: TakenRun,
    pub(crate) node: NodeContext,
    pub(crate) store: Store,
    pub(crate) cancel: Cancel,
    pub(crate) progress: Teller,
    pub(crate) journal: Journal,
    /// Set when the run was ended together with what the job has written.
    pub(crate) completed: Arc<AtomicBool>,
}

impl JobContext {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { run, node, store, cancel, progress, journal, completed } = parts;
        Self { inner: Arc::new(Inner { run, node, store, cancel, progress, journal, completed }) }
    }

    /// Returns the name of the job.
    #[must_use]
    pub fn job(&self) -> &str {
        self.inner.run.definition.spec.name.as_str()
    }

    /// Returns the number of the run, unique in the cluster.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.inner.run.id
    }

    /// Returns which attempt this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.inner.run.attempt
    }

    /// Returns when the run was due, ms since 1970.
    #[must_use]
    pub fn fire_time_ms(&self) -> i64 {
        self.inner.run.fire_ms
    }

    /// Returns when the run was due.
    #[must_use]
    pub fn fire_time(&self) -> SystemTime {
        let since = Duration::from_millis(self.inner.run.fire_ms.max(0).unsigned_abs());
        SystemTime::UNIX_EPOCH + since
    }

    /// Returns the fencing token: hand it to whatever the job changes, and let that refuse smaller ones than it has seen.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.inner.run.fence()
    }

    /// Returns what is the same for all attempts of this run and for no other: what other systems call an
    /// idempotency key.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        let run = &self.inner.run;
        match run.scope.as_str() {
            "" => format!("{}/{}", self.job(), run.fire_key),
            scope => format!("{}/{}/{scope}", self.job(), run.fire_key),
        }
    }

    /// Returns whether the run is for whoever leads.
    pub(crate) fn is_of_leader(&self) -> bool {
        self.inner.run.by_leader
    }

    /// Reads the parameters.
    ///
    /// # Errors
    /// A [`JobError`] that ends the run as incompatible when they are not of this form.
    pub fn params<P: DeserializeOwned>(&self) -> Result<P, JobError> {
        P::deserialize(self.raw_params()).map_err(|error| {
            JobError::incompatible(format!(
                "the parameters cannot be read by this version: {error}"
            ))
        })
    }

    /// Returns the parameters as JSON.
    #[must_use]
    pub fn raw_params(&self) -> &serde_json::Value {
        let run = &self.inner.run;
        run.params.as_ref().unwrap_or(&run.definition.spec.params)
    }

    /// Waits until the run is told to end.
    pub async fn cancelled(&self) {
        self.inner.cancel.token.cancelled().await;
    }

    /// Returns why the run is told to end; `None` while it may go on.
    #[must_use]
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        self.inner.cancel.why()
    }

    /// Returns with an error once the run is told to end; call it at every step of the work.
    ///
    /// # Errors
    /// [`JobError::cancelled`].
    pub fn check_cancelled(&self) -> Result<(), JobError> {
        if self.inner.cancel.token.is_cancelled() { Err(JobError::cancelled()) } else { Ok(()) }
    }

    pub(crate) fn cancellation(&self) -> CancellationToken {
        self.inner.cancel.token.clone()
    }

    /// Begins a stage of `total` items, if that is known; the stage before ends.
    #[must_use]
    pub fn stage(&self, name: &str, total: Option<u64>) -> Stage {
        self.inner.progress.stage(name, total)
    }

    /// Begins a stage that goes through items, and counts them.
    pub fn progress<I: IntoIterator>(&self, name: &str, items: I) -> Items<I::IntoIter> {
        Items::new(items.into_iter(), &self.inner.progress, name)
    }

    /// Returns how far the run is.
    #[must_use]
    pub fn current_progress(&self) -> Progress {
        self.inner.progress.current()
    }

    /// Writes a line into the log of this run, which is kept with its history.
    pub fn info(&self, line: impl AsRef<str>) {
        self.inner.journal.write("info", line.as_ref());
    }

    /// Writes a line about something that is not as it should be.
    pub fn warn(&self, line: impl AsRef<str>) {
        self.inner.journal.write("warn", line.as_ref());
    }

    /// Writes a line about something that went wrong.
    pub fn error(&self, line: impl AsRef<str>) {
        self.inner.journal.write("error", line.as_ref());
    }

    /// Writes a line for whoever looks closely.
    pub fn debug(&self, line: impl AsRef<str>) {
        self.inner.journal.write("debug", line.as_ref());
    }

    /// Returns the node: its database, its bus, its locks.
    #[must_use]
    pub fn node(&self) -> &NodeContext {
        &self.inner.node
    }

    /// Checks, within a transaction of the job, that the run is still this node's, and keeps it so until the transaction
    /// ends: what the transaction writes is written by at most one attempt at a time, and never by one that was given up.
    ///
    /// # Errors
    /// [`GuardError::Fenced`] when the run was given to another node: roll back and return.
    pub async fn guard(&self, executor: &DatabaseExecutor<'_>) -> Result<(), GuardError> {
        if matches!(executor, DatabaseExecutor::Connection(_)) {
            let needed = "guard must be called within a transaction, which keeps what it checks";
            return Err(GuardError::Database(DbErr::Custom(needed.to_owned())));
        }
        let tx = Tx::new(executor, self.inner.store.backend());
        let node = self.inner.node.node_id.to_string();
        if crate::store::guard(&tx, &self.inner.run, &node).await? {
            return Ok(());
        }
        Err(GuardError::Fenced)
    }

    /// Checks the same, and that the leader which claimed the run still leads: no other begins before the transaction ends.
    pub(crate) async fn guard_as_leader(
        &self,
        executor: &DatabaseExecutor<'_>,
    ) -> Result<(), GuardError> {
        let tx = Tx::new(executor, self.inner.store.backend());
        // Before the run: the term is locked first, by whoever locks both.
        if !crate::store::epoch_is_ours(&tx, Some(self.fence().epoch)).await? {
            return Err(GuardError::Fenced);
        }
        self.guard(executor).await
    }

    /// Ends the run as completed in one transaction with what the job writes: both are in, or neither. So whatever
    /// crashes, the effects are there once.
    ///
    /// `work` may be run again after a rollback, and has 10 s in all. The handler should return right afterwards; what it returns is not
    /// noted any more.
    ///
    /// # Errors
    /// [`CompleteError::Fenced`] when the run was given to another node; nothing was written. After a retryable
    /// database error it is unknown whether it was: return the error, the next attempt will not happen if it was.
    pub async fn complete_in<W>(&self, work: W) -> Result<(), CompleteError>
    where
        W: for<'c> Fn(&'c DatabaseExecutor<'c>) -> BoxFuture<'c, Result<(), DbErr>>
            + Send
            + Sync
            + 'static,
    {
        // Not within the transaction: whoever sees that the run has ended sees all that it said before.
        self.inner.journal.written().await;
        let (run, backend) = (self.inner.run.clone(), self.inner.store.backend());
        let node = self.inner.node.node_id.to_string();
        let progress = serde_json::to_string(&self.inner.progress.current()).ok();
        let (work, inputs) = (Arc::new(work), Arc::new((run, node, progress)));
        let done = self.inner.store.database().transaction(move |executor| {
            let (work, inputs) = (Arc::clone(&work), Arc::clone(&inputs));
            Box::pin(async move {
                let tx = Tx::new(executor, backend);
                let (run, node, progress) = &*inputs;
                // In the order in which all others lock.
                crate::store::lock_before(&tx, run).await?;
                if !crate::store::guard(&tx, run, node).await? {
                    return Ok(Finished::Fenced);
                }
                work(executor).await?;
                let ending =
                    Ending::Final { state: RunState::Completed, result: None, error: None };
                crate::store::finish_in(&tx, run, node, (&ending, progress.as_deref())).await
            })
        });
        match done.await? {
            Finished::Done => {
                self.inner.completed.store(true, Ordering::Release);
                Ok(())
            }
            Finished::Fenced => Err(CompleteError::Fenced),
        }
    }

    /// Asks for a run of another job, as one with this: see [`crate::Jobs::enqueue_in`].
    ///
    /// # Errors
    /// [`crate::store::EnqueueError`].
    pub async fn enqueue_in<P: Serialize>(
        &self,
        executor: &DatabaseExecutor<'_>,
        job: &str,
        params: &P,
    ) -> Result<RunId, crate::store::EnqueueError> {
        crate::jobs::enqueue_in(self.inner.store.backend(), executor, job, params).await
    }
}

/// The run is not this node's any more.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// It was given to another node.
    #[error("the run was given to another node")]
    Fenced,
    /// The database does not say.
    #[error("whether the run is still this node's is not known")]
    Database(#[from] DbErr),
}

impl From<GuardError> for DbErr {
    /// Lets `?` within a transaction roll it back.
    fn from(error: GuardError) -> Self {
        match error {
            GuardError::Database(error) => error,
            GuardError::Fenced => Self::Custom(error.to_string()),
        }
    }
}

/// A run was not ended together with what it has written.
#[derive(Debug, thiserror::Error)]
pub enum CompleteError {
    /// It was given to another node; nothing was written.
    #[error("the run was given to another node")]
    Fenced,
    /// The database does not do it.
    #[error("the run and what it has written cannot be stored")]
    Database(#[from] DatabaseError),
}
