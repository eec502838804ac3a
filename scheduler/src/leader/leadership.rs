//! Who leads, as one node sees it: a state machine without clock, store or threads.
//!
//! It is told what happened and when, and says what to do next. The rules:
//!
//! - **Trust.** A lease is trusted until the moment its renewal was *sent* plus its time to live, less a margin. At that
//!   moment the node steps down by itself, whatever has become of the lease.
//! - **Taking over.** A standby bids when the lease ran out as expected, or was given up with a message. A lease that
//!   vanished earlier, or across a lost connection, may only have been forgotten by the store while the leader lives and
//!   puts it back: see [`Sight`]. So nobody takes it for one time to live.
//! - **Leading** begins with the epoch from the database, not with the lease.
//! - **No theft.** A node with a higher priority asks; the leader decides, and never gives way to an equal.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use understudy_runtime::clock::BootInstant;
use understudy_runtime::ids::NodeId;

use super::lease::{Acquire, Held, LeaseValue, Renewal};
use super::messages::HandOverAnswer;
use super::status::{EndReason, LeaderPhase};
use sight::Sight;
use term::Term;

mod hand_over;
mod sight;
mod standby;
mod term;

/// How soon a step that failed is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// What a node's leadership depends on besides what happens.
#[derive(Debug, Clone)]
pub struct LeadershipRules {
    /// This node.
    pub node_id: NodeId,
    /// How long a lease lasts without a renewal.
    pub ttl: Duration,
    /// How often it is renewed; less than half of `ttl`.
    pub renew: Duration,
    /// How long before its end it is trusted no more; less than `ttl` - `renew`.
    pub margin: Duration,
    /// Whether this node may lead at all.
    pub eligible: bool,
    /// The greater leads, once the smaller has agreed.
    pub priority: i32,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time passed: the moment of [`Action::SleepUntil`] has come, or another.
    Woke,
    /// The connection to the store was made anew.
    Reconnected,
    /// Answer to [`Action::Peek`].
    Peeked(Option<Held>),
    /// Answer to [`Action::Bid`].
    BidAnswered {
        /// Under which value.
        value: LeaseValue,
        /// When it was sent.
        sent_at: BootInstant,
        /// The answer.
        answer: Acquire,
    },
    /// Answer to [`Action::Renew`].
    RenewAnswered {
        /// Under which value.
        value: LeaseValue,
        /// When it was sent.
        sent_at: BootInstant,
        /// The answer.
        answer: Renewal,
    },
    /// No answer, or a refusal, to a peek, bid or renewal.
    Failed,
    /// [`Action::Release`] is over; whether it gave up the lease, as far as is known.
    Released {
        /// Under which value.
        value: LeaseValue,
        /// Whether the lease was held until then.
        released: bool,
    },
    /// The database counts this node's term as the `epoch`th.
    Inaugurated {
        /// Of which term.
        value: LeaseValue,
        /// Its number.
        epoch: u64,
    },
    /// The database did not.
    InaugurationFailed {
        /// Of which term.
        value: LeaseValue,
    },
    /// Another node says that it has given up the lease.
    ReleaseHeard {
        /// Under which value.
        value: LeaseValue,
        /// The node for which it did.
        successor: Option<NodeId>,
    },
    /// Another node asks to lead; [`Action::AnswerHandOver`] is the answer.
    HandOverRequested {
        /// Who.
        from: NodeId,
        /// Its priority.
        priority: i32,
    },
    /// Answer to [`Action::RequestHandOver`]; `None` when none came.
    HandOverAnswered {
        /// By whom.
        holder: LeaseValue,
        /// The answer.
        answer: Option<HandOverAnswer>,
    },
    /// An operator wants another node to lead; this one does not bid for so long, one time to live if nothing is said.
    StepDown(Option<Duration>),
    /// A claim found another epoch than this in the database.
    StaleEpoch(u64),
    /// The database has been away for too long to lead.
    DatabaseAway,
    /// This node ends.
    Resign,
    /// Whether this node may lead.
    Eligible(bool),
    /// Whether the node, or the cluster, is under maintenance: it does not lead then.
    Maintenance(bool),
    /// Whether leadership must stay where it is unless its holder fails.
    Frozen(bool),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Look who has the lease.
    Peek,
    /// Try to take the lease.
    Bid(LeaseValue),
    /// Extend the lease.
    Renew(LeaseValue),
    /// Give up the lease, and tell the others when it was held until then.
    Release {
        /// Under which value.
        value: LeaseValue,
        /// For whom.
        successor: Option<NodeId>,
    },
    /// Have the term counted by the database.
    Inaugurate(LeaseValue),
    /// Note in the database that a term ended.
    EndTerm {
        /// Its number.
        epoch: u64,
        /// Why.
        reason: EndReason,
    },
    /// The term is over: everything that relies on it must end. Comes before the release.
    StepDown(EndReason),
    /// Ask the holder to give way.
    RequestHandOver(LeaseValue),
    /// Answer to [`Event::HandOverRequested`].
    AnswerHandOver(HandOverAnswer),
    /// Nothing to do before this moment unless something happens; always the last.
    SleepUntil(BootInstant),
}

