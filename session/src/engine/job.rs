//! What is asked of a session on this node, and what comes back.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::Span;
use understudy_runtime::clock::BootInstant;
use understudy_runtime::ids::NodeId;

use crate::record::{OpId, Record, SecretHash};
use crate::state::{Ask, Outcome, Task};

/// What somebody wants of a session.
#[derive(Debug)]
pub struct Job {
    /// What.
    pub work: Work,
    /// Who waits for it; more than one when a peer asked again.
    pub replies: Vec<oneshot::Sender<Answer>>,
    /// When whoever waits gives up.
    pub deadline: BootInstant,
    /// When this node first tried; failures of the store are borne until [`Moment::patience`](super::Moment::patience) later.
    pub submitted: BootInstant,
    /// Came over the bus: must be done here or not at all.
    pub from_peer: bool,
    /// Set once it was sent to another node.
    pub trace: Option<Trace>,
    /// How often it was sent to another node.
    pub sent: u32,
    /// What whoever asked is doing; its way to another node belongs to the same trace.
    pub span: Span,
}

/// What a job does.
#[derive(Debug)]
pub enum Work {
    /// Shows the session.
    View,
    /// Changes it.
    Ask(Ask),
    /// Ends it; with a secret, only if that still opens it.
    Revoke(Option<SecretHash>),
}

impl Work {
    /// Names its kind, for counts and lists.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Ask(_) => "change",
            Self::Revoke(_) => "end",
        }
    }
}

/// An operation that was, or may have been, seen by another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// Its id, the same whenever it is sent again.
    pub id: OpId,
    /// Version of the session that was known before it was first sent.
    pub known_version: u64,
    /// Whether it may have been carried out already.
    pub uncertain: bool,
}

/// What a job gets.
pub type Answer = Result<Reply, Refusal>;

/// What a job gets when all is well.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Outcome of an operation and the version after it.
    Done(Outcome, u64),
    /// The session as every acknowledged write left it.
    View(View),
    /// It is over now.
    Revoked,
}

/// A session to look at.
#[derive(Debug, Clone)]
pub struct View {
    /// As it is.
    pub record: Arc<Record>,
    /// The store's clock at that moment, ms since 1970.
    pub now_ms: u64,
    /// Who owns it, if not this node.
    pub owner: Option<NodeId>,
}

/// Why a job was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// There is no such session any more.
    Ended,
    /// The store is away; a change may have been carried out.
    Unavailable,
    /// The store has no room, or refuses for another reason of its own; nothing was changed.
    Refused,
    /// The owner is silent, its lease still live; nothing was changed, or it is not known.
    Busy,
    /// Another node took the session over while the change was under way, which was not carried out.
    Conflict,
    /// Whether the change was carried out cannot be told any more.
    OutcomeUnknown,
    /// This node neither owns the session nor may claim it (answer to peers only); nothing was changed.
    NotOwner,
    /// What the store holds cannot be read.
    Unreadable,
    /// The actor ended before it answered, after a panic for example; whether the change was carried out stands in the
    /// record.
    Lost,
}

/// Whether it is an end that was sent without an answer, and that nobody waits for any more.
pub(super) fn is_unanswered_end(job: &Job) -> bool {
    matches!(job.work, Work::Revoke(_)) && job.replies.is_empty()
}

/// Takes out the jobs that `matches`; the others keep their order.
pub(super) fn take_if(queue: &mut VecDeque<Job>, matches: impl Fn(&Job) -> bool) -> Vec<Job> {
    if !queue.iter().any(&matches) {
        return Vec::new();
    }
    let (taken, kept): (Vec<Job>, Vec<Job>) = std::mem::take(queue).into_iter().partition(matches);
    *queue = kept.into();
    taken
}

impl Job {
    /// An update that is a function cannot travel; its caller sends a compare-and-set instead.
    pub(super) fn stays(&self) -> bool {
        matches!(&self.work, Work::Ask(Ask { task: Task::Update { .. }, .. }))
    }

    pub(super) fn id(&self) -> Option<OpId> {
        self.trace.map(|trace| trace.id)
    }

    pub(super) fn ask(&mut self) -> Option<&mut Ask> {
        match &mut self.work {
            Work::Ask(ask) => Some(ask),
            Work::View | Work::Revoke(_) => None,
        }
    }
}
