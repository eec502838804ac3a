//! Carries out what [`Leadership`] decides, on a thread that does nothing else.
//!
//! The thin shell around it: it sends, hands over answers and time, and publishes the result before anything else
//! happens, so that what relies on a term knows of its end before the store does. Nothing waits for anything here:
//! while the database counts a term, the lease is renewed.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{oneshot, watch};
use understudy_runtime::actors::Alive;
use understudy_runtime::bus::Bus;
use understudy_runtime::clock::BootInstant;
use understudy_runtime::ids::NodeId;

use super::handle::{LeaderShared, LeaderSpec, View};
use super::inauguration::Inauguration;
use super::leadership::{Action, Event, Leadership};
use super::lease::LeaderLease;
use super::messages::HandOverAnswer;
use super::status::{EndReason, LeaderPhase, LeaderState};

mod steps;

/// At least so often it is looked at the clock: a timer does not count the time in which the machine sleeps.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);

/// Something happened.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Tell(pub(super) Event);

/// Ends the term, if there is one; answered when the lease was given up or that failed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct GiveUp(pub(super) Event);

/// Another node asks to lead.
#[derive(Debug, Message)]
#[rtype(result = "HandOverAnswer")]
pub(super) struct GiveWay {
    pub(super) from: NodeId,
    pub(super) priority: i32,
}

/// What the actor works with.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) lease: Arc<dyn LeaderLease>,
    pub(super) inauguration: Arc<dyn Inauguration>,
    pub(super) bus: Bus,
}

pub(super) struct LeaderActor {
    spec: LeaderSpec,
    tools: Tools,
    shared: Arc<LeaderShared>,
    leadership: Leadership,
    reconnects: Option<watch::Receiver<u64>>,
    /// Whether the store was asked for anything.
    has_asked: bool,
    last_step: BootInstant,
    timer: Option<SpawnHandle>,
    /// How many releases and notes of an end are under way.
    ending: usize,
    waiting: Vec<oneshot::Sender<()>>,
    /// What is not yet counted as a whole second.
    leaderless: Duration,
    /// Whether the last step at the store failed, so that an outage is logged once.
    failing: bool,
    _alive: Alive,
}

impl LeaderActor {
    pub(super) fn new(spec: LeaderSpec, tools: Tools, shared: Arc<LeaderShared>) -> Self {
        let now = spec.clock.now();
        // The marks before the first step: it may be a bid.
        let leadership = Leadership::new(spec.rules(), rand::random(), now)
            .marked(spec.maintenance, spec.frozen);
        Self {
            leadership,
            reconnects: tools.lease.reconnects(),
            has_asked: false,
            last_step: now,
            timer: None,
            ending: 0,
            waiting: Vec::new(),
            leaderless: Duration::ZERO,
            failing: false,
            _alive: spec.probe.born(),
            spec,
            tools,
            shared,
        }
    }

    fn take_in(&mut self, event: Event, ctx: &mut Context<Self>) -> Option<HandOverAnswer> {
        let now = self.spec.clock.now();
        self.count_leaderless(now);
        let actions = self.leadership.step(now, event);
        let ended = self.publish(now);
        let mut answer = None;
        for action in actions {
            match action {
                Action::AnswerHandOver(given) => answer = Some(given),
                Action::StepDown(reason) => tell_end(ended, reason),
                Action::SleepUntil(at) => self.sleep(at, ctx),
                Action::Peek | Action::Bid(_) | Action::Renew(_) => self.ask_store(action, ctx),
                Action::Release { value, successor } => self.release(value, successor, ctx),
                Action::Inaugurate(value) => self.inaugurate(value, ctx),
                Action::EndTerm { epoch, reason } => self.end_term(epoch, reason, ctx),
                Action::RequestHandOver(holder) => self.request_hand_over(holder, ctx),
            }
        }
        self.answer_who_waits();
        answer
    }

