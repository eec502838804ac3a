//! The part of [`Leadership`] that has the lease: keeping it, being inaugurated, giving it up.

use super::{
    Action, BootInstant, EndReason, Held, Leadership, LeadershipRules, LeaseValue, NodeId, Phase,
    RETRY, Renewal,
};
use std::time::Duration;

/// A lease that is trusted.
#[derive(Debug)]
pub(super) struct Term {
    pub(super) value: LeaseValue,
    pub(super) began_at: BootInstant,
    pub(super) trusted_until: BootInstant,
    pub(super) next_renew: BootInstant,
    inauguration: Inauguration,
}

#[derive(Debug, Clone, Copy)]
enum Inauguration {
    Asked,
    AskAgain(BootInstant),
    Done(u64),
}

impl Term {
    pub(super) fn begin(
        value: LeaseValue,
        sent_at: BootInstant,
        now: BootInstant,
        rules: &LeadershipRules,
    ) -> Self {
        Self {
            value,
            began_at: now,
            trusted_until: (sent_at + rules.ttl).saturating_sub(rules.margin),
            next_renew: sent_at + rules.renew,
            inauguration: Inauguration::Asked,
        }
    }

    pub(super) fn epoch(&self) -> Option<u64> {
        match self.inauguration {
            Inauguration::Done(epoch) => Some(epoch),
            Inauguration::Asked | Inauguration::AskAgain(_) => None,
        }
    }

    pub(super) fn wakes_at(&self, under_way: bool, patience: Duration) -> BootInstant {
        let renew = if under_way { self.trusted_until } else { self.next_renew };
        let inauguration = match self.inauguration {
            Inauguration::Asked => self.began_at + patience,
            Inauguration::AskAgain(at) => at.min(self.began_at + patience),
            Inauguration::Done(_) => self.trusted_until,
        };
        self.trusted_until.min(renew).min(inauguration)
    }
}

impl Leadership {
    /// Steps down when the trust in the own lease has run out.
    pub(super) fn fence_if_due(&mut self, now: BootInstant, actions: &mut Vec<Action>) {
        if self.term().is_some_and(|term| term.trusted_until <= now) {
            self.end(now, EndReason::SelfFenced, actions);
        }
    }

    pub(super) fn keep_if_due(&mut self, now: BootInstant, actions: &mut Vec<Action>) {
        let (renew, patience, idle) = (self.rules.renew, self.rules.ttl, !self.under_way);
        let Phase::Holding(term) = &mut self.phase else { return };
        if idle && term.next_renew <= now {
            self.under_way = true;
            term.next_renew = now + renew;
            actions.push(Action::Renew(term.value.clone()));
        }
        if term.epoch().is_none() && term.began_at + patience <= now {
            // Another node may reach the database.
            return self.database_away(now, actions);
        }
        if matches!(term.inauguration, Inauguration::AskAgain(at) if at <= now) {
            term.inauguration = Inauguration::Asked;
            actions.push(Action::Inaugurate(term.value.clone()));
        }
    }

    pub(super) fn renew_answered(
        &mut self,
        now: BootInstant,
        (value, sent_at): (&LeaseValue, BootInstant),
        answer: Renewal,
        actions: &mut Vec<Action>,
    ) {
        self.under_way = false;
        let kept = self.own(value);
        let granted = (sent_at + self.rules.ttl).saturating_sub(self.rules.margin);
        let term = match &mut self.phase {
            Phase::Holding(term) if term.value == *value => Some(term),
            Phase::Holding(_) | Phase::Standby | Phase::Ending { .. } | Phase::Stopped => None,
        };
        match (term, answer) {
            (Some(term), Renewal::Renewed | Renewal::Reasserted) => {
                term.trusted_until = term.trusted_until.max(granted);
                self.sight.held(sent_at, &kept);
            }
            (Some(_), Renewal::Lost { holder }) => {
                self.end(now, EndReason::LostLease, actions);
                if holder.is_some() {
                    self.sight.held(now, &Held { holder, remaining: None });
                }
            }
            // It overtook the release of a term that is over, and would keep everybody out.
            (None, Renewal::Reasserted) => {
                actions.push(Action::Release { value: value.clone(), successor: None });
            }
            (None, Renewal::Renewed | Renewal::Lost { .. }) => {}
        }
    }

    pub(super) fn inaugurated(
        &mut self,
        now: BootInstant,
        value: &LeaseValue,
        epoch: u64,
        actions: &mut Vec<Action>,
    ) {
        match &mut self.phase {
            Phase::Holding(term) if term.value == *value => {
                term.inauguration = Inauguration::Done(epoch);
                self.since = now;
            }
            // Too late: nobody led in this epoch.
            Phase::Holding(_) | Phase::Standby | Phase::Ending { .. } | Phase::Stopped => {
                actions.push(Action::EndTerm {
                    epoch,
                    reason: self.last_end.unwrap_or(EndReason::LostLease),
                });
            }
        }
    }

    pub(super) fn inauguration_failed(&mut self, now: BootInstant, value: &LeaseValue) {
        if let Phase::Holding(term) = &mut self.phase
            && term.value == *value
        {
            term.inauguration = Inauguration::AskAgain(now + RETRY * 3);
        }
    }

    pub(super) fn database_away(&mut self, now: BootInstant, actions: &mut Vec<Action>) {
        let back_off = self.back_off();
        self.hold(now + back_off);
        self.end(now, EndReason::DatabaseAway, actions);
    }

    /// Ends the term, if there is one.
    pub(super) fn end(&mut self, now: BootInstant, reason: EndReason, actions: &mut Vec<Action>) {
        self.end_for(now, reason, None, actions);
    }

    pub(super) fn end_for(
        &mut self,
        now: BootInstant,
        reason: EndReason,
        successor: Option<NodeId>,
        actions: &mut Vec<Action>,
    ) {
        let Some(term) = self.term() else { return };
        let (value, epoch) = (term.value.clone(), term.epoch());
        self.last_end = Some(reason);
        actions.push(Action::StepDown(reason));
        self.next_look = now;
        match reason {
            EndReason::LostLease => self.enter(now, Phase::Standby),
            EndReason::SelfFenced | EndReason::StaleEpoch => {
                self.enter(now, Phase::Ending { value: value.clone(), fenced: true });
            }
            EndReason::Resigned
            | EndReason::SteppedDown
            | EndReason::HandedOver
            | EndReason::DatabaseAway => {
                self.enter(now, Phase::Ending { value: value.clone(), fenced: false });
            }
        }
        if reason != EndReason::LostLease {
            actions.push(Action::Release { value, successor });
        }
        if let Some(epoch) = epoch {
            actions.push(Action::EndTerm { epoch, reason });
        }
    }

    /// The own lease as others see it.
    pub(super) fn own(&self, value: &LeaseValue) -> Held {
        Held { holder: Some(value.clone()), remaining: Some(self.rules.ttl) }
    }
}
