//! What the actor does for each [`Action`] that needs a store, the database or another node: each is a future of its own,
//! bounded, and ends as an [`Event`].

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use understudy_runtime::clock::BootInstant;
use understudy_runtime::error::chain;
use understudy_runtime::ids::NodeId;

use super::super::inauguration::InaugurationError;
use super::super::leadership::{Action, Event};
use super::super::lease::{LeaderLease, LeaderLeaseError, LeaseValue};
use super::super::messages::{LeaderReleased, RequestHandOver};
use super::super::status::EndReason;
use super::LeaderActor;

/// How long the other nodes may take to hear that the lease is free, before this one goes on.
const TELL_LIMIT: Duration = Duration::from_millis(250);
/// How long a holder may take to answer a request.
const ASK_LIMIT: Duration = Duration::from_secs(1);

impl LeaderActor {
    /// Sends a peek, bid or renewal. Its answer always comes, at the latest as a failure.
    pub(super) fn ask_store(&mut self, action: Action, ctx: &mut Context<Self>) {
        let reconnected =
            self.reconnects.as_ref().is_some_and(|count| count.has_changed().unwrap_or(false));
        let bid = matches!(action, Action::Bid(_));
        let (lease, clock, ttl) =
            (self.tools.lease.clone(), self.spec.clock.clone(), self.spec.ttl);
        let limit = self.spec.answer_limit();
        let renewal = matches!(action, Action::Renew(_));
        let what = if bid {
            "bid"
        } else if renewal {
            "renew"
        } else {
            "peek"
        };
        let handling = self.spec.probe.begin(what);
        let is_first = !std::mem::replace(&mut self.has_asked, true);
        let first_connection = self.reconnects.clone().filter(|_| is_first);
        let step = async move {
            let _handling = handling;
            if let Some(mut connects) = first_connection {
                // What is sent before it is there fails at once.
                let connected = connects.wait_for(|connects| *connects > 0);
                tokio::time::timeout(limit, connected).await.ok();
            }
            if bid && reconnected {
                // What the bid relies on was learnt over another connection; the news is on its way to the actor.
                return Ok(Event::Failed);
            }
            let asked = ask(&*lease, action, clock.now(), ttl);
            let answer = tokio::time::timeout(limit, asked).await;
            answer.unwrap_or_else(|_| Err(LeaderLeaseError::timed_out(limit)))
        };
        let (sent_at, renews) = (self.spec.clock.now(), !bid && self.leadership.epoch().is_some());
        ctx.spawn(step.into_actor(self).map(move |answer, actor, ctx| {
            if renews && answer.is_ok() {
                let took = actor.spec.clock.now().saturating_duration_since(sent_at);
                metrics::histogram!("leader_renew_seconds").record(took);
            }
            let event = actor.judge(answer);
            actor.take_in(event, ctx);
        }));
    }

    fn judge(&mut self, answer: Result<Event, LeaderLeaseError>) -> Event {
        match answer {
            Ok(event) => {
                if self.failing && event != Event::Failed {
                    self.failing = false;
                    self.shared.trouble.store(None);
                    tracing::info!("the store of the leader's lease answers again");
                }
                event
            }
            Err(error) => {
                if !self.failing {
                    self.failing = true;
                    tell_trouble(&error);
                }
                self.shared.trouble.store(Some(Arc::new(error)));
                Event::Failed
            }
        }
    }

    /// Gives the lease up and, if it was there until then, tells the others.
    pub(super) fn release(
        &mut self,
        value: LeaseValue,
        successor: Option<NodeId>,
        ctx: &mut Context<Self>,
    ) {
        self.ending += 1;
        let (lease, bus) = (self.tools.lease.clone(), self.tools.bus.clone());
        let limit = self.spec.answer_limit();
        let handling = self.spec.probe.begin("release");
        let release = async move {
            let _handling = handling;
            let answer = tokio::time::timeout(limit, lease.release(&value)).await;
            // Else it runs out by itself.
            let released = matches!(answer, Ok(Ok(true)));
            if released {
                let message = LeaderReleased { value: value.clone(), successor };
                // Each other node hears it at once or not at all; the answers only show that it went out.
                bus.broadcast(&message, TELL_LIMIT).await;
            }
            Event::Released { value, released }
        };
        ctx.spawn(release.into_actor(self).map(|event, actor, ctx| {
            actor.ending -= 1;
            actor.take_in(event, ctx);
        }));
    }

