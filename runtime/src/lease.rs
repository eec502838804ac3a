//! Node leases: what a node may do without asking, until when, and since when nothing came in between.
//!
//! Every node holds one lease per bucket. While it holds it, no other node can take over what it owns in that
//! bucket, so it answers from memory. Three parts:
//!
//! - the **table** at the store, changed only by the scripts beside this file; [`table::LeaseTable`] is the same in
//!   plain Rust and says exactly what each script does;
//! - the **trust** of the node ([`trust::LeaseTrust`]): what a reply, a silence or a jump of a clock means;
//! - the **actor** that renews, and the [`LeaseBoard`] on which it publishes the result for every thread to read.
//!
//! # A store that changed its identity
//! After a restart or a failover the table may be gone, and nodes may still trust leases of the old server. The
//! first renewal or claim the new server sees empties the table and begins a *grace* of one time to live in which
//! nobody can claim. A node that was a member before may end the grace early: once it has put back what it owns it
//! *settles*, naming every node it knew; when all those have settled too, nobody can hold an old lease and the
//! grace is over. A process that just started knows nobody and therefore cannot shorten it.
//!
//! It deliberately knows no session: who uses leases compares stamps.

use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;

use crate::actors::ActorType;
use crate::ids::{Bucket, NodeId};
use crate::redis::{RedisError, Script};

mod actor;
mod board;
pub mod database;
mod handle;
mod redis_store;
pub mod table;
pub mod trust;

pub use board::{LeaseBoard, LeaseStamp};
pub use handle::{Knowledge, LeaseHandle, LeaseSpec, SettleHook};
pub use redis_store::RedisLeases;

/// The actor that renews.
pub static LEASE: ActorType = ActorType {
    name: "lease",
    meaning: "Renews the leases under which the node answers from memory",
    instead: Some("a node without its lease may own nothing: drain the node, or restart it"),
};

/// Removes the lease of a node that stopped; see [`table::LeaseTable::drop_node`].
pub(crate) static DROP_NODE: LazyLock<Script> = LazyLock::new(|| {
    Script::even_when_full("lease.drop_node", include_str!("lease/drop_node.lua"))
});
/// Renews a lease; see [`table::LeaseTable::renew`].
pub(crate) static RENEW: LazyLock<Script> =
    LazyLock::new(|| Script::even_when_full("lease.renew", include_str!("lease/renew.lua")));
/// Shortens a grace; see [`table::LeaseTable::settle`].
pub(crate) static SETTLE: LazyLock<Script> =
    LazyLock::new(|| Script::even_when_full("lease.settle", include_str!("lease/settle.lua")));

/// Where the leases of all nodes are kept. Each method is one atomic step at the store.
#[async_trait]
pub trait LeaseStore: Send + Sync + std::fmt::Debug + 'static {
    /// Extends the lease of a node to the store's now + `ttl`. Idempotent.
    ///
    /// # Errors
    /// [`LeaseError`]; after [`LeaseError::Unavailable`] the renewal may have happened, or still will.
    async fn renew(
        &self,
        bucket: Bucket,
        node: &NodeId,
        ttl: Duration,
    ) -> Result<Renewed, LeaseError>;

    /// Says that `node` has put back what it owns, and that besides it at most `awaited` could still trust a lease
    /// of a server before the one named. Ends the grace when all that were ever named have settled; does nothing when
    /// the store is another server by now, on which nothing was put back yet. Idempotent.
    ///
    /// # Errors
    /// As [`LeaseStore::renew`]. Failing costs only time: the grace then runs its full length.
    async fn settle(
        &self,
        bucket: Bucket,
        node: &NodeId,
        server_id: &str,
        awaited: Vec<NodeId>,
    ) -> Result<Settled, LeaseError>;

    /// Removes the lease of a node that no longer trusts it, so that all it owned can be claimed at once. Idempotent.
    ///
    /// # Errors
    /// As [`LeaseStore::renew`]. Failing costs only time: the lease then runs out by itself.
    async fn drop_node(&self, bucket: Bucket, node: &NodeId) -> Result<(), LeaseError>;

    /// Counts the connections made so far, for renewing at once after a reconnect; `None` where there are none.
    fn reconnects(&self) -> Option<tokio::sync::watch::Receiver<u64>> {
        None
    }
}

/// Answer to a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// Identity of the store's memory: changes when the store may have forgotten or taken back something.
    pub server_id: String,
    /// Whether the lease had not run out before this renewal, in the table as this server knows it.
    pub continuous: bool,
    /// Whether the node was put out of the cluster: nothing was renewed, and never will be for this incarnation.
    pub evicted: bool,
    /// The store's clock, ms since 1970.
    pub now_ms: u64,
}

/// Answer to [`LeaseStore::settle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// No grace is left in this bucket.
    Open,
    /// The grace goes on.
    Waiting {
        /// For how long at most, ms.
        remaining_ms: u64,
    },
    /// The server changed again: renew, then settle anew.
    OtherServer,
}

/// The store of leases did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LeaseError {
    /// No answer; whether it happened is unknown.
    #[error("the lease store does not answer")]
    Unavailable(#[source] SharedError),
    /// The store refuses, and will until an operator changes something; the text says what.
    #[error("{advice}")]
    Refused {
        /// What is wrong and how to put it right.
        advice: String,
        /// What the store said.
        #[source]
        source: SharedError,
    },
}

/// A cause that can be cloned with the error it belongs to.
pub type SharedError = std::sync::Arc<dyn std::error::Error + Send + Sync>;

impl From<RedisError> for LeaseError {
    fn from(error: RedisError) -> Self {
        if error.is_retryable() {
            return Self::Unavailable(std::sync::Arc::new(error));
        }
        Self::Refused { advice: redis_store::advice(&error), source: std::sync::Arc::new(error) }
    }
}
