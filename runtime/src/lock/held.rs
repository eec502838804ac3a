//! A lock that this node holds: how long it is trusted, how it is extended, how it ends.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use sea_orm::ConnectionTrait;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::{HeldLock, Inner, LockError, margin, table};
use crate::clock::{BootInstant, SharedClock};
use crate::database::Backend;
use crate::error::chain;
use crate::ids::NodeId;

/// What this node knows of one acquisition.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) name: Arc<str>,
    pub(super) holder: Arc<str>,
    token: u64,
    ttl: Duration,
    clock: SharedClock,
    /// Until when it is trusted, in nanoseconds since boot.
    trusted_until: AtomicU64,
    /// Once true, it stays so: whoever was told that the lock is lost must not see it come back.
    lost: watch::Sender<bool>,
    /// The nodes where somebody waits for it.
    pub(super) wanted: DashMap<NodeId, ()>,
}

impl Hold {
    /// Notes what the database granted. The time counts from the sending: whenever the database read its clock, that was
    /// later.
    pub(super) fn new(
        [name, holder]: [Arc<str>; 2],
        token: u64,
        ttl: Duration,
        (clock, sent_at): (SharedClock, BootInstant),
    ) -> Self {
        let hold = Self {
            name,
            holder,
            token,
            ttl,
            clock,
            trusted_until: AtomicU64::new(0),
            lost: watch::Sender::new(false),
            wanted: DashMap::new(),
        };
        hold.trust_since(sent_at);
        hold
    }

    /// Whether nobody else can have the lock now.
    pub(super) fn is_held(&self) -> bool {
        if *self.lost.borrow() {
            return false;
        }
        let in_time = self.clock.now() < self.trusted_until();
        if !in_time {
            self.lose("it was not extended in time");
        }
        in_time
    }

    /// Notes that the database has extended the lock; says whether it is still held. An answer that comes too late does
    /// not bring it back.
    pub(super) fn extended(&self, sent_at: BootInstant) -> bool {
        if !self.is_held() {
            return false;
        }
        self.trust_since(sent_at);
        !*self.lost.borrow()
    }

    /// Gives the lock up for good; tells those who listen, and the log, once.
    pub(super) fn lose(&self, why: &'static str) {
        let first = self.lost.send_if_modified(|lost| !std::mem::replace(lost, true));
        if first {
            metrics::counter!("understudy_locks_lost_total").increment(1);
            tracing::warn!(lock.name = %self.name, lock.token = self.token, why,
                "a cluster lock was lost");
        }
    }

    fn trust_since(&self, sent_at: BootInstant) {
        let until = (sent_at + self.ttl).saturating_sub(margin(self.ttl));
        self.trusted_until.fetch_max(until.as_nanos(), Ordering::AcqRel);
    }

    fn trusted_until(&self) -> BootInstant {
        BootInstant::from_nanos(self.trusted_until.load(Ordering::Acquire))
    }

    /// What operators see of it; nothing once it is lost.
    pub(super) fn shown(&self) -> Option<HeldLock> {
        if *self.lost.borrow() {
            return None;
        }
        let trusted_ms = u64::try_from(self.remaining().as_millis()).unwrap_or(u64::MAX);
        Some(HeldLock { name: self.name.to_string(), token: self.token, trusted_ms })
    }

    /// For how long it is trusted yet.
    fn remaining(&self) -> Duration {
        self.trusted_until().saturating_duration_since(self.clock.now())
    }
}

/// Extends a lock until it is lost; ended when it is released.
async fn keep(inner: Arc<Inner>, hold: Arc<Hold>) {
    let every = hold.ttl / 3;
    let retry = (hold.ttl / 20).clamp(Duration::from_millis(50), Duration::from_secs(1));
    let mut pause = every;
    loop {
        sleep(pause.min(hold.remaining())).await;
        if !hold.is_held() {
            return;
        }
        let sent_at = inner.clock.now();
        let extend = inner.table.extend(&hold.name, &hold.holder, hold.ttl);
        match timeout(hold.remaining(), extend).await {
            Ok(Ok(true)) if hold.extended(sent_at) => pause = every,
            Ok(Ok(true)) => return,
            Ok(Ok(false)) => {
                return hold.lose("somebody else has it, or an operator has taken it away");
            }
            Ok(Err(error)) => {
                tracing::debug!(lock.name = %hold.name, error = chain(&error),
                    "a cluster lock could not be extended yet");
                pause = retry;
            }
            Err(_) => pause = Duration::ZERO,
        }
    }
}

/// A lock that the caller holds, until it is released or dropped; extended meanwhile in the background.
///
/// Dropped, it is released in the background as well as possible; when the process dies, it is free after its time to
/// live. See [the module](super) for what it is worth.
pub struct ClusterLock {
    inner: Arc<Inner>,
    hold: Arc<Hold>,
    keeper: AbortHandle,
    released: bool,
}

