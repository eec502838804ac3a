//! The part of [`Leadership`] that waits for its turn.

use std::time::Duration;

use rand::RngExt as _;

use super::{
    Acquire, Action, BootInstant, EndReason, Held, Leadership, LeaseValue, NodeId, Phase, RETRY,
    Term,
};

/// Spreads the bids for a lease that ran out.
const SPREAD_AT_END: Duration = Duration::from_millis(250);
/// Spreads the bids for a lease that was given up.
const SPREAD_AT_RELEASE: Duration = Duration::from_millis(50);
/// How long the node for which a lease was given up goes first.
const SUCCESSOR_FIRST: Duration = Duration::from_millis(300);
/// How soon it is looked again after an answer that was out of date.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Leadership {
    pub(super) fn look_if_due(&mut self, now: BootInstant, actions: &mut Vec<Action>) {
        if self.hold_until.is_some_and(|end| end <= now) {
            self.hold_until = None;
            self.next_look = now;
        }
        if self.under_way || now < self.next_look {
            return;
        }
        self.under_way = true;
        self.sight.forget_old_news(now);
        let free = self.sight.free_from().is_some_and(|from| from <= now);
        if free && self.may_lead(now) {
            actions.push(Action::Bid(self.bid()));
        } else {
            actions.push(Action::Peek);
        }
    }

    /// A bid whose answer was lost is made again under its value: it may have won.
    fn bid(&mut self) -> LeaseValue {
        let term = self.dice.random();
        let fresh = || LeaseValue::new(self.rules.node_id.clone(), term);
        self.pending.get_or_insert_with(fresh).clone()
    }

    pub(super) fn peeked(
        &mut self,
        now: BootInstant,
        held: Option<Held>,
        actions: &mut Vec<Action>,
    ) {
        self.under_way = false;
        match held {
            Some(held) => self.seen(now, &held, actions),
            None => {
                self.sight.absent(now);
                self.look_when_free(now);
            }
        }
    }

    pub(super) fn bid_answered(
        &mut self,
        now: BootInstant,
        (value, sent_at): (LeaseValue, BootInstant),
        answer: Acquire,
        actions: &mut Vec<Action>,
    ) {
        self.under_way = false;
        self.pending = None;
        match answer {
            // Nobody in particular: it ran out meanwhile, or the store itself was not ready to give it.
            Acquire::Held(held) if held == Held::default() => {
                let spread = self.jitter(SPREAD_AT_END);
                self.next_look = now + RETRY + spread;
            }
            Acquire::Held(held) => self.seen(now, &held, actions),
            Acquire::Won => {
                let term = Term::begin(value.clone(), sent_at, now, &self.rules);
                let wanted = matches!(self.phase, Phase::Standby) && self.may_lead(now);
                if !wanted || term.trusted_until <= now {
                    // Not wanted any more, or so late that it is over.
                    self.look_soon(now);
                    actions.push(Action::Release { value, successor: None });
                    return;
                }
                self.sight.held(sent_at, &self.own(&value));
                self.enter(now, Phase::Holding(term));
                actions.push(Action::Inaugurate(value));
            }
        }
    }

    fn seen(&mut self, now: BootInstant, held: &Held, actions: &mut Vec<Action>) {
        if let Some(own) = held.holder.as_ref().filter(|own| *own.node() == self.rules.node_id) {
            return self.seen_own(now, own, actions);
        }
        self.sight.held(now, held);
        if self.sight.is_released() {
            // An answer from before the message; not at once, should it be there again for another reason.
            self.look_when_free(now);
            self.next_look = self.next_look.max(now + LOOK_AGAIN);
            return;
        }
        let third = self.rules.ttl / 3;
        let spread = self.jitter(SPREAD_AT_END);
        let end = held.remaining.map_or(third, |remaining| remaining + spread);
        self.next_look = now + end.min(third);
        self.ask_for_hand_over(now, actions);
    }

    /// A lease of this very process that it does not trust: a bid whose answer was lost, or a release that was.
    fn seen_own(&mut self, now: BootInstant, own: &LeaseValue, actions: &mut Vec<Action>) {
        if self.term().is_some_and(|term| term.value == *own) {
            return;
        }
        if self.pending.as_ref() == Some(own) && self.may_lead(now) {
            self.under_way = true;
            actions.push(Action::Bid(own.clone()));
            return;
        }
        self.pending = None;
        self.look_soon(now);
        actions.push(Action::Release { value: own.clone(), successor: None });
    }

    pub(super) fn failed(&mut self, now: BootInstant) {
        self.under_way = false;
        self.sight.interrupted(now);
        self.look_soon(now);
        let soon = now + RETRY.min(self.rules.renew);
        if let Phase::Holding(term) = &mut self.phase {
            term.next_renew = soon;
        }
    }

    pub(super) fn reconnected(&mut self, now: BootInstant) {
        self.sight.interrupted(now);
        self.next_look = now;
        if let Phase::Holding(term) = &mut self.phase {
            // The store may have forgotten: put it back before anybody misses it.
            term.next_renew = now;
        }
    }

    pub(super) fn release_heard(
        &mut self,
        now: BootInstant,
        value: LeaseValue,
        successor: Option<&NodeId>,
    ) {
        if self.term().is_some() {
            return; // of a term before
        }
        let first = successor.is_some_and(|node| *node != self.rules.node_id);
        let wait = self.jitter(SPREAD_AT_RELEASE);
        let wait = if first { SUCCESSOR_FIRST + wait } else { wait };
        if self.sight.released(value, now + wait) {
            self.look_when_free(now);
        }
    }

    pub(super) fn released(&mut self, now: BootInstant, value: &LeaseValue, released: bool) {
        if released && self.term().is_none() {
            let wait = self.jitter(SPREAD_AT_RELEASE);
            self.sight.released(value.clone(), now + wait);
        }
        if matches!(&self.phase, Phase::Ending { value: ending, .. } if ending == value) {
            let next = if self.stopping { Phase::Stopped } else { Phase::Standby };
            self.enter(now, next);
        }
        self.look_when_free(now);
    }

    /// What an operator wants changed: ends a term that is not wanted, or looks whether one can begin.
    pub(super) fn wish_changed(&mut self, now: BootInstant, actions: &mut Vec<Action>) {
        if !self.rules.eligible || self.maintenance {
            self.end(now, EndReason::SteppedDown, actions);
        }
        self.next_look = now;
    }

    pub(super) fn resign(&mut self, now: BootInstant, actions: &mut Vec<Action>) {
        self.stopping = true;
        self.end(now, EndReason::Resigned, actions);
        if matches!(self.phase, Phase::Standby) {
            match self.pending.take() {
                // It may win, or have won; the release follows it on its way.
                Some(value) => {
                    actions.push(Action::Release { value: value.clone(), successor: None });
                    self.enter(now, Phase::Ending { value, fenced: false });
                }
                None => self.enter(now, Phase::Stopped),
            }
        }
    }

    fn look_soon(&mut self, now: BootInstant) {
        self.next_look = now + RETRY.min(self.rules.ttl / 3);
    }

    /// Looks when the lease is free, as far as that is known, and in any case in a while.
    fn look_when_free(&mut self, now: BootInstant) {
        let third = now + self.rules.ttl / 3;
        let free = self.sight.free_from().filter(|_| self.may_lead(now));
        self.next_look = free.map_or(third, |from| from.clamp(now, third));
    }
}
