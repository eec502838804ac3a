//! Waiting for a lock: a queue per node, a word from the holder when it is free, and a question now and then.
//!
//! The first of the queue tells the holder's node that it waits ([`LockWanted`]); that node says when the lock is free
//! ([`LockFreed`]), at once if it is already. So nobody is told of locks that nobody wants. Both messages may be lost:
//! then the first of the queue asks the database again, at the latest when the holder's time is over.

use std::sync::{Arc, Weak};
use std::time::Duration;

use sea_orm::DbErr;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::held::{ClusterLock, Hold};
use super::table::{HeldBy, Taken};
use super::{Inner, LockError, LockOptions};
use crate::bus::BusRequest;
use crate::database::DatabaseError;
use crate::ids::NodeId;

/// How often the first of a queue asks when nobody tells it anything.
const POLL: Duration = Duration::from_secs(1);
/// How long the database may take, when the caller wants to wait less than that.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How often a holder is told that somebody waits. More than once, since it may not know yet that it has the lock; and
/// not for ever, since one that could not free it says each time that it has it no more.
const TELLS: u32 = 3;
/// Nodes that are told at the same time ask one after the other, in no order: so each gets its turn.
const JITTER_US: u64 = 3_000;

/// "Somebody here waits for this."
#[derive(Debug, Serialize, Deserialize)]
struct LockWanted {
    name: String,
    holder: String,
}

impl BusRequest for LockWanted {
    const NAME: &'static str = "lock.wanted";
    type Reply = ();
}

/// "This is free."
#[derive(Debug, Serialize, Deserialize)]
struct LockFreed {
    name: String,
    /// Whom an operator has taken it away from.
    #[serde(default)]
    cleared: Option<String>,
}

impl BusRequest for LockFreed {
    const NAME: &'static str = "lock.freed";
    type Reply = ();
}

/// Where those wait who want one lock on this node.
pub(super) struct Gate {
    /// One permit, handed out in the order of asking.
    queue: Semaphore,
    wake: Notify,
}

/// A place at a gate; the gate goes with the last one.
struct Seat {
    inner: Arc<Inner>,
    name: Arc<str>,
    gate: Option<Arc<Gate>>,
}

impl Seat {
    fn take(inner: &Arc<Inner>, name: &Arc<str>) -> (Self, Arc<Gate>) {
        let new = || Arc::new(Gate { queue: Semaphore::new(1), wake: Notify::new() });
        let gate = Arc::clone(&inner.gates.entry(Arc::clone(name)).or_insert_with(new));
        let seat =
            Self { inner: Arc::clone(inner), name: Arc::clone(name), gate: Some(gate.clone()) };
        (seat, gate)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        drop(self.gate.take());
        self.inner.gates.remove_if(&self.name, |_, gate| Arc::strong_count(gate) == 1);
    }
}

/// Answers the messages of other nodes.
pub(super) fn listen(inner: &Arc<Inner>) {
    // Weak, since the bus, which `inner` holds, keeps its handlers.
    let weak = Arc::downgrade(inner);
    let with = move |weak: &Weak<Inner>, act: &dyn Fn(&Inner)| {
        if let Some(inner) = weak.upgrade() {
            act(&inner);
        }
        std::future::ready(())
    };
    let wanted = weak.clone();
    inner.bus.handle(move |from, message: LockWanted| {
        with(&wanted, &|inner| inner.note_wanted(&from, &message))
    });
    inner
        .bus
        .handle(move |_from, message: LockFreed| with(&weak, &|inner| inner.note_freed(&message)));
}

impl Inner {
    fn note_wanted(&self, from: &NodeId, message: &LockWanted) {
        // The entry is locked meanwhile: either who frees the lock sees this, or it is gone and free.
        if let Some(hold) = self.held.get(&message.holder) {
            hold.wanted.insert(from.clone(), ());
            return;
        }
        self.bus.send(from, &LockFreed { name: message.name.clone(), cleared: None });
    }

    fn note_freed(&self, message: &LockFreed) {
        if let Some(hold) = message.cleared.as_ref().and_then(|holder| self.held.get(holder)) {
            hold.lose("an operator has taken it away");
        }
        if let Some(gate) = self.gates.get(message.name.as_str()) {
            gate.wake.notify_one();
        }
    }

    pub(super) fn tell_those_who_wait(&self, hold: &Hold) {
        let freed = LockFreed { name: hold.name.to_string(), cleared: None };
        for node in &hold.wanted {
            self.bus.send(node.key(), &freed);
        }
    }

    pub(super) fn tell_all_of_clearing(&self, name: &str, holder: &str) {
        let freed = LockFreed { name: name.to_owned(), cleared: Some(holder.to_owned()) };
        for node in self.membership.live() {
            self.bus.send(&node, &freed);
        }
    }