    /// Puts on the board what is the case; returns the epoch of a term that is over.
    fn publish(&self, now: BootInstant) -> Option<u64> {
        let epoch = self.leadership.epoch();
        let until = epoch.and(self.leadership.trusted_until());
        let left = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        metrics::gauge!("leader_lease_remaining_seconds").set(left.as_secs_f64());
        let ended = match (epoch, self.leadership.trusted_until()) {
            (Some(epoch), Some(until)) => {
                if self.shared.board.lead(epoch, until) {
                    tracing::info!(leader.epoch = epoch, "leadership gained");
                    metrics::counter!("leader_terms_total").increment(1);
                    metrics::gauge!("leader_is_leader").set(1.0);
                }
                None
            }
            _ => self.shared.board.end(),
        };
        let holder = self.leadership.holder(now);
        let (phase, since) = (self.leadership.phase(), self.leadership.since());
        let leader = holder.as_ref().map(|(node, _)| node.clone());
        let last_end = self.leadership.last_end();
        let state = LeaderState { phase, epoch, since, leader, last_end };
        self.shared.state.send_if_modified(|shown| {
            let changed = *shown != state;
            shown.clone_from(&state);
            changed
        });
        let rules = self.leadership.rules();
        let (maintenance, frozen) = self.leadership.marks();
        self.shared.view.store(Arc::new(View {
            state,
            holder,
            hold_until: self.leadership.hold_until(),
            eligible: rules.eligible,
            maintenance,
            frozen,
        }));
        ended
    }

    fn sleep(&mut self, at: BootInstant, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let wait = at.saturating_duration_since(self.spec.clock.now()).min(LONGEST_SLEEP);
        self.timer = Some(ctx.run_later(wait, |actor, ctx| {
            actor.timer = None;
            actor.take_in(Event::Woke, ctx);
        }));
    }

    /// Answers those who wait for an end when there is nothing left to wait for.
    fn answer_who_waits(&mut self) {
        let giving_up =
            matches!(self.leadership.phase(), LeaderPhase::Resigning | LeaderPhase::Fenced);
        if self.ending == 0 && !giving_up {
            for waiting in self.waiting.drain(..) {
                // Who asked may have gone away.
                waiting.send(()).ok();
            }
        }
    }

    fn count_leaderless(&mut self, now: BootInstant) {
        self.leaderless += self.leadership.leaderless(self.last_step, now);
        self.last_step = now;
        let whole = self.leaderless.as_secs();
        if whole > 0 {
            metrics::counter!("leaderless_seconds_total").increment(whole);
            self.leaderless -= Duration::from_secs(whole);
        }
    }

    /// Hears of each new connection at once, and not at the next step.
    fn follow_reconnects(&self, ctx: &mut Context<Self>) {
        let Some(mut reconnects) = self.reconnects.clone() else { return };
        let changed = async move { reconnects.changed().await.is_ok() };
        ctx.spawn(changed.into_actor(self).map(|changed, actor, ctx| {
            if let Some(reconnects) = actor.reconnects.as_mut().filter(|_| changed) {
                reconnects.mark_unchanged();
                actor.take_in(Event::Reconnected, ctx);
                actor.follow_reconnects(ctx);
            }
        }));
    }
}

fn tell_end(epoch: Option<u64>, reason: EndReason) {
    metrics::gauge!("leader_is_leader").set(0.0);
    match epoch {
        Some(epoch) => tracing::info!(leader.epoch = epoch, %reason, "leadership lost"),
        None => tracing::info!(%reason, "the leader's lease was given up before the term began"),
    }
}

impl Actor for LeaderActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        metrics::gauge!("leader_is_leader").set(0.0);
        self.follow_reconnects(ctx);
        self.take_in(Event::Woke, ctx);
    }
}

impl Handler<Tell> for LeaderActor {
    type Result = ();

    fn handle(&mut self, Tell(event): Tell, ctx: &mut Context<Self>) {
        let _handling = self.spec.probe.take("tell");
        self.take_in(event, ctx);
    }
}

impl Handler<GiveUp> for LeaderActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, GiveUp(event): GiveUp, ctx: &mut Context<Self>) -> Self::Result {
        let handling = self.spec.probe.take("give_up");
        let (answer, done) = oneshot::channel();
        self.waiting.push(answer);
        self.take_in(event, ctx);
        Box::pin(async move {
            // The actor's end is an end of the wait, too.
            done.await.ok();
            drop(handling);
        })
    }
}

impl Handler<GiveWay> for LeaderActor {
    type Result = MessageResult<GiveWay>;

    fn handle(&mut self, asked: GiveWay, ctx: &mut Context<Self>) -> Self::Result {
        let _handling = self.spec.probe.take("give_way");
        let event = Event::HandOverRequested { from: asked.from, priority: asked.priority };
        MessageResult(self.take_in(event, ctx).unwrap_or(HandOverAnswer::Never))
    }
}
