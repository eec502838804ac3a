//! What the machine makes of each reply.

use std::sync::Arc;
use std::time::Duration;

use understudy_runtime::clock::BootInstant;
use understudy_runtime::ids::NodeId;
use understudy_runtime::lease::LeaseStamp;

use super::{
    Answer, Batch, Engine, GRACE_POLL, Kept, Moment, Owned, RETRY, Refusal, Reply, Role,
    SHORTEST_FORWARD, Trace, View, take_if,
};
use super::{Job, Work, is_unanswered_end};
use crate::ownership::{AfterValidate, AfterWrite, Held, after_validate, after_write};
use crate::record::{Fence, Record, SecretHash, Token};
use crate::store::{ClaimReply, RestoreReply, RevokeReply, StoreError, ValidateReply, WriteReply};

/// How long a node that says it is not the owner, though the store says so, is left alone: it is stopping.
const STOPPING: Duration = Duration::from_millis(15);

/// How long a node tries to bring about an end that it sent without an answer; a request lives no longer in a network.
const UNANSWERED_END: Duration = Duration::from_secs(60);

/// How soon an owner that does not listen is asked again, at first and at most: it may only have lost a connection.
const ASK_AGAIN: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// Why an owner did not do a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// It says that it is not the owner: it is stopping.
    Leaving,
    /// It does not listen.
    Unreachable,
    /// It may have got the job, and did not answer in time.
    Quiet,
}

/// When a step was sent, and under which lease.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Time since boot.
    pub at: BootInstant,
    /// The lease then.
    pub lease: Option<LeaseStamp>,
}

/// What came of a job sent to its owner.
#[derive(Debug)]
pub enum Forwarded {
    /// It answered.
    Answered(Answer),
    /// It surely did not get the job.
    NotDelivered,
    /// It may have got the job.
    NoAnswer,
}

impl Engine {
    /// Takes in the reply to a claim.
    pub fn on_claim(
        &mut self,
        token: Token,
        reply: Result<ClaimReply, StoreError>,
        sent: Sent,
        moment: Moment,
    ) {
        self.in_step = false;
        let known = match std::mem::replace(&mut self.role, Role::Unknown(None)) {
            Role::Unknown(known) => known,
            Role::Owner(_) | Role::Elsewhere { .. } | Role::Ended => None,
        };
        match reply {
            Err(error) => {
                self.role = Role::Unknown(known);
                self.on_failure(&error, moment);
            }
            Ok(ClaimReply::Claimed { epoch, version, now_ms, record }) => {
                let again = |kept: Kept| {
                    let owner = Some(token.clone());
                    Arc::new(Record { owner, epoch, ..(*kept.record).clone() })
                };
                let record =
                    record.map(|record| Arc::new(*record)).or_else(|| known.clone().map(again));
                // A claim whose reply comes under another lease proves nothing (rule R8): claim again.
                if let (Some(record), Some(stamp), true) =
                    (record, sent.lease, sent.lease == moment.lease)
                {
                    let held = Held { fence: Fence { token, epoch }, stamp, version };
                    self.own(Owned { held, record, base: (sent.at, now_ms) });
                } else {
                    self.role = Role::Unknown(known);
                }
            }
            Ok(ClaimReply::Owned { node, remaining_ms, now_ms, record }) => {
                // Whoever asked after the claim was sent may know of a later write than the store did then.
                let version = record.version;
                let view = View { record: Arc::new(*record), now_ms, owner: Some(node.clone()) };
                self.answer_all_views(&view, sent.at);
                self.settle_batch(&view.record);
                let remaining = Duration::from_millis(remaining_ms);
                self.found_elsewhere(node, remaining, version, moment.now);
            }
            Ok(ClaimReply::Grace { remaining_ms }) => {
                self.role = Role::Unknown(known);
                self.not_before =
                    moment.now + GRACE_POLL.min(Duration::from_millis(remaining_ms.max(1)));
            }
            Ok(ClaimReply::Missing | ClaimReply::Revoked | ClaimReply::Expired) => self.end(),
        }
    }

    fn own(&mut self, owned: Owned) {
        self.repair_wanted = false;
        self.contested = false;
        self.expired = false;
        self.silent = None;
        self.in_vain = 0;
        self.outwaiting = None;
        if let Some(batch) = self.batch.take() {
            self.resume_batch(batch, &owned);
        }
        self.role = Role::Owner(owned);
    }