impl ClusterLock {
    pub(super) fn begin(inner: &Arc<Inner>, hold: Hold) -> Self {
        let hold = Arc::new(hold);
        inner.held.insert(hold.holder.to_string(), Arc::clone(&hold));
        metrics::counter!("understudy_locks_acquired_total").increment(1);
        metrics::gauge!("understudy_locks_held").increment(1.0);
        let keeper = inner.home.spawn(keep(Arc::clone(inner), Arc::clone(&hold))).abort_handle();
        Self { inner: Arc::clone(inner), hold, keeper, released: false }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.hold.name
    }

    /// Returns the fencing token: greater than that of every earlier holder of this name, for ever. Send it along with
    /// what you write outside of the database, and let the other side refuse lesser ones.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.hold.token
    }

    /// Whether nobody else can have the lock at this moment, by the clock that goes on while the machine sleeps. Once it
    /// is false it stays so.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.hold.is_held()
    }

    /// Waits until the lock is lost: it was not extended in time, or an operator has taken it away.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut lost = self.hold.lost.subscribe();
        let hold = Arc::clone(&self.hold);
        async move {
            // The sender lives in what this future holds.
            lost.wait_for(|lost| *lost).await.ok();
            drop(hold);
        }
    }

    /// Demands, inside of a transaction of the application, that the lock is still this one, and keeps others from
    /// getting it before the transaction has ended. An operator who clears it waits as well, and so does the extension:
    /// call it late in the transaction, which should end within a fraction of the time to live.
    ///
    /// # Errors
    /// [`LockError::Lost`]: roll back. [`LockError::Store`] when the statement failed.
    pub async fn guard<C: ConnectionTrait>(&self, transaction: &C) -> Result<(), LockError> {
        self.fence().guard(transaction).await
    }

    /// Returns what guards transactions, for work that must own what it uses.
    #[must_use]
    pub fn fence(&self) -> LockFence {
        let backend = self.inner.table.database.backend();
        LockFence { hold: Arc::clone(&self.hold), backend }
    }

    /// Releases the lock, and returns when others can have it.
    ///
    /// # Errors
    /// [`LockError::Lost`] when it had not been this one's any more: others may have held it meanwhile.
    /// [`LockError::Store`] when the database did not answer; the lock is free after its time to live at the latest.
    pub async fn release(mut self) -> Result<(), LockError> {
        self.released = true;
        self.keeper.abort();
        // A task of its own, so that it is done even when the caller goes away.
        let freeing = self.inner.home.spawn(free(Arc::clone(&self.inner), Arc::clone(&self.hold)));
        match super::waiting::joined(freeing).await? {
            true => Ok(()),
            false => Err(LockError::Lost { name: self.hold.name.to_string() }),
        }
    }
}

async fn free(inner: Arc<Inner>, hold: Arc<Hold>) -> Result<bool, LockError> {
    let freed = inner.table.free(&hold.name, &hold.holder).await;
    // After it is free: whoever asks for it from now on is told that it is.
    inner.held.remove(&*hold.holder);
    inner.tell_those_who_wait(&hold);
    Ok(freed?)
}

impl Drop for ClusterLock {
    fn drop(&mut self) {
        self.keeper.abort();
        metrics::gauge!("understudy_locks_held").decrement(1.0);
        if self.released {
            return;
        }
        let (inner, hold) = (Arc::clone(&self.inner), Arc::clone(&self.hold));
        self.inner.home.spawn(async move {
            let name = Arc::clone(&hold.name);
            if let Err(error) = free(inner, hold).await {
                tracing::info!(lock.name = %name, error = chain(&error),
                    "a cluster lock could not be released and has to run out");
            }
        });
    }
}

impl fmt::Debug for ClusterLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterLock({:?}, token {})", self.hold.name, self.hold.token)
    }
}

/// Guards transactions with a lock that is held elsewhere; a cheap clone that does not keep the lock.
#[derive(Clone)]
pub struct LockFence {
    hold: Arc<Hold>,
    backend: Backend,
}

impl LockFence {
    /// Returns the fencing token, as [`ClusterLock::token`].
    #[must_use]
    pub fn token(&self) -> u64 {
        self.hold.token
    }

    /// Does the same as [`ClusterLock::guard`].
    ///
    /// # Errors
    /// As [`ClusterLock::guard`].
    pub async fn guard<C: ConnectionTrait>(&self, transaction: &C) -> Result<(), LockError> {
        let hold = &self.hold;
        let held = table::is_held_by(transaction, self.backend, &hold.name, &hold.holder).await;
        if held.map_err(|error| LockError::Store(error.into()))? {
            return Ok(());
        }
        Err(LockError::Lost { name: hold.name.to_string() })
    }
}

impl fmt::Debug for LockFence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockFence({:?}, token {})", self.hold.name, self.hold.token)
    }
}
