//! What a node of the model makes of an answer.

use understudy_session::ownership::{AfterValidate, AfterWrite, after_validate, after_write};
use understudy_session::store::{ValidateReply, WriteReply};

use crate::lease::{self, Lease};
use crate::node::{Copy, Message, Node, Stamp, held};
use crate::rules::{Rule, Setup};
use crate::server::{Answer, Image, Step};

impl Node {
    pub(crate) fn hear_lease(&mut self, setup: &Setup, server: u8, change: lease::Change) {
        self.renewal = None;
        self.lease = Lease { left: change.left, server };
        self.unsettled |= change.other_server;
        let gap = change.gap && setup.rules.has(Rule::Gap);
        let other = change.other_server && setup.rules.has(Rule::ServerChange);
        if let Some(copy) = &mut self.held {
            copy.stamp.age(gap, other);
        }
        if let Message::Sent { stamp, .. } | Message::Answered { stamp, .. } = &mut self.message {
            stamp.age(gap, other);
        }
    }

    /// Takes an answer; gives the write that is acknowledged by it.
    pub(crate) fn hear(
        &mut self,
        setup: &Setup,
        (step, stamp, answer): (Step, Stamp, Answer),
    ) -> Option<u8> {
        self.message = Message::None;
        match step {
            Step::Claim { .. } => self.hear_claim(setup, stamp, answer),
            Step::Write { write, .. } => return self.hear_write(setup, write, answer),
            Step::Validate { .. } => self.hear_validation(setup, stamp, answer),
            Step::Restore { .. } => self.hear_restore(stamp, answer),
            Step::Renew { .. } | Step::Settle { .. } | Step::Release { .. } => {}
        }
        None
    }

    fn hear_claim(&mut self, setup: &Setup, stamp: Stamp, answer: Answer) {
        match answer {
            Answer::Claimed { fence, version, content } => {
                let known = self.held.filter(|_| stamp == Stamp::NOW && self.lease.left > 0);
                let Some(content) = content.or(known.map(|copy| copy.image.content)) else {
                    return self.drop_copy();
                };
                debug_assert_eq!(content.version, version);
                self.held = Some(Copy { image: Image { fence, content }, stamp, repair: false });
                if let Some(pending) = self.pending
                    && setup.rules.has(Rule::RepeatNeedsProof)
                {
                    let recognised = content.last == pending.write + 1;
                    if pending.unknown && !recognised && version != pending.base {
                        self.drop_write();
                    }
                }
            }
            Answer::Owned | Answer::Missing => {
                self.drop_copy();
                self.drop_write();
            }
            _ => {}
        }
    }

    fn hear_write(&mut self, setup: &Setup, write: u8, answer: Answer) -> Option<u8> {
        let reply = match answer {
            Answer::Written(version) => WriteReply::Written { version: version.into(), now_ms: 0 },
            Answer::Duplicate(version) => WriteReply::Duplicate { version: version.into() },
            Answer::Missing => WriteReply::Missing,
            Answer::Fenced => WriteReply::Fenced,
            Answer::Regressed => WriteReply::Regressed { version: 0 },
            Answer::Conflict => WriteReply::Conflict { version: 0 },
            _ => unreachable!("no answer to a write: {answer:?}"),
        };
        let mut copy = self.held?;
        match after_write(&held(copy.stamp), &reply, self.current()) {
            AfterWrite::Acknowledge { .. } => {
                // A repeated write may be in the copy already, when that was loaded since.
                let (Answer::Written(version) | Answer::Duplicate(version)) = answer else {
                    return None;
                };
                if version == copy.image.content.version + 1 {
                    copy.image.content = copy.image.content.with(write);
                    self.held = Some(copy);
                }
                self.drop_write();
                return Some(write);
            }
            AfterWrite::Resolve => self.give_up(),
            AfterWrite::Repair | AfterWrite::Missing => self.put_back(setup),
            AfterWrite::Reload => {
                self.give_up();
                self.drop_copy();
            }
            AfterWrite::Fenced if self.may_put_back_claim(setup) => self.put_back(setup),
            AfterWrite::Fenced | AfterWrite::Ended => {
                self.drop_copy();
                self.drop_write();
            }
        }
        None
    }

    fn hear_validation(&mut self, setup: &Setup, stamp: Stamp, answer: Answer) {
        let reply = match answer {
            Answer::Valid => ValidateReply::Valid { last_access_ms: 0, now_ms: 0 },
            Answer::Missing => ValidateReply::Missing,
            Answer::Fenced => ValidateReply::Fenced,
            Answer::Regressed => ValidateReply::Regressed { version: 0 },
            Answer::Conflict => ValidateReply::Conflict { version: 0 },
            // The renewal that is due next tells of the change.
            Answer::OtherServer => return,
            _ => unreachable!("no answer to a validation: {answer:?}"),
        };
        match after_validate(stamp.to_lease(), &reply, self.current()) {
            AfterValidate::Trust => {
                if let Some(copy) = &mut self.held {
                    copy.stamp = stamp;
                }
            }
            AfterValidate::Again => {}
            AfterValidate::Repair | AfterValidate::Missing => self.put_back(setup),
            AfterValidate::Fenced if self.may_put_back_claim(setup) => self.put_back(setup),
            AfterValidate::Reload | AfterValidate::Fenced | AfterValidate::Ended => {
                self.drop_copy();
            }
        }
    }

    fn hear_restore(&mut self, stamp: Stamp, answer: Answer) {
        match answer {
            Answer::Restored => {
                // A copy put down by a node that may only claim stays what it was: not to be trusted.
                if let Some(copy) = &mut self.held
                    && copy.repair
                    && copy.stamp.same_generation
                {
                    copy.repair = false;
                    copy.stamp = stamp;
                }
            }
            _ => {
                if self.held.is_some_and(|copy| copy.repair) {
                    self.drop_copy();
                }
            }
        }
    }

    /// Whether the store refuses perhaps only because it lost the claim itself: without a gap nobody else can have
    /// claimed. The store decides, by the epoch and the grace.
    fn may_put_back_claim(&self, setup: &Setup) -> bool {
        setup.rules.has(Rule::RestoreLostClaim)
            && self.held.is_some_and(|copy| copy.stamp.same_generation)
            && self.lease.left > 0
    }

    fn put_back(&mut self, setup: &Setup) {
        if !setup.rules.has(Rule::Restore) {
            self.drop_copy();
        } else if let Some(copy) = &mut self.held {
            copy.repair = true;
        }
    }
}
