//! Asks all nodes, or some of them, to do something, and tells what became of it on each: [`Broadcast`].
//!
//! A message is a [`BusRequest`]. Each node says once what it does with it, best where a
//! [`Service`](crate::service::Service) starts; the same handler answers the node that asks:
//!
//! ```
//! # use serde::{Deserialize, Serialize};
//! # use understudy_runtime::broadcast::{Broadcast, Target};
//! # use understudy_runtime::bus::BusRequest;
//! # use understudy_runtime::service::NodeContext;
//! #[derive(Serialize, Deserialize)]
//! struct Forget { page: String }
//!
//! impl BusRequest for Forget {
//!     const NAME: &'static str = "shop.forget"; // the same on every node, for ever
//!     type Reply = usize; // how many were forgotten there
//! }
//!
//! fn at_start(node: &NodeContext) {
//!     Broadcast::of(node).handle(|_from, forget: Forget| async move { forget.page.len() });
//! }
//!
//! async fn later(broadcast: Broadcast) {
//!     let result = broadcast.to(Target::Ready).ask(&Forget { page: "/".to_owned() }).await;
//!     for failed in result.failed() {
//!         tracing::warn!(node.id = %failed.node, "did not forget");
//!     }
//! }
//! ```
//!
//! Asked are the nodes that count as alive at the beginning. There is no promise beyond the result: who did not answer
//! may have done it or may do it later (see [`BusError`]), and who joins meanwhile was not asked. What must reach every
//! node in the end belongs into the database; a broadcast then only says that it is there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpRequest};

use crate::bus::{Bus, BusError, BusRequest};
use crate::http::problem::Problem;
use crate::ids::NodeId;
use crate::membership::{MemberRecord, MemberState, Membership};
use crate::service::NodeContext;

/// Which of the living nodes are asked.
#[derive(Clone, Default)]
pub enum Target {
    /// All, whatever they are doing, this one among them.
    #[default]
    All,
    /// Those that serve requests.
    Ready,
    /// Those that have all these labels (`UNDERSTUDY_NODE_LABELS`).
    Labels(BTreeMap<String, String>),
    /// Those of which this says yes.
    Matching(Arc<dyn Fn(&MemberRecord) -> bool + Send + Sync>),
}

impl Target {
    /// Asks the nodes that have this label.
    #[must_use]
    pub fn label(key: &str, value: &str) -> Self {
        Self::Labels(BTreeMap::from([(key.to_owned(), value.to_owned())]))
    }

    /// Asks the nodes of which `filter` says yes.
    #[must_use]
    pub fn matching(filter: impl Fn(&MemberRecord) -> bool + Send + Sync + 'static) -> Self {
        Self::Matching(Arc::new(filter))
    }

    /// Whether a node is asked.
    #[must_use]
    pub fn includes(&self, record: &MemberRecord) -> bool {
        match self {
            Self::All => true,
            Self::Ready => record.state == MemberState::Ready,
            Self::Labels(labels) => {
                labels.iter().all(|(key, value)| record.labels.get(key) == Some(value))
            }
            Self::Matching(filter) => filter(record),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("All"),
            Self::Ready => f.write_str("Ready"),
            Self::Labels(labels) => f.debug_tuple("Labels").field(labels).finish(),
            Self::Matching(_) => f.write_str("Matching"),
        }
    }
}

/// Asks many nodes at once; a cheap clone. In a handler, ask for it as an argument.
#[derive(Debug, Clone)]
pub struct Broadcast {
    bus: Bus,
    membership: Membership,
    timeout: Duration,
    target: Target,
}

impl Broadcast {
    /// Makes what asks all living nodes, with the time-out `UNDERSTUDY_CLUSTER_BROADCAST_TIMEOUT_MS`.
    #[must_use]
    pub fn of(node: &NodeContext) -> Self {
        let timeout = node.config.cluster.broadcast_timeout;
        Self::new(node.bus.clone(), node.membership.clone(), timeout)
    }

    /// Makes what asks all living nodes of `membership`, and waits for each of them for so long at most.
    #[must_use]
    pub fn new(bus: Bus, membership: Membership, timeout: Duration) -> Self {
        Self { bus, membership, timeout, target: Target::All }
    }

