//! The handle on the lease actor: starting it, following it, giving the leases back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter, ArbiterHandle};
use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};

use super::actor::{LeaseActor, Release};
use super::board::{LeaseBoard, LeaseStamp};
use super::{LeaseError, LeaseStore};
use crate::actors::Probe;
use crate::clock::SharedClock;
use crate::ids::{Bucket, NodeId};

/// What a node knows of the others; the membership, outside of tests.
pub trait Knowledge: Send + Sync + fmt::Debug {
    /// Returns every other node that could trust a lease, or `None` when this node cannot be sure to know all.
    fn others(&self) -> Option<Vec<NodeId>>;

    /// Whether every other node surely counts this one among its `others`. Until then a lease is renewed, but not
    /// trusted: a node that knows all others may end a grace early, and must not overlook this one.
    fn known_to_all(&self) -> bool;
}

/// Puts back what this node owns in a bucket after the store changed its identity; awaited before the node settles.
pub type SettleHook = Arc<dyn Fn(Bucket, LeaseStamp) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a lease actor needs to know.
#[derive(Debug, Clone)]
pub struct LeaseSpec {
    /// Whose leases they are.
    pub node_id: NodeId,
    /// The clock of all deadlines.
    pub clock: SharedClock,
    /// How long a lease lasts without a renewal; it is renewed three times as often.
    pub ttl: Duration,
    /// How many buckets there are.
    pub buckets: u16,
    /// The other nodes; `None` where there are none to know.
    pub knowledge: Option<Arc<dyn Knowledge>>,
    /// Where the actor counts what it does, as a [`LEASE`](super::LEASE).
    pub probe: Probe,
}

/// This node's leases; a cheap clone.
#[derive(Clone)]
pub struct LeaseHandle {
    board: LeaseBoard,
    shared: Arc<LeaseShared>,
    running: Option<Arc<Running>>,
}

/// The actor, and its thread, which ends with the last handle: then the leases run out as after a crash.
struct Running {
    addr: Addr<LeaseActor>,
    arbiter: ArbiterHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.arbiter.stop();
    }
}

/// What the actor and its handles share besides the board.
pub(super) struct LeaseShared {
    pub(super) changes: watch::Sender<u64>,
    pub(super) hook: ArcSwapOption<SettleHook>,
    pub(super) trouble: ArcSwapOption<LeaseError>,
}

impl Default for LeaseShared {
    fn default() -> Self {
        Self {
            changes: watch::Sender::new(0),
            hook: ArcSwapOption::empty(),
            trouble: ArcSwapOption::empty(),
        }
    }
}

impl LeaseHandle {
    /// Starts the lease actor on a thread of its own, where nothing else can delay it. Needs an actix system.
    ///
    /// `connect` makes the store on that thread, so that its connection is driven there too. A store that is away is
    /// no error: renewals are tried for ever, and [`first_renewal`](Self::first_renewal) waits for the first.
    ///
    /// # Errors
    /// That of `connect`.
    pub async fn start<F, Fut, E>(spec: LeaseSpec, connect: F) -> Result<Self, E>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Arc<dyn LeaseStore>, E>> + 'static,
        E: Send + 'static,
    {
        let board = LeaseBoard::new(spec.buckets);
        let shared = Arc::new(LeaseShared::default());
        let arbiter = Arbiter::new();
        let (answer, started) = oneshot::channel();
        let for_actor = (board.clone(), shared.clone());
        arbiter.spawn_fn(move || {
            actix::spawn(async move {
                let addr = connect()
                    .await
                    .map(|store| LeaseActor::new(spec, store, for_actor.0, for_actor.1).start());
                // Whoever started it may have given up waiting; then the actor ends with the arbiter.
                answer.send(addr).ok();
            });
        });
        // The sender lives in the task above until it has sent; it is lost only with the whole system.
        let Ok(addr) = started.await else { return std::future::pending().await };
        let arbiter = arbiter.handle();
        match addr {
            Ok(addr) => {
                Ok(Self { board, shared, running: Some(Arc::new(Running { addr, arbiter })) })
            }
            Err(error) => {
                arbiter.stop();
                Err(error)
            }
        }
    }

    /// Makes the handle of a node that shares its store with nobody: all leases are held, always.
    #[must_use]
    pub fn always() -> Self {
        Self { board: LeaseBoard::always(), shared: Arc::default(), running: None }
    }

    /// Returns the board with the state of every lease.
    #[must_use]
    pub fn board(&self) -> &LeaseBoard {
        &self.board
    }

    /// Returns a counter that changes with every change of a stamp in any bucket.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Says what must be done before this node settles after a change of server; the last one said counts. Without
    /// one, no grace is shortened by this node.
    pub fn before_settling(&self, hook: SettleHook) {
        self.shared.hook.store(Some(Arc::new(hook)));
    }

    /// Waits until the leases of all buckets are held; for ever while the store is away.
    pub async fn first_renewal(&self, clock: &SharedClock) {
        let mut changes = self.subscribe();
        while !self.board.all_held(clock.now()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Returns why the last renewal failed; `None` when it did not.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<LeaseError>> {
        self.shared.trouble.load_full()
    }

    /// Gives all leases back, so that others can claim at once what this node owned. The board is empty before the
    /// store hears of it, and stays so. What cannot be given back within the store's time-out runs out by itself.
    pub async fn release(&self) {
        let Some(running) = &self.running else { return };
        // A closed mailbox means that it was released before.
        if running.addr.send(Release).await.is_ok() {
            running.arbiter.stop();
        }
    }
}

impl fmt::Debug for LeaseHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LeaseHandle").field(&self.board).finish()
    }
}
