//! How things stand with a session on this node, and what is to be done next.

use std::sync::Arc;
use std::time::Duration;

use understudy_runtime::clock::BootInstant;
use understudy_runtime::ids::NodeId;
use understudy_runtime::lease::LeaseStamp;

#[cfg(doc)]
use super::Engine;
use super::Job;
use crate::ownership::Held;
use crate::record::{Change, OpId, Record, Token};
use crate::state::Outcome;
use crate::store::End;

/// How things stand at the moment of a call.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Time since boot.
    pub now: BootInstant,
    /// The lease of the session's bucket; `None`: lapsed.
    pub lease: Option<LeaseStamp>,
    /// Latest access to the session on this node.
    pub last_access: BootInstant,
    /// Latest version that a read of the store showed this node.
    pub seen_version: u64,
    /// How long a request waits for a store that is away before it is told so.
    pub patience: Duration,
}

/// This node's relation to the session.
#[derive(Debug, Clone)]
pub enum Role {
    /// Not known; a copy may be here, from before.
    Unknown(Option<Kept>),
    /// This node owns it.
    Owner(Owned),
    /// Another node owns it.
    Elsewhere {
        /// That node.
        node: NodeId,
        /// When its lease ends unless renewed; then the claim is tried again.
        until: BootInstant,
        /// Version last seen.
        version: u64,
    },
    /// It is over.
    Ended,
}

/// A copy of a session that this node owned and may own no more.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The last durable state, with the owner and epoch it had.
    pub record: Arc<Record>,
    /// Of which identity of the store it is; see [`LeaseStamp`].
    pub rid_epoch: u64,
}

/// A session that this node owns.
#[derive(Debug, Clone)]
pub struct Owned {
    /// What protects it.
    pub held: Held,
    /// The last durable state.
    pub record: Arc<Record>,
    /// A moment on this node's clock, and the store's clock (ms since 1970) then or a little later.
    pub base: (BootInstant, u64),
}

impl Owned {
    /// Tells the store's time at `now`, ms since 1970.
    #[must_use]
    pub fn server_ms(&self, now: BootInstant) -> u64 {
        let passed = now.saturating_duration_since(self.base.0).as_millis();
        self.base.1.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }
}

/// A write on its way, with those who wait for it.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) jobs: Vec<(Job, Outcome)>,
    pub(super) op_id: OpId,
    pub(super) change: Arc<Change>,
    pub(super) after: Arc<Record>,
    pub(super) since: BootInstant,
    /// An attempt ended without a reply: it may be in.
    pub(super) unsure: bool,
}

/// What to do next.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is on the stack of the one who carries it out, never kept"
)]
pub enum Step {
    /// Nothing until something arrives.
    Rest,
    /// Nothing until then, or something arrives.
    Wait(BootInstant),
    /// Claim, then call [`Engine::on_claim`].
    Claim {
        /// New token.
        token: Token,
        /// Version already here: the record need not come back if it still has it.
        known_version: Option<u64>,
    },
    /// Validate, then call [`Engine::on_validate`].
    Validate(Held),
    /// Write, then call [`Engine::on_write`].
    Write {
        /// Behind which fence.
        held: Held,
        /// Its id.
        op_id: OpId,
        /// What changes.
        change: Arc<Change>,
        /// The record after it.
        after: Arc<Record>,
    },
    /// Put the copy back, then call [`Engine::on_restore`].
    Restore(Arc<Record>),
    /// End the session, then call [`Engine::on_revoke`].
    Revoke(End),
    /// Send a job to its owner, then call [`Engine::on_forward`]; others may follow at once.
    Forward {
        /// The owner.
        node: NodeId,
        /// The job, with its trace set.
        job: Job,
        /// How long to wait for the reply.
        limit: Duration,
    },
}