    /// A write whose fate was not known when the session was lost: it is in if the record carries its id.
    fn resume_batch(&mut self, batch: Batch, owned: &Owned) {
        let record = &owned.record;
        if record.last_op == Some(batch.op_id) {
            self.answer_done(batch.jobs, record.version);
        } else if record.version.saturating_add(1) == batch.after.version {
            let owner = Some(owned.held.fence.token.clone());
            let after = Record { owner, epoch: owned.held.fence.epoch, ..(*batch.after).clone() };
            self.batch = Some(Batch { after: Arc::new(after), ..batch });
        } else {
            let refusal = if batch.unsure { Refusal::OutcomeUnknown } else { Refusal::Conflict };
            self.batch = Some(batch);
            self.drop_batch(refusal);
        }
    }

    /// A write whose fate was not known when another node took the session over: the record of that node tells. What is
    /// not in is refused, and never run again here: whoever asked may have asked another node meanwhile.
    fn settle_batch(&mut self, record: &Record) {
        let Some(batch) = self.batch.take() else { return };
        if record.last_op == Some(batch.op_id) {
            return self.answer_done(batch.jobs, record.version);
        }
        let surely_not_in = !batch.unsure || record.version < batch.after.version;
        self.batch = Some(batch);
        self.drop_batch(if surely_not_in { Refusal::Conflict } else { Refusal::OutcomeUnknown });
    }

    fn found_elsewhere(
        &mut self,
        node: NodeId,
        remaining: Duration,
        version: u64,
        now: BootInstant,
    ) {
        let waited_for = self.outwaiting.take().filter(|waited_for| *waited_for == node);
        match self.silent.take().filter(|(silent, _)| *silent == node).map(|(_, how)| how) {
            Some(Silence::Leaving) => {
                self.not_before = now + STOPPING;
                self.role = Role::Unknown(None);
                return;
            }
            // Its lease goes on, so it lives, and what was sent to it got lost: it is asked again.
            Some(Silence::Quiet) if remaining >= SHORTEST_FORWARD => {}
            // Changes wait for the end of its lease, or for it to listen again; reads go on at the store.
            Some(Silence::Quiet | Silence::Unreachable) => {
                let [first, longest] = ASK_AGAIN;
                let pause = (first * 2_u32.pow(self.in_vain.min(8))).min(longest);
                self.in_vain += 1;
                self.not_before = now + (remaining + Duration::from_millis(2)).min(pause);
                self.outwaiting = Some(node.clone());
            }
            None if self.not_before > now => self.outwaiting = waited_for,
            None => {}
        }
        if self.outwaiting.is_none() {
            self.not_before = now;
        }
        self.role = Role::Elsewhere { node, until: now + remaining, version };
    }

    /// Takes in the reply to a write.
    pub fn on_write(&mut self, reply: Result<WriteReply, StoreError>, sent: Sent, moment: Moment) {
        self.in_step = false;
        let (reply, mut owned) = match (reply, &self.role) {
            (Ok(reply), Role::Owner(owned)) => (reply, owned.clone()),
            (Ok(_), _) => return,
            (Err(error), _) => {
                if let Some(batch) = &mut self.batch {
                    batch.unsure |= matches!(error, StoreError::Unavailable(_));
                }
                return self.on_failure(&error, moment);
            }
        };
        match after_write(&owned.held, &reply, moment.lease) {
            AfterWrite::Acknowledge { version } => {
                let Some(batch) = self.batch.take() else {
                    return;
                };
                if let WriteReply::Written { now_ms, .. } = reply {
                    owned.base = (sent.at, now_ms);
                }
                owned.held.version = version;
                owned.record = batch.after;
                self.role = Role::Owner(owned);
                self.answer_done(batch.jobs, version);
            }
            AfterWrite::Resolve => self.mark_unsure(),
            AfterWrite::Repair | AfterWrite::Missing => self.repair_wanted = true,
            AfterWrite::Reload => {
                self.mark_unsure();
                self.role = Role::Unknown(None);
            }
            AfterWrite::Fenced => self.fenced(&owned.held, moment),
            AfterWrite::Ended => self.end(),
        }
    }

