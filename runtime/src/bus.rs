//! Messages between the nodes of a cluster: to one node, with or without an answer, and to all.
//!
//! Nodes need no ports to each other: messages go through Redis channels (sharded ones on a Cluster), or, in
//! embedded mode and in tests, through a [`LocalHub`] within the process; the frames are the same. What is asked of a
//! node while a message to it is on its way travels in one packet with the next: little load costs one `PUBLISH` each
//! way, much load costs few.
//!
//! Delivery is **at most once** and nothing is kept for a node that does not listen. A request ends in one of three
//! ways: an answer; [`BusError::NoReceiver`], so it was surely not carried out; or anything else, and then it may
//! have been. A handler is a future of its own: requests are carried out concurrently and in no order.
//!
//! A message that is sent within a trace ([`crate::trace`]) takes it along: its handler runs in a span of that trace.
//!
//! Tasks run on the tokio runtime on which the bus was made, best a multi-threaded one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actors::{ActorType, Probe};
use crate::ids::NodeId;
use crate::keys::KeySpace;
use crate::redis::Redis;

mod core;
mod frame;
mod handlers;
mod local;
mod outbox;
mod redis_transport;
mod sending;
mod spans;

pub use local::LocalHub;

use self::core::BusCore;

/// What handles the messages of nodes.
pub static BUS: ActorType = ActorType {
    name: "bus",
    meaning: "Handles what other nodes, and this one, ask of the node",
    instead: Some("nothing reaches a node without it: restart the node"),
};

/// A message that asks for an answer (or, with [`Bus::send`], for none). Both sides must agree on the form: add
/// fields with `#[serde(default)]`, and rename the message when its meaning changes.
pub trait BusRequest: Serialize + DeserializeOwned + Send + 'static {
    /// Tells messages apart; the same in every version that understands it.
    const NAME: &'static str;
    /// What is answered.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Nobody listened, or the node has too much to do: **surely not carried out**.
    #[error("the node does not take messages")]
    NoReceiver,
    /// No answer in time; the request may have been carried out, or still will be.
    #[error("the node did not answer in time")]
    TimedOut,
    /// Redis is away, or the handler failed; the request may have been carried out.
    #[error("the message or its answer was lost")]
    Unavailable,
    /// The request or its answer could not be read: different versions.
    #[error("the message could not be read")]
    Undecodable,
    /// The node has nobody for this message: surely not carried out.
    #[error("the node does not know this message")]
    NoHandler,
}

impl BusError {
    /// Whether the request was surely not carried out.
    #[must_use]
    pub fn surely_not_done(&self) -> bool {
        matches!(self, Self::NoReceiver | Self::NoHandler)
    }
}

/// Names the nodes that a broadcast is for.
pub type Targets = Arc<dyn Fn() -> Vec<NodeId> + Send + Sync>;

/// The way to the other nodes; a cheap clone. Closed when the last clone is gone.
#[derive(Clone)]
pub struct Bus {
    core: Arc<BusCore>,
}

impl Bus {
    /// Makes a bus over Redis and begins to listen; what comes before it listens is lost, see [`listening`](Self::listening).
    ///
    /// `publisher` is a connection of [`Role::Bus`](crate::redis::Role::Bus), `subscriber` one of
    /// [`Role::Subscriber`](crate::redis::Role::Subscriber); `targets` names the living nodes for broadcasts.
    #[must_use]
    pub fn redis(
        publisher: Redis,
        subscriber: &Redis,
        keys: KeySpace,
        node: NodeId,
        targets: Targets,
    ) -> Self {
        Self { core: redis_transport::start(publisher, subscriber, keys, node, targets) }
    }

    /// Makes a bus within this process; broadcasts go to all of the hub.
    #[must_use]
    pub fn local(hub: &LocalHub, node: NodeId) -> Self {
        Self { core: hub.join(node) }
    }

    /// Says what is done with a message: at most one handler per message, the last one said counts.
    pub fn handle<M, F, Fut>(&self, handler: F)
    where
        M: BusRequest,
        F: Fn(NodeId, M) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = M::Reply> + Send + 'static,
    {
        self.core.handlers.add::<M, F, Fut>(handler);
    }

    /// Sends a request to one node and waits for the answer. A node may ask itself; that needs no Redis.
    ///
    /// # Errors
    /// [`BusError`]; only [`BusError::surely_not_done`] excludes that it was carried out.
    pub async fn request<M: BusRequest>(
        &self,
        to: &NodeId,
        message: &M,
        timeout: Duration,
    ) -> Result<M::Reply, BusError> {
        BusCore::request(&self.core, to, message, timeout).await
    }

    /// Sends a request to every living node, this one among them, and waits for all answers.
    pub async fn broadcast<M: BusRequest + Sync>(
        &self,
        message: &M,
        timeout: Duration,
    ) -> Vec<(NodeId, Result<M::Reply, BusError>)> {
        let targets = (self.core.targets)();
        let requests = targets.into_iter().map(async |node| {
            let answer = self.request(&node, message, timeout).await;
            (node, answer)
        });
        futures_util::future::join_all(requests).await
    }

    /// Sends a message to one node; its answer, if any, is dropped there. Returns before it is sent.
    pub fn send<M: BusRequest>(&self, to: &NodeId, message: &M) {
        BusCore::send(&self.core, to, message);
    }

    /// Says what is done when messages to this node may have been lost: after a lost connection, and when they came
    /// faster than they were taken. Whoever relies on messages for freshness reads everything anew then.
    pub fn on_gap(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.core.on_gap(Box::new(hook));
    }

    /// Speaks to this node the way others do, and returns how long it took until it heard itself; nothing when that took
    /// longer than `limit`.
    pub async fn echo(&self, limit: Duration) -> Option<Duration> {
        self.core.hear(limit).await
    }

    /// Has it counted what this node handles, as a [`BUS`]; the first place that is given counts.
    pub fn count_for(&self, probe: Probe) {
        probe.set_load(1, 0, 0);
        self.core.probe.set(probe).ok();
    }

    /// Waits until messages to this node arrive.
    pub async fn listening(&self) {
        self.core.listening().await;
    }

    /// Returns this node.
    #[must_use]
    pub fn node_id(&self) -> &NodeId {
        &self.core.node
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bus({})", self.core.node)
    }
}

#[cfg(test)]
mod tests;