/// The leadership of one node.
#[derive(Debug)]
pub struct Leadership {
    rules: LeadershipRules,
    phase: Phase,
    since: BootInstant,
    sight: Sight,
    dice: StdRng,
    maintenance: bool,
    frozen: bool,
    stopping: bool,
    hold_until: Option<BootInstant>,
    /// Whether a peek, bid or renewal is on its way: there is one at a time.
    under_way: bool,
    next_look: BootInstant,
    /// The bid whose answer is not known.
    pending: Option<LeaseValue>,
    asking: hand_over::Asking,
    handed_over_at: Option<BootInstant>,
    last_end: Option<EndReason>,
}

#[derive(Debug)]
enum Phase {
    Standby,
    /// With the lease; leading if the term has its epoch.
    Holding(Term),
    /// Giving up the lease, after it was given up here.
    Ending {
        value: LeaseValue,
        fenced: bool,
    },
    Stopped,
}

impl Leadership {
    /// Makes a standby that has not looked yet; `seed` decides what is left to chance.
    #[must_use]
    pub fn new(rules: LeadershipRules, seed: u64, now: BootInstant) -> Self {
        Self {
            sight: Sight::new(rules.node_id.clone(), rules.ttl),
            rules,
            phase: Phase::Standby,
            since: now,
            dice: StdRng::seed_from_u64(seed),
            maintenance: false,
            frozen: false,
            stopping: false,
            hold_until: None,
            under_way: false,
            next_look: now,
            pending: None,
            asking: hand_over::Asking::default(),
            handed_over_at: None,
            last_end: None,
        }
    }

    /// Begins in maintenance, or frozen; to be said before the first step.
    #[must_use]
    pub fn marked(mut self, maintenance: bool, frozen: bool) -> Self {
        (self.maintenance, self.frozen) = (maintenance, frozen);
        self
    }

    /// Returns why the last term of this node that has ended did so; `None` when it had none.
    #[must_use]
    pub fn last_end(&self) -> Option<EndReason> {
        self.last_end
    }

    /// Takes in what happened and says what to do. Must be called at the latest when
    /// [`Action::SleepUntil`] says so; being late costs time, never safety.
    pub fn step(&mut self, now: BootInstant, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        // First of all: no answer can bring back a trust that has run out.
        self.fence_if_due(now, &mut actions);
        self.take_in(now, event, &mut actions);
        self.do_what_is_due(now, &mut actions);
        actions.push(Action::SleepUntil(self.wakes_at(now)));
        actions
    }

