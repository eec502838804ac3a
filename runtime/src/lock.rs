//! Locks that one holder in the whole cluster has at a time, for applications: [`ClusterLocks`].
//!
//! A lock is a row of `us_cluster_lock` with the time until when it is held, by the **database's** clock. Its holder
//! extends it in the background until it is released or dropped; of a holder that dies it is free after its time to
//! live. Every acquisition has a **token** that is greater than all tokens the name ever had.
//!
//! # What a lock is worth
//! As long as clocks run at about the same speed (one tenth of the time to live is kept back for that), nobody else
//! holds the lock while [`ClusterLock::is_held`] says yes. But a process can stand still between that question and what
//! it does next, for longer than the lock lives. So what must not go wrong is protected by what is written to:
//! - by the database, with [`ClusterLock::guard`] in the transaction that writes: the lock cannot change hands before
//!   that transaction has ended;
//! - anywhere else, by the token: the resource refuses a token less than the greatest one it has seen.
//!
//! # Why not Redis
//! Redlock and its kin make a lock of a key that expires. They cannot give a token: Redis has nothing that grows for
//! ever, since a replica that is promoted, or a server that comes back empty, forgets the latest writes. We measured it:
//! after a partitioned replica was promoted the lock was free again and `INCR fence` gave 2 while a holder had 3
//! (`design/scheduler.md`, finding 2). Without a token a lock that expires cannot protect anything that matters from a
//! holder that was paused (M. Kleppmann, "How to do distributed locking", 2016), and with several servers its safety
//! rests on their wall clocks besides. The database keeps what it answered, has one clock, and can check the lock in the
//! very transaction that writes; and embedded mode has one too. It costs a write to acquire and one to release:
//! a lock is for work of milliseconds and more. Messages between nodes only wake those who wait; when one is lost, a
//! waiter asks again within a second.
//!
//! There is no order among waiters of different nodes (those of one node queue up), and a lock is not reentrant.

mod error;
mod held;
mod sweep;
mod table;
mod waiting;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpRequest};
use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::bus::Bus;
use crate::clock::SharedClock;
use crate::database::Database;
use crate::http::problem::Problem;
use crate::membership::Membership;
use crate::service::NodeContext;

pub use error::LockError;
pub use held::{ClusterLock, LockFence};

use held::Hold;
use table::LockTable;
use waiting::Gate;

/// A lock that lives shorter would be lost to every pause of an ordinary machine.
const SHORTEST_TTL: Duration = Duration::from_millis(500);
/// Whoever needs more does not want a lock that ends with its holder.
const LONGEST_TTL: Duration = Duration::from_secs(24 * 3600);
/// Longest name of a lock, in characters.
const LONGEST_NAME: usize = 200;
/// How many locks are listed at most.
const MOST_LISTED: u32 = 1_000;
/// Extensions and acquisitions must not wait behind the statements of the application, nor for transactions of those
/// who wait for a lock themselves.
const LOCK_CONNECTIONS: u32 = 4;

/// How a lock is acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockOptions {
    /// After how long without an extension others get the lock: how long they wait when its holder dies. From 500 ms to
    /// 24 h, 10 s if nothing else is said. The holder extends it each third of that.
    pub ttl: Duration,
    /// How long to wait for the lock while others have it, 30 s if nothing else is said. Zero: not at all.
    pub wait: Duration,
}

impl Default for LockOptions {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(10), wait: Duration::from_secs(30) }
    }
}

impl LockOptions {
    /// Sets after how long without an extension others get the lock.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets how long to wait for the lock.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }
}

/// A lock that somebody holds, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockInfo {
    /// Its name.
    pub name: String,
    /// The token of its present holder.
    pub token: u64,
    /// The node that holds it.
    pub node: String,
    /// Which acquisition holds it.
    #[serde(skip)]
    pub(crate) holder: String,
    /// When it was acquired, ms since 1970 by the database's clock.
    pub acquired_ms: i64,
    /// How long it lives yet unless it is extended, ms.
    pub remaining_ms: i64,
}

/// A lock that this node holds, as it knows itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeldLock {
    pub(crate) name: String,
    pub(crate) token: u64,
    /// For how long it is trusted yet unless it is extended, ms.
    pub(crate) trusted_ms: u64,
}

/// Looks at what this node holds, and keeps nothing alive.
#[derive(Clone)]
pub(crate) struct HeldHere(Weak<Inner>);

impl HeldHere {
    /// Lists what is held at this moment, by name; asks no database.
    pub(crate) fn list(&self) -> Vec<HeldLock> {
        let Some(inner) = self.0.upgrade() else { return Vec::new() };
        let mut held: Vec<HeldLock> = inner.held.iter().filter_map(|one| one.shown()).collect();
        held.sort_by(|one, next| one.name.cmp(&next.name));
        held
    }
}

/// The locks of the cluster; a cheap clone. In a handler, ask for it as an argument.
#[derive(Clone)]
pub struct ClusterLocks {
    inner: Arc<Inner>,
}

