//! The part of [`Leadership`] by which the node with the highest priority comes to lead: it asks, the holder decides.

use std::time::Duration;

use super::{Action, BootInstant, EndReason, HandOverAnswer, Leadership, LeaseValue, NodeId};

/// A term that is younger is not given up for a priority.
const LEAST_TERM: Duration = Duration::from_secs(10);
/// A node does not hand over more often.
const BETWEEN_HAND_OVERS: Duration = Duration::from_secs(60);
/// After no answer, it is asked again so much later.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// When which holder is asked.
#[derive(Debug, Default)]
pub(super) struct Asking {
    holder: Option<LeaseValue>,
    /// `None`: not in this term.
    next: Option<BootInstant>,
}

impl Asking {
    pub(super) fn answered(
        &mut self,
        now: BootInstant,
        holder: &LeaseValue,
        answer: Option<HandOverAnswer>,
    ) {
        if self.holder.as_ref() != Some(holder) {
            return;
        }
        self.next = match answer {
            Some(HandOverAnswer::Agreed) => Some(now + BETWEEN_HAND_OVERS),
            Some(HandOverAnswer::NotNow { retry_after_ms }) => {
                Some(now + Duration::from_millis(retry_after_ms.max(1_000)))
            }
            Some(HandOverAnswer::Never) => None,
            None => Some(now + ASK_AGAIN),
        };
    }
}

impl Leadership {
    pub(super) fn ask_for_hand_over(&mut self, now: BootInstant, actions: &mut Vec<Action>) {
        let Some((holder, _)) = self.sight.holder(now) else { return };
        let holder = holder.clone();
        if self.asking.holder.as_ref() != Some(&holder) {
            self.asking = Asking { holder: Some(holder.clone()), next: Some(now) };
        }
        let due = self.asking.next.is_some_and(|next| next <= now);
        if due && !self.frozen && self.may_lead(now) {
            self.asking.next = Some(now + ASK_AGAIN);
            actions.push(Action::RequestHandOver(holder));
        }
    }

    pub(super) fn hand_over_requested(
        &mut self,
        now: BootInstant,
        from: NodeId,
        priority: i32,
        actions: &mut Vec<Action>,
    ) {
        let answer = self.answer_to(now, priority);
        actions.push(Action::AnswerHandOver(answer));
        if answer == HandOverAnswer::Agreed {
            self.handed_over_at = Some(now);
            // Long enough for the other to take it; should it not, this node may lead again.
            self.hold(now + self.rules.ttl);
            self.end_for(now, EndReason::HandedOver, Some(from), actions);
        }
    }

    fn answer_to(&self, now: BootInstant, priority: i32) -> HandOverAnswer {
        // Whoever else leads by now is asked as soon as the other sees it.
        let Some(term) = self.term() else { return HandOverAnswer::not_before(ASK_AGAIN) };
        if priority <= self.rules.priority {
            return HandOverAnswer::Never;
        }
        if self.frozen {
            // The other does not know yet, or asks again soon after this is over.
            return HandOverAnswer::not_before(ASK_AGAIN);
        }
        let again = self.handed_over_at.map(|at| at + BETWEEN_HAND_OVERS);
        let ripe =
            again.map_or(term.began_at + LEAST_TERM, |at| at.max(term.began_at + LEAST_TERM));
        if now < ripe || term.epoch().is_none() {
            return HandOverAnswer::not_before(ripe.saturating_duration_since(now));
        }
        HandOverAnswer::Agreed
    }
}
