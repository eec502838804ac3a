//! What the worker is told and asked.

use actix::{Message, MessageResponse};
use understudy_runtime::actors::ActorType;
use understudy_runtime::service::Work;

use crate::run::RunId;
use crate::store::TakenRun;

/// What has the runs of a node.
pub(crate) static WORKER: ActorType = ActorType {
    name: "worker",
    meaning: "Carries out the runs of this node, and says that they live",
    instead: Some("its runs would be lost: cancel a run (`run cancel`), or drain the node"),
};

/// Carries out runs that this node has started. One that it has already is not begun again.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Begin(pub(crate) Vec<TakenRun>);

/// An attempt of a run has ended, whatever became of it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Ended(pub(crate) (RunId, u32));

/// Tells a run to end; answers whether this node has it.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub(crate) struct CancelRun {
    pub(crate) run: RunId,
    pub(crate) by: String,
}

/// This node's term has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct EpochEnded {
    pub(crate) epoch: u64,
    /// Against its will: another node may lead already.
    pub(crate) fenced: bool,
}

/// Asks how many runs have not ended.
#[derive(Debug, Message)]
#[rtype(result = "usize")]
pub(crate) struct Underway;

/// Asks what would become of the runs if this node stopped.
#[derive(Debug, Message)]
#[rtype(result = "Load")]
pub(crate) struct WhatRuns;

/// Asks which runs are under way, Understudy's own among them.
#[derive(Debug, Message)]
#[rtype(result = "Vec<Work>")]
pub(crate) struct RunsUnderWay;

/// The runs of a node that are not Understudy's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, MessageResponse)]
pub(crate) struct Load {
    pub(crate) runs: usize,
    /// Those of them that are lost if they do not finish while the node stops: they may not be repeated.
    pub(crate) unrepeatable: usize,
}

/// Tells all runs to end, so that other nodes can have them; answers how many there are.
#[derive(Debug, Message)]
#[rtype(result = "usize")]
pub(crate) struct HandBack;