    /// Asks only some nodes.
    #[must_use]
    pub fn to(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// Waits for the answers for so long at most.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Says what this node does with a message, whoever sends it: at most one handler per message, the last one said
    /// counts. Call it on every node before anybody asks; a node without one answers [`BusError::NoHandler`].
    pub fn handle<M, F, Fut>(&self, handler: F)
    where
        M: BusRequest,
        F: Fn(NodeId, M) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = M::Reply> + Send + 'static,
    {
        self.bus.handle(handler);
    }

    /// Says what is done when messages to this node may have been lost, see [`Bus::on_gap`].
    pub(crate) fn on_gap(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.bus.on_gap(hook);
    }

    /// Asks all nodes of the target at the same time; returns when each has answered, failed, or used up its time.
    pub async fn ask<M: BusRequest + Sync>(&self, message: &M) -> BroadcastResult<M::Reply> {
        let members = self.membership.members();
        let targets = members
            .iter()
            .filter(|member| member.live && self.target.includes(&member.record))
            .map(|member| member.record.id.clone());
        let requests = targets.map(async |node| {
            let result = self.bus.request(&node, message, self.timeout).await;
            NodeAnswer { node, result }
        });
        BroadcastResult { answers: futures_util::future::join_all(requests).await }
    }

    /// Names the nodes that were not asked and may live: while Redis is away nothing is heard of them.
    pub(crate) fn unasked<R>(&self, told: &BroadcastResult<R>) -> Vec<String> {
        let live = self.membership.live_when_read().into_iter();
        let silent = live.filter(|node| told.answers.iter().all(|answer| answer.node != *node));
        silent.map(|node| node.name().as_str().to_owned()).collect()
    }
}

impl FromRequest for Broadcast {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let node = request.app_data::<NodeContext>();
        std::future::ready(node.map(Self::of).ok_or_else(|| {
            let code = "broadcast_not_installed";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, code, "Broadcasts need a node")
        }))
    }
}

/// What one node answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAnswer<R> {
    /// Which life of which node.
    pub node: NodeId,
    /// Its answer, or why there is none.
    pub result: Result<R, BusError>,
}

/// What became of a broadcast, node by node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "some nodes may not have answered"]
pub struct BroadcastResult<R> {
    /// One entry per node that was asked, sorted by name.
    pub answers: Vec<NodeAnswer<R>>,
}

impl<R> BroadcastResult<R> {
    /// Whether every node that was asked has answered; also true when no node was. When a reply is itself a `Result`, the
    /// errors in it are the application's and count as answers.
    #[must_use]
    pub fn all_ok(&self) -> bool {
        self.answers.iter().all(|answer| answer.result.is_ok())
    }

    /// Gives the answers.
    pub fn ok(&self) -> impl Iterator<Item = (&NodeId, &R)> {
        self.answers.iter().filter_map(|answer| Some((&answer.node, answer.result.as_ref().ok()?)))
    }

    /// Gives the nodes that did not answer, and why.
    pub fn failed(&self) -> impl Iterator<Item = &NodeAnswer<R>> {
        self.answers.iter().filter(|answer| answer.result.is_err())
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::bus::LocalHub;
    use crate::membership::record_for_test;
    use crate::redis::testing::node;

    #[derive(Debug, Serialize, Deserialize)]
    struct Double(u64);

    impl BusRequest for Double {
        const NAME: &'static str = "test.double";
        type Reply = u64;
    }

    fn alone() -> Broadcast {
        let mut record = record_for_test(node("a"));
        record.labels = BTreeMap::from([("zone".to_owned(), "one".to_owned())]);
        let bus = Bus::local(&LocalHub::new(), record.id.clone());
        Broadcast::new(bus, Membership::single(record), Duration::from_secs(5))
    }

    #[tokio::test]
    async fn a_node_that_is_alone_asks_itself() {
        let broadcast = alone();
        let unheard = broadcast.ask(&Double(4)).await;
        assert!(!unheard.all_ok() && unheard.ok().count() == 0);
        assert_eq!(unheard.failed().next().unwrap().result, Err(BusError::NoHandler));
        broadcast.handle(async |_from, Double(number)| number * 2);
        let answered = broadcast.ask(&Double(4)).await;
        assert!(answered.all_ok() && answered.failed().count() == 0);
        let (node, reply) = answered.ok().next().unwrap();
        assert_eq!((node, *reply), (broadcast.bus.node_id(), 8));
    }

    #[tokio::test]
    async fn only_the_nodes_of_the_target_are_asked() {
        let broadcast = alone();
        broadcast.handle(async |_from, Double(number)| number * 2);
        let asked =
            async |target: Target| broadcast.clone().to(target).ask(&Double(1)).await.answers.len();
        assert_eq!(asked(Target::All).await, 1);
        assert_eq!(asked(Target::Ready).await, 0, "it is starting");
        broadcast.membership.set_state(MemberState::Ready);
        assert_eq!(asked(Target::Ready).await, 1);
        assert_eq!(asked(Target::label("zone", "one")).await, 1);
        assert_eq!(asked(Target::label("zone", "two")).await, 0);
        assert_eq!(asked(Target::label("rack", "one")).await, 0);
        assert_eq!(asked(Target::matching(|record| record.id.name().as_str() == "a")).await, 1);
        assert_eq!(asked(Target::matching(|record| record.pid == 0)).await, 0);
    }

    #[tokio::test]
    async fn who_takes_too_long_is_named_and_the_others_are_not_lost() {
        let broadcast = alone().within(Duration::from_millis(50));
        broadcast.handle(async |_from, Double(_)| std::future::pending().await);
        let result = broadcast.ask(&Double(1)).await;
        let failed: Vec<_> = result.failed().collect();
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].node, *broadcast.bus.node_id());
        assert_eq!(failed[0].result, Err(BusError::TimedOut));
    }
}