    pub(super) fn inaugurate(&self, value: LeaseValue, ctx: &mut Context<Self>) {
        let (inauguration, node) = (self.tools.inauguration.clone(), self.spec.node_id.clone());
        let handling = self.spec.probe.begin("inaugurate");
        let asked = async move {
            let _handling = handling;
            match inauguration.inaugurate(&node, &value.to_string()).await {
                Ok(epoch) => Event::Inaugurated { value, epoch },
                Err(error) => {
                    tell_no_inauguration(&error);
                    Event::InaugurationFailed { value }
                }
            }
        };
        ctx.spawn(asked.into_actor(self).map(|event, actor, ctx| {
            actor.take_in(event, ctx);
        }));
    }

    pub(super) fn end_term(&mut self, epoch: u64, reason: EndReason, ctx: &mut Context<Self>) {
        self.ending += 1;
        let (inauguration, limit) = (self.tools.inauguration.clone(), self.spec.answer_limit());
        let noted = async move {
            let noted = inauguration.end_term(epoch, reason.as_str());
            match tokio::time::timeout(limit, noted).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    let reason = chain(&error);
                    tracing::warn!(leader.epoch = epoch, %reason, "the end of a term was not noted");
                }
                Err(_) => {
                    tracing::warn!(leader.epoch = epoch, "the end of a term was not noted in time")
                }
            }
        };
        ctx.spawn(noted.into_actor(self).map(|(), actor, _| {
            actor.ending -= 1;
            actor.answer_who_waits();
        }));
    }

    pub(super) fn request_hand_over(&self, holder: LeaseValue, ctx: &mut Context<Self>) {
        let bus = self.tools.bus.clone();
        let request = RequestHandOver { priority: self.spec.priority };
        let asked = async move {
            let answer = bus.request(holder.node(), &request, ASK_LIMIT).await;
            Event::HandOverAnswered { holder, answer: answer.ok() }
        };
        ctx.spawn(asked.into_actor(self).map(|event, actor, ctx| {
            actor.take_in(event, ctx);
        }));
    }
}

async fn ask(
    lease: &dyn LeaderLease,
    action: Action,
    sent_at: BootInstant,
    ttl: Duration,
) -> Result<Event, LeaderLeaseError> {
    match action {
        Action::Bid(value) => {
            let answer = lease.acquire(&value, ttl).await?;
            Ok(Event::BidAnswered { value, sent_at, answer })
        }
        Action::Renew(value) => {
            let answer = lease.renew(&value, ttl).await?;
            Ok(Event::RenewAnswered { value, sent_at, answer })
        }
        Action::Peek
        | Action::Release { .. }
        | Action::Inaugurate(_)
        | Action::EndTerm { .. }
        | Action::StepDown(_)
        | Action::RequestHandOver(_)
        | Action::AnswerHandOver(_)
        | Action::SleepUntil(_) => Ok(Event::Peeked(lease.peek().await?)),
    }
}

fn tell_trouble(error: &LeaderLeaseError) {
    let reason = chain(error);
    match error {
        LeaderLeaseError::Unavailable(_) => {
            tracing::warn!(%reason, "the store of the leader's lease cannot be used");
        }
        LeaderLeaseError::Refused { .. } => {
            tracing::error!(%reason, "the store of the leader's lease cannot be used");
        }
    }
}

fn tell_no_inauguration(error: &InaugurationError) {
    let reason = chain(error);
    if error.is_retryable() {
        tracing::warn!(%reason, "this node has the leader's lease but no epoch yet");
    } else {
        tracing::error!(%reason, "this node has the leader's lease but gets no epoch");
    }
}
