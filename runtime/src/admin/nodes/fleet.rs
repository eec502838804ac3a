//! The nodes of the cluster, asked and told from any of them.

use std::time::Duration;

use actix_web::http::StatusCode;
use futures_util::future::join_all;

use super::detail::NodeDetail;
use super::messages::{DetailOf, DrainHere, IsReady, RestartHere, StopNotesOf, UndrainHere};
use crate::bus::{Bus, BusError};
use crate::http::problem::{ApiError, Problem};
use crate::ids::{NodeId, NodeName};
use crate::lock::{ClusterLock, ClusterLocks, LockError, LockOptions};
use crate::membership::{Drained, Member, MemberState, Membership};
use crate::service::{NodeContext, StopNote};

/// How long a node may take to say how it is.
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// How long a node may take to do what it is told.
const TELL_LIMIT: Duration = Duration::from_secs(2);
/// Held while somebody makes sure that another node is ready and then takes one out: two at once could take the last two.
const LOCK: &str = "understudy.nodes";
/// How long others may take to do that.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// The nodes of the cluster as an operator deals with them, from whichever node; a cheap clone.
#[derive(Debug, Clone)]
pub struct Fleet {
    bus: Bus,
    membership: Membership,
    locks: ClusterLocks,
}

/// What an operator wants of a node, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Who wants it.
    pub by: String,
    /// Why, in their words.
    pub why: String,
    /// Whether it is wanted even when no other node is ready.
    pub force: bool,
}

