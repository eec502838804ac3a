//! When a node may trust its copy of a session, and what a reply of the store means for it: the decisions of the
//! protocol, without I/O, time or actors.
//!
//! The actor in [`crate::actor`] feeds these functions and does what they say; the model checker in
//! `session/tests/model.rs` drives the very same functions through every order of steps. The rules R1-R12 are told in
//! `docs/sessions.md`.

use understudy_runtime::lease::LeaseStamp;

use crate::record::Fence;
use crate::store::{ValidateReply, WriteReply};

/// A copy of a session that this node has claimed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// What lets its writes in.
    pub fence: Fence,
    /// The lease under which it was claimed or last validated.
    pub stamp: LeaseStamp,
    /// Version of the copy.
    pub version: u64,
}

/// What a held copy is good for at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Reads are answered from it, writes are sent behind its fence.
    Trusted,
    /// The store must confirm it first: it changed its identity while the lease was live, so nobody could claim, but
    /// it may have lost writes. Rule R6.
    Validate,
    /// The lease had a gap: another node may have claimed meanwhile. Only a new claim is safe. A validation would not
    /// be, even if the store seems to be the same: it may change on the way, and its successor may not know of the
    /// other's claim, while a claim is stopped by the grace. Rules R5 and R7.
    Claim,
    /// No lease: nothing may be read or written until it is renewed. Rule R4.
    Lapsed,
}

impl Held {
    /// Says what this copy is good for under the lease as it is now (`None`: lapsed).
    #[must_use]
    pub fn standing(&self, current: Option<LeaseStamp>) -> Standing {
        let Some(current) = current else {
            return Standing::Lapsed;
        };
        let gap = current.generation != self.stamp.generation;
        let other_server = current.rid_epoch != self.stamp.rid_epoch;
        match (gap, other_server) {
            (false, false) => Standing::Trusted,
            (false, true) => Standing::Validate,
            (true, _) => Standing::Claim,
        }
    }
}

/// What to do after the reply to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterWrite {
    /// It is durable: publish the new version, then answer the clients (rule R11).
    Acknowledge {
        /// Version that it made.
        version: u64,
    },
    /// Whether it counts is not known: the lease ended or changed while the reply was on its way. Become owner again,
    /// then send the same write with the same id (rule R8).
    Resolve,
    /// The store lost writes of this owner: put the whole copy back, then send the write again.
    Repair,
    /// The copy is out of date: claim and load again, then send the write again.
    Reload,
    /// Somebody else owns it now: drop the copy; the write was not applied.
    Fenced,
    /// The session is over.
    Ended,
    /// The record is gone: over, unless the store lost it and the grace lets this owner put it back.
    Missing,
}

/// Decides what the reply to a write means, for a write that was sent under `held` and whose reply arrived when the
/// lease was `current`.
#[must_use]
pub fn after_write(held: &Held, reply: &WriteReply, current: Option<LeaseStamp>) -> AfterWrite {
    match reply {
        WriteReply::Written { version, .. } | WriteReply::Duplicate { version } => {
            if held.standing(current) == Standing::Trusted {
                AfterWrite::Acknowledge { version: *version }
            } else {
                AfterWrite::Resolve
            }
        }
        WriteReply::Missing => AfterWrite::Missing,
        WriteReply::Revoked => AfterWrite::Ended,
        WriteReply::Fenced => AfterWrite::Fenced,
        WriteReply::Regressed { .. } => AfterWrite::Repair,
        WriteReply::Conflict { .. } => AfterWrite::Reload,
    }
}

/// What to do after the reply to a validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterValidate {
    /// The copy may be trusted under the lease it was validated under.
    Trust,
    /// The lease changed meanwhile: look at the standing again.
    Again,
    /// The store lost writes of this owner: put the whole copy back.
    Repair,
    /// The copy is out of date: claim and load again.
    Reload,
    /// Somebody else owns it now: drop the copy.
    Fenced,
    /// The session is over.
    Ended,
    /// The record is gone: over, unless the store lost it and the grace lets this owner put it back.
    Missing,
}

/// Decides what the reply to a validation means, sent when the lease was `sent` and answered when it was `current`.
#[must_use]
pub fn after_validate(
    sent: LeaseStamp,
    reply: &ValidateReply,
    current: Option<LeaseStamp>,
) -> AfterValidate {
    match reply {
        ValidateReply::Valid { .. } if current == Some(sent) => AfterValidate::Trust,
        ValidateReply::Valid { .. } => AfterValidate::Again,
        ValidateReply::Missing => AfterValidate::Missing,
        ValidateReply::Revoked => AfterValidate::Ended,
        ValidateReply::Fenced => AfterValidate::Fenced,
        ValidateReply::Regressed { .. } => AfterValidate::Repair,
        ValidateReply::Conflict { .. } => AfterValidate::Reload,
    }
}