    fn mark_unsure(&mut self) {
        if let Some(batch) = &mut self.batch {
            batch.unsure = true;
        }
    }

    /// Without a gap in the lease nobody could claim. So either this copy is the only one of what a changed store lost,
    /// this node's claim with it, and the grace lets it be put back, or it is refused and another node owns the session.
    fn fenced(&mut self, held: &Held, moment: Moment) {
        if moment.lease.is_some_and(|lease| lease.generation == held.stamp.generation) {
            self.contested = true;
            self.repair_wanted = true;
        } else {
            self.lost_to_another();
        }
    }

    /// Another node claimed: what was under way was not applied, unless an earlier attempt was.
    fn lost_to_another(&mut self) {
        metrics::counter!("session_conflicts_total").increment(1);
        let refusal = match &self.batch {
            Some(Batch { unsure: true, .. }) => Refusal::OutcomeUnknown,
            Some(_) | None => Refusal::Conflict,
        };
        self.drop_batch(refusal);
        self.role = Role::Unknown(None);
        self.check_wanted = false;
        self.repair_wanted = false;
    }

    /// Takes in the reply to a validation. Gives the latest access that the store knows of, on this node's clock.
    pub fn on_validate(
        &mut self,
        reply: Result<ValidateReply, StoreError>,
        sent: Sent,
        moment: Moment,
    ) -> Option<BootInstant> {
        self.in_step = false;
        let (reply, stamp, mut owned) = match (reply, sent.lease, &self.role) {
            (Ok(reply), Some(stamp), Role::Owner(owned)) => (reply, stamp, owned.clone()),
            (Ok(_), ..) => return None,
            (Err(error), ..) => {
                self.on_failure(&error, moment);
                return None;
            }
        };
        match after_validate(stamp, &reply, moment.lease) {
            AfterValidate::Trust => {
                owned.held.stamp = stamp;
                self.check_wanted = false;
                let access = self.latest_access(&mut owned, &reply, sent.at);
                self.role = Role::Owner(owned);
                return access;
            }
            AfterValidate::Again => {}
            AfterValidate::Repair | AfterValidate::Missing => {
                // The step before the next is under the new lease, with the same fence.
                owned.held.stamp = stamp;
                self.role = Role::Owner(owned);
                self.repair_wanted = true;
            }
            AfterValidate::Reload => {
                self.mark_unsure();
                self.role = Role::Unknown(None);
            }
            AfterValidate::Fenced => {
                self.fenced(&owned.held, moment);
                owned.held.stamp = stamp;
                if self.contested {
                    self.role = Role::Owner(owned);
                }
            }
            AfterValidate::Ended => self.end(),
        }
        None
    }

    fn latest_access(
        &mut self,
        owned: &mut Owned,
        reply: &ValidateReply,
        sent_at: BootInstant,
    ) -> Option<BootInstant> {
        let ValidateReply::Valid { last_access_ms, now_ms } = *reply else {
            return None;
        };
        owned.base = (sent_at, now_ms);
        let ago = now_ms.saturating_sub(last_access_ms);
        self.expired = ago >= owned.record.idle_ms;
        Some(sent_at.saturating_sub(Duration::from_millis(ago)))
    }

    /// Takes in the reply to a restore.
    pub fn on_restore(&mut self, reply: Result<RestoreReply, StoreError>, moment: Moment) {
        self.in_step = false;
        match reply {
            Err(error) => {
                self.check_wanted = true; // the copy may be all that is left of the session
                self.on_failure(&error, moment);
            }
            Ok(RestoreReply::Restored) => {
                metrics::counter!("session_restores_total").increment(1);
                self.repair_wanted = false;
                self.contested = false;
            }
            Ok(RestoreReply::Refused) if std::mem::take(&mut self.contested) => {
                self.lost_to_another()
            }
            // The store has something as new, or the session is gone for good: a claim tells which.
            Ok(RestoreReply::Refused) => {
                self.repair_wanted = false;
                self.disown();
            }
            Ok(RestoreReply::Revoked) => self.end(),
        }
    }