struct Inner {
    table: LockTable,
    bus: Bus,
    membership: Membership,
    clock: SharedClock,
    /// All work is done here: the thread of whoever asks may be busy when an extension is due.
    home: Handle,
    /// What this node holds, by acquisition.
    held: DashMap<String, Arc<Hold>>,
    /// Where those wait who want a lock on this node, by its name.
    gates: DashMap<Arc<str>, Arc<Gate>>,
}

impl ClusterLocks {
    /// Makes the locks of a node; its work is done on the present runtime, best one with several threads. The schema
    /// must be up to date before it is used.
    #[must_use]
    pub fn new(
        database: &Database,
        bus: &Bus,
        membership: &Membership,
        clock: &SharedClock,
    ) -> Self {
        let database = database.clone().with_own_connections(LOCK_CONNECTIONS);
        let inner = Arc::new(Inner {
            table: LockTable::new(database),
            bus: bus.clone(),
            membership: membership.clone(),
            clock: Arc::clone(clock),
            home: Handle::current(),
            held: DashMap::new(),
            gates: DashMap::new(),
        });
        waiting::listen(&inner);
        Self { inner }
    }

    /// Waits for a lock and holds it until it is released or dropped.
    ///
    /// Never call it within a transaction of the database: on SQLite that transaction keeps the lock from being written.
    ///
    /// # Errors
    /// - [`LockError::Busy`] when others had it for all of [`LockOptions::wait`].
    /// - [`LockError::BadName`], [`LockError::BadTtl`] for what can never work.
    /// - [`LockError::Store`] when the database refuses, or is away until the end of the wait. Should it have granted
    ///   the lock all the same, that is given back, or runs out after its time to live.
    pub async fn acquire(
        &self,
        name: &str,
        options: LockOptions,
    ) -> Result<ClusterLock, LockError> {
        check_name(name)?;
        check_ttl(options.ttl)?;
        Box::pin(waiting::acquire(&self.inner, Arc::from(name), options)).await
    }

    /// Takes a lock if nobody has it; `None` when somebody does. It does not wait, but for the database.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), without [`LockError::Busy`].
    pub async fn try_acquire(
        &self,
        name: &str,
        ttl: Duration,
    ) -> Result<Option<ClusterLock>, LockError> {
        check_name(name)?;
        check_ttl(ttl)?;
        Box::pin(waiting::try_acquire(&self.inner, Arc::from(name), ttl)).await
    }

    /// Gives a look at what this node holds.
    pub(crate) fn held_here(&self) -> HeldHere {
        HeldHere(Arc::downgrade(&self.inner))
    }

    /// Lists the locks that somebody holds, the oldest first, 1,000 at most.
    ///
    /// # Errors
    /// [`LockError::Store`] when the database is away or refuses.
    pub async fn list(&self) -> Result<Vec<LockInfo>, LockError> {
        Ok(self.inner.table.list(MOST_LISTED).await?)
    }

    /// Takes a lock away from whoever holds it, who is told; gives what it was, `None` when nobody held it.
    ///
    /// For operators: the holder may be in the middle of its work. What it still writes is refused by
    /// [`guard`](ClusterLock::guard), and carries a token less than that of the next holder.
    ///
    /// # Errors
    /// [`LockError::BadName`]; [`LockError::Store`] when the database is away or refuses.
    pub async fn clear(&self, name: &str) -> Result<Option<LockInfo>, LockError> {
        check_name(name)?;
        let cleared = self.inner.table.clear(name).await?;
        if let Some(lock) = &cleared {
            tracing::warn!(lock.name = name, lock.token = lock.token, node.holder = %lock.node,
                "a cluster lock was taken away from its holder");
            self.inner.tell_all_of_clearing(name, &lock.holder);
        }
        Ok(cleared)
    }

    /// Frees every lock. Only for a process that knows that nobody else uses its database, at its start: what an earlier
    /// life of it held need not be waited for.
    ///
    /// # Errors
    /// [`LockError::Store`] when the database is away or refuses.
    pub async fn free_all(&self) -> Result<(), LockError> {
        Ok(self.inner.table.free_all().await?)
    }
}

impl fmt::Debug for ClusterLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterLocks({}, {} held)", self.inner.bus.node_id(), self.inner.held.len())
    }
}

impl FromRequest for ClusterLocks {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let node = request.app_data::<NodeContext>();
        std::future::ready(node.map(|node| node.locks.clone()).ok_or_else(|| {
            let code = "locks_not_installed";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, code, "Cluster locks need a node")
        }))
    }
}

/// The part of a time to live that is not trusted, for what clocks may differ by: a tenth, and at least 100 ms.
fn margin(ttl: Duration) -> Duration {
    (ttl / 10).max(Duration::from_millis(100)).min(ttl / 2)
}

fn check_name(name: &str) -> Result<(), LockError> {
    let length = name.chars().take(LONGEST_NAME + 1).count();
    let good = (1..=LONGEST_NAME).contains(&length) && !name.chars().any(char::is_control);
    if good { Ok(()) } else { Err(LockError::BadName) }
}

fn check_ttl(ttl: Duration) -> Result<(), LockError> {
    let good = (SHORTEST_TTL..=LONGEST_TTL).contains(&ttl);
    if good { Ok(()) } else { Err(LockError::BadTtl { given: ttl }) }
}

#[cfg(test)]
mod tests;