/// A node was not told, or does not do it.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// No other node is ready: nobody would serve.
    #[error("no other node is ready")]
    LastNode,
    /// It is being stopped already.
    #[error("the node is being stopped")]
    Stops,
    /// It was not told: why that must not be any more.
    #[error("{0}")]
    NoMore(String),
    /// It does not answer.
    #[error("the node {node} does not answer")]
    Unreachable {
        /// Which life of which node.
        node: NodeId,
        /// Why; unless it says that it surely was not, the node may have been told.
        #[source]
        source: BusError,
    },
    /// It could not be made sure that nobody else takes a node out at this moment.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl Fleet {
    /// Makes it out of a node.
    #[must_use]
    pub fn of(node: &NodeContext) -> Self {
        Self {
            bus: node.bus.clone(),
            membership: node.membership.clone(),
            locks: node.locks.clone(),
        }
    }

    /// Finds a node by its name in the list of nodes, whether it is alive or not.
    #[must_use]
    pub fn member(&self, name: &NodeName) -> Option<Member> {
        self.membership.members().iter().find(|member| member.record.id.name() == name).cloned()
    }

    /// Asks a node how it is; `None` when it does not answer within a second.
    pub async fn detail(&self, node: &NodeId) -> Option<NodeDetail> {
        self.bus.request(node, &DetailOf {}, ASK_LIMIT).await.ok()
    }

    /// Asks a node what should be known before it is stopped; `None` when it does not answer.
    pub async fn stop_notes(&self, node: &NodeId) -> Option<Vec<StopNote>> {
        self.bus.request(node, &StopNotesOf {}, TELL_LIMIT).await.ok()
    }

    /// Asks all nodes but one whether they are ready; answers within a second whether one is.
    pub async fn others_ready(&self, except: &NodeName) -> bool {
        let members = self.membership.members();
        let others = members
            .iter()
            .filter(|member| member.live && member.record.id.name() != except)
            .map(async |member| self.is_ready(member).await);
        join_all(others).await.contains(&true)
    }

    /// Asks a node whether it is ready; one that does not answer within a second is not.
    pub async fn is_ready(&self, member: &Member) -> bool {
        match self.bus.request(&member.record.id, &IsReady {}, ASK_LIMIT).await {
            Ok(ready) => ready,
            // Of a version that tells the list only.
            Err(BusError::NoHandler) => member.record.state == MemberState::Ready,
            Err(
                BusError::NoReceiver
                | BusError::TimedOut
                | BusError::Unavailable
                | BusError::Undecodable,
            ) => false,
        }
    }

    /// Takes a node out of service, without stopping it.
    ///
    /// # Errors
    /// [`FleetError`]; after [`FleetError::Unreachable`] the node may be out of service all the same.
    pub async fn drain(&self, node: &NodeId, wish: &Wish) -> Result<Drained, FleetError> {
        let _nobody_else = self.another_is_ready(node, wish.force).await?;
        let message = DrainHere { by: wish.by.clone(), why: wish.why.clone() };
        let drained = self.bus.request(node, &message, TELL_LIMIT).await;
        drained.map_err(|source| unreachable(node, source))?.ok_or(FleetError::Stops)
    }

    /// Takes a node back into service.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn undrain(&self, node: &NodeId, by: &str) -> Result<(), FleetError> {
        let message = UndrainHere { by: by.to_owned() };
        let done = self.bus.request(node, &message, TELL_LIMIT).await;
        match done.map_err(|source| unreachable(node, source))? {
            true => Ok(()),
            false => Err(FleetError::Stops),
        }
    }

    /// Has a node drain and end its process, for a supervisor to start it again. Asked once more, of the same life of the
    /// node, it comes to the same.
    ///
    /// # Errors
    /// [`FleetError`]; after [`FleetError::Unreachable`] the node may have heard it all the same.
    pub async fn restart(&self, node: &NodeId, wish: &Wish) -> Result<(), FleetError> {
        self.restart_if(node, wish, std::future::ready(Ok(()))).await
    }

    /// The same, unless `still` says, when all has been waited for, why it must not be any more.
    ///
    /// # Errors
    /// [`FleetError`]; [`FleetError::NoMore`] with what `still` said.
    pub async fn restart_if(
        &self,
        node: &NodeId,
        wish: &Wish,
        still: impl Future<Output = Result<(), String>>,
    ) -> Result<(), FleetError> {
        let _nobody_else = self.another_is_ready(node, wish.force).await?;
        still.await.map_err(FleetError::NoMore)?;
        let message = RestartHere { by: wish.by.clone(), why: wish.why.clone() };
        let told = self.bus.request(node, &message, TELL_LIMIT).await;
        told.map_err(|source| unreachable(node, source))
    }

    /// Makes sure that another node is ready, and that nobody else takes one out until the lock is dropped.
    async fn another_is_ready(
        &self,
        node: &NodeId,
        force: bool,
    ) -> Result<Option<ClusterLock>, FleetError> {
        if force {
            return Ok(None);
        }
        let lock = self.locks.acquire(LOCK, LockOptions::default().wait(LOCK_WAIT)).await?;
        match self.others_ready(node.name()).await {
            true => Ok(Some(lock)),
            false => Err(FleetError::LastNode),
        }
    }
}

fn unreachable(node: &NodeId, source: BusError) -> FleetError {
    FleetError::Unreachable { node: node.clone(), source }
}

impl ApiError for FleetError {
    fn problem(&self) -> Problem {
        match self {
            Self::LastNode => {
                let title = "No other node is ready";
                Problem::new(StatusCode::CONFLICT, "last_node", title)
                    .with_detail("with `?force=true` nobody is left to serve")
            }
            Self::Stops => {
                Problem::new(StatusCode::CONFLICT, "node_stops", "The node is being stopped")
            }
            Self::NoMore(why) => {
                Problem::new(StatusCode::CONFLICT, "no_more", "The node was not told")
                    .with_detail(why.clone())
            }
            Self::Unreachable { source, .. } => {
                let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, "node_unreachable");
                let detail = match source.surely_not_done() {
                    true => format!("{source}; it was not told"),
                    false => format!("{source}; it may have been told all the same"),
                };
                Problem::new(status, code, "The node does not answer")
                    .with_detail(detail)
                    .with_retry_after(Duration::from_secs(1))
            }
            Self::Lock(error) => error.problem(),
        }
    }
}