    /// Takes in the reply to a revocation.
    pub fn on_revoke(&mut self, reply: Result<RevokeReply, StoreError>, moment: Moment) {
        self.in_step = false;
        match reply {
            Ok(RevokeReply::Revoked { .. } | RevokeReply::Missing) => {
                for job in std::mem::take(&mut self.ending) {
                    self.answers.push((job, Ok(Reply::Revoked)));
                }
                self.end();
            }
            Err(error) => {
                self.role = Role::Unknown(None); // it may be over already: look before the next use
                let asked = std::mem::take(&mut self.ending);
                let secret = asked.first().map(|job| match &job.work {
                    Work::Revoke(secret) => *secret,
                    Work::View | Work::Ask(_) => None,
                });
                // Asked again like any other job: with patience, a deadline, and wherever the owner is then.
                for job in asked.into_iter().rev() {
                    self.queue.push_front(job);
                }
                if let (Some(secret), StoreError::Unavailable(_)) = (secret, &error) {
                    self.finish_ending(secret, moment.now);
                }
                self.on_failure(&error, moment);
            }
        }
    }

    /// An end that was sent without an answer may come about at any time, also when everybody who asked for it was told that
    /// it failed. So it is brought about, before anything else happens: else this node could go on showing a session that
    /// is over everywhere else.
    ///
    /// Only what `secret` still opens: whoever logged in anew elsewhere meanwhile stays.
    fn finish_ending(&mut self, secret: Option<SecretHash>, now: BootInstant) {
        if self.queue.iter().any(is_unanswered_end) {
            return;
        }
        let until = now + UNANSWERED_END;
        self.queue.push_front(Job {
            work: Work::Revoke(secret),
            replies: Vec::new(),
            deadline: until,
            submitted: until, // it outlasts the patience of those who wait
            from_peer: false,
            trace: None,
            sent: 0,
            span: tracing::Span::none(),
        });
    }

    /// Takes in what came of a job sent to `node`.
    pub fn on_forward(&mut self, node: NodeId, mut job: Job, came: Forwarded) {
        let silence = match came {
            Forwarded::Answered(Err(Refusal::NotOwner)) => Silence::Leaving,
            Forwarded::Answered(answer) => {
                self.in_vain = 0;
                if let (Ok(Reply::Done(_, done)), Role::Elsewhere { version, .. }) =
                    (&answer, &mut self.role)
                {
                    *version = (*version).max(*done);
                }
                if matches!(answer, Err(Refusal::Ended) | Ok(Reply::Revoked)) {
                    self.role = Role::Unknown(None);
                }
                return self.answers.push((job, answer));
            }
            Forwarded::NotDelivered => Silence::Unreachable,
            Forwarded::NoAnswer => {
                job.trace = job.trace.map(|trace| Trace { uncertain: true, ..trace });
                Silence::Quiet
            }
        };
        let owns = matches!(&self.role, Role::Elsewhere { node: owner, .. } if *owner == node);
        if owns && self.outwaiting.is_none() {
            self.role = Role::Unknown(None);
            self.silent = Some((node, silence));
        }
        self.queue.push_front(job);
    }

    pub(super) fn end(&mut self) {
        self.role = Role::Ended;
        self.check_wanted = false;
        self.repair_wanted = false;
    }

    fn on_failure(&mut self, error: &StoreError, Moment { now, patience, .. }: Moment) {
        match error {
            StoreError::Unavailable(_) => {
                self.not_before = now + RETRY;
                // Another attempt may take as long as this one did: who cannot wait for its end is told now. What took
                // longer than anybody waits says nothing, the node stood still.
                let took = now.saturating_duration_since(self.step_began);
                let next_end = if took < patience { now + took } else { now };
                self.lose_patience(next_end, patience);
            }
            StoreError::Refused(_) => {
                self.refuse_all(Refusal::Refused);
            }
            StoreError::Unreadable(_) => {
                self.refuse_all(Refusal::Unreadable);
                self.disown(); // whatever stands there, it is not this copy
            }
        }
    }

    /// Refuses every change, and lets looks go on: this node is about to hand its sessions over.
    pub fn refuse_peers(&mut self) {
        drop(take_if(&mut self.queue, is_unanswered_end)); // whoever takes over finds it at the store, or does not
        for job in take_if(&mut self.queue, |job| job.from_peer && !matches!(job.work, Work::View))
        {
            self.answers.push((job, Err(Refusal::NotOwner)));
        }
    }
}