    fn tell_holder(&self, name: &str, held: &HeldBy) {
        if let Ok(node) = held.node.parse::<NodeId>() {
            let wanted = LockWanted { name: name.to_owned(), holder: held.holder.clone() };
            self.bus.send(&node, &wanted);
        }
    }
}

/// How one attempt ended.
enum Attempt {
    Granted(Box<ClusterLock>),
    Held(HeldBy),
}

/// Attempts to take the lock once. A task of its own, so that a caller who goes away meanwhile leaves no lock behind:
/// what the task then gives is dropped, and thereby released.
fn attempt(
    inner: &Arc<Inner>,
    name: &Arc<str>,
    ttl: Duration,
) -> JoinHandle<Result<Attempt, LockError>> {
    let (inner, name) = (Arc::clone(inner), Arc::clone(name));
    inner.home.clone().spawn(async move {
        let node = inner.bus.node_id().to_string();
        let holder: Arc<str> = Arc::from(format!("{node}/{:016x}", rand::random::<u64>()));
        let sent_at = inner.clock.now();
        match inner.table.take(&name, &holder, &node, ttl).await {
            Ok(Taken::Granted { token, is_new }) => {
                if is_new {
                    inner.sweep_sometimes();
                }
                let clock = Arc::clone(&inner.clock);
                let hold = Hold::new([name, holder], token, ttl, (clock, sent_at));
                let lock = ClusterLock::begin(&inner, hold);
                // Should the answer have come too late, it is dropped here and asked for anew.
                let held = lock.is_held();
                Ok(if held {
                    Attempt::Granted(Box::new(lock))
                } else {
                    Attempt::Held(HeldBy::default())
                })
            }
            Ok(Taken::Held(held)) => Ok(Attempt::Held(held)),
            Err(error) => {
                if error.is_retryable() {
                    // It may have been granted.
                    let free = async move { inner.table.free(&name, &holder).await.ok() };
                    tokio::spawn(free);
                }
                Err(error.into())
            }
        }
    })
}

/// Waits for a task of this module.
pub(super) async fn joined<T>(task: JoinHandle<Result<T, LockError>>) -> Result<T, LockError> {
    match task.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => {
            let ended = DbErr::Custom("the runtime of the locks has ended".into());
            Err(LockError::Store(DatabaseError::Away(ended)))
        }
    }
}

pub(super) async fn try_acquire(
    inner: &Arc<Inner>,
    name: Arc<str>,
    ttl: Duration,
) -> Result<Option<ClusterLock>, LockError> {
    match attempt_until(inner, &name, ttl, Instant::now()).await? {
        Attempt::Granted(lock) => Ok(Some(*lock)),
        Attempt::Held(_) => Ok(None),
    }
}

pub(super) async fn acquire(
    inner: &Arc<Inner>,
    name: Arc<str>,
    options: LockOptions,
) -> Result<ClusterLock, LockError> {
    let until = Instant::now() + options.wait;
    let (_seat, gate) = Seat::take(inner, &name);
    let Ok(Ok(_turn)) = timeout_at(until, gate.queue.acquire()).await else {
        return Err(busy(&name, None));
    };
    // The holder that was told that somebody waits here, and how often.
    let (mut told, mut times) = (String::new(), 0);
    loop {
        let (failed, pause) = match attempt_until(inner, &name, options.ttl, until).await {
            Ok(Attempt::Granted(lock)) => return Ok(*lock),
            Ok(Attempt::Held(held)) => {
                if held.holder != told {
                    (told, times) = (held.holder.clone(), 0);
                }
                if times < TELLS {
                    inner.tell_holder(&name, &held);
                    times += 1;
                }
                (busy(&name, Some(held.node)), held.remaining.min(POLL))
            }
            Err(error) if error.is_retryable() => (error, POLL),
            Err(error) => return Err(error),
        };
        if Instant::now() >= until {
            return Err(failed);
        }
        let next = until.min(Instant::now() + pause + jitter());
        tokio::select! {
            () = gate.wake.notified() => sleep(jitter()).await,
            () = sleep_until(next) => {}
        }
    }
}

/// Waits for an attempt as long as the caller wants to wait, and as long as a healthy database may take.
async fn attempt_until(
    inner: &Arc<Inner>,
    name: &Arc<str>,
    ttl: Duration,
    until: Instant,
) -> Result<Attempt, LockError> {
    let until = until.max(Instant::now() + ATTEMPT);
    let answer = timeout_at(until, joined(attempt(inner, name, ttl))).await;
    answer.unwrap_or(Err(LockError::Store(DatabaseError::TimedOut(ATTEMPT))))
}

fn busy(name: &str, node: Option<String>) -> LockError {
    LockError::Busy { name: name.to_owned(), node: node.filter(|node| !node.is_empty()) }
}

fn jitter() -> Duration {
    Duration::from_micros(rand::random_range(0..JITTER_US))
}