    fn take_in(&mut self, now: BootInstant, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Woke => {}
            Event::Reconnected => self.reconnected(now),
            Event::Peeked(held) => self.peeked(now, held, actions),
            Event::BidAnswered { value, sent_at, answer } => {
                self.bid_answered(now, (value, sent_at), answer, actions);
            }
            Event::RenewAnswered { value, sent_at, answer } => {
                self.renew_answered(now, (&value, sent_at), answer, actions);
            }
            Event::Failed => self.failed(now),
            Event::Released { value, released } => self.released(now, &value, released),
            Event::Inaugurated { value, epoch } => {
                self.inaugurated(now, &value, epoch, actions);
            }
            Event::InaugurationFailed { value } => self.inauguration_failed(now, &value),
            Event::ReleaseHeard { value, successor } => {
                self.release_heard(now, value, successor.as_ref());
            }
            Event::HandOverRequested { from, priority } => {
                self.hand_over_requested(now, from, priority, actions);
            }
            Event::HandOverAnswered { holder, answer } => {
                self.asking.answered(now, &holder, answer);
            }
            Event::StepDown(hold) => {
                self.hold(now + hold.unwrap_or(self.rules.ttl));
                self.end(now, EndReason::SteppedDown, actions);
            }
            Event::StaleEpoch(epoch) if self.epoch() == Some(epoch) => {
                let back_off = self.back_off();
                self.hold(now + back_off);
                self.end(now, EndReason::StaleEpoch, actions);
            }
            // Of an earlier term.
            Event::StaleEpoch(_) => {}
            Event::DatabaseAway => self.database_away(now, actions),
            Event::Resign => self.resign(now, actions),
            Event::Eligible(eligible) => {
                self.rules.eligible = eligible;
                self.wish_changed(now, actions);
            }
            Event::Maintenance(maintenance) => {
                self.maintenance = maintenance;
                self.wish_changed(now, actions);
            }
            Event::Frozen(frozen) => self.frozen = frozen,
        }
    }

    /// Returns what this node is right now.
    #[must_use]
    pub fn phase(&self) -> LeaderPhase {
        match &self.phase {
            Phase::Standby => LeaderPhase::Standby,
            Phase::Holding(term) if term.epoch().is_some() => LeaderPhase::Leading,
            Phase::Holding(_) => LeaderPhase::Acquired,
            Phase::Ending { fenced: true, .. } => LeaderPhase::Fenced,
            Phase::Ending { fenced: false, .. } => LeaderPhase::Resigning,
            Phase::Stopped => LeaderPhase::Stopped,
        }
    }

    /// Returns since when it is that.
    #[must_use]
    pub fn since(&self) -> BootInstant {
        self.since
    }

    /// Returns until when this node trusts its lease unless it is renewed; `None` when it has none.
    #[must_use]
    pub fn trusted_until(&self) -> Option<BootInstant> {
        self.term().map(|term| term.trusted_until)
    }

    /// Returns the number of the term in which this node leads.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.term().and_then(Term::epoch)
    }

    /// Returns who has the lease and until when, as far as this node knows; itself included.
    #[must_use]
    pub fn holder(&self, now: BootInstant) -> Option<(NodeId, BootInstant)> {
        match self.term() {
            Some(term) => Some((self.rules.node_id.clone(), term.trusted_until)),
            None => self.sight.holder(now).map(|(value, until)| (value.node().clone(), until)),
        }
    }

    /// Returns for how long between two moments this node knew of no leader. For the time since the step before.
    #[must_use]
    pub fn leaderless(&self, from: BootInstant, to: BootInstant) -> Duration {
        let known_until = match &self.phase {
            Phase::Holding(term) if term.epoch().is_some() => term.trusted_until,
            Phase::Holding(_) | Phase::Ending { .. } => from,
            Phase::Standby | Phase::Stopped => self.sight.holder(from).map_or(from, |(_, end)| end),
        };
        to.saturating_duration_since(from.max(known_until))
    }

    /// Returns until when this node does not bid, if it was told so.
    #[must_use]
    pub fn hold_until(&self) -> Option<BootInstant> {
        self.hold_until
    }

    /// Returns what the rules are now.
    #[must_use]
    pub fn rules(&self) -> &LeadershipRules {
        &self.rules
    }

    /// Whether the node is under maintenance, and whether leadership is frozen.
    #[must_use]
    pub fn marks(&self) -> (bool, bool) {
        (self.maintenance, self.frozen)
    }

    fn term(&self) -> Option<&Term> {
        match &self.phase {
            Phase::Holding(term) => Some(term),
            Phase::Standby | Phase::Ending { .. } | Phase::Stopped => None,
        }
    }

    fn enter(&mut self, now: BootInstant, phase: Phase) {
        self.phase = phase;
        self.since = now;
    }

    /// Whether this node wants to lead and may.
    fn may_lead(&self, now: BootInstant) -> bool {
        self.rules.eligible
            && !self.maintenance
            && !self.stopping
            && self.hold_until.is_none_or(|end| end <= now)
    }

    fn hold(&mut self, until: BootInstant) {
        self.hold_until = Some(self.hold_until.map_or(until, |end| end.max(until)));
    }

    /// A time to live and a bit, so that two nodes that fenced each other do not go on doing so.
    fn back_off(&mut self) -> Duration {
        let ttl = self.rules.ttl;
        ttl + self.jitter(ttl / 3)
    }

    fn jitter(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.dice.random_range(0..=most))
    }

    fn do_what_is_due(&mut self, now: BootInstant, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Standby => self.look_if_due(now, actions),
            Phase::Holding(_) => self.keep_if_due(now, actions),
            Phase::Ending { .. } | Phase::Stopped => {}
        }
    }

    fn wakes_at(&self, now: BootInstant) -> BootInstant {
        let idle = now + self.rules.ttl;
        match &self.phase {
            // The answer that is awaited comes, or its failure does.
            Phase::Standby if self.under_way => idle,
            Phase::Standby => self.hold_until.map_or(self.next_look, |end| end.min(self.next_look)),
            Phase::Holding(term) => term.wakes_at(self.under_way, self.rules.ttl),
            Phase::Ending { .. } | Phase::Stopped => idle,
        }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_support;
