//! The actor's part in a move of its session to another node; who decides, and what may go wrong, is in
//! [`crate::affinity`].

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;
use understudy_runtime::clock::BootInstant;
use understudy_runtime::ids::NodeId;

use super::{SessionActor, log_failure};
use crate::affinity::{ANSWER, MoveMessage, MoveReply};
use crate::engine::{Job, Role, Work};

/// Tells that the requests of the session come here since then: its owner is asked for it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WantSession {
    pub(crate) since: BootInstant,
}

/// Asks the owner to release the session for a node that all its requests come to; answers whether it did.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Part {
    /// The node that wants it, if it said so.
    pub(crate) to: Option<NodeId>,
    /// For how long the session stays where it is after this.
    pub(crate) every: Duration,
    /// The last use here, as the decision knew it: one after it keeps the session.
    pub(crate) last_use: BootInstant,
    pub(crate) done: oneshot::Sender<bool>,
}

impl SessionActor {
    /// The claim of a session that was released for this node has been answered.
    pub(super) fn note_move(&self, now: BootInstant) {
        match self.engine.role() {
            Role::Owner(_) => {
                metrics::counter!("session_moves_total").increment(1);
                self.cell.visits().came();
                let every = self.shard.options.move_every.unwrap_or_default();
                self.cell.settle(now + every);
            }
            Role::Unknown(_) | Role::Elsewhere { .. } | Role::Ended => self.cell.visits().refused(),
        }
    }

    /// Gives the session to the node that wants it, if nothing is under way; else it is tried again when what is has ended, for as
    /// long as that node waits. A visitor whose requests follow each other has one under way nearly always.
    pub(super) fn part_if_asked(&mut self, ctx: &mut Context<Self>) {
        let Some(part) = self.parting.take() else { return };
        let moment = self.moment();
        let used = self.cell.last_use() != part.last_use;
        if self.cell.is_given_up() || used || part.done.is_closed() {
            return; // the sender is dropped: that is a refusal
        }
        let Some(fence) = self.engine.fence().cloned() else { return };
        if !self.engine.may_part(&moment) {
            self.parting = Some(part);
            return;
        }
        let Part { to, every, done, .. } = part;
        // Whoever claims it back, it is not given away again for a while.
        self.cell.settle(moment.now + every);
        match to {
            Some(node) => self.engine.leave_to(node, moment.now + ANSWER),
            None => self.engine.forget(),
        }
        self.publish();
        let (shard, locator) = (Arc::clone(&self.shard), self.cell.locator);
        let released = async move { shard.store.release(locator, &fence).await };
        // Nothing else is done until the store has answered, or this node might claim it back meanwhile.
        ctx.wait(released.into_actor(self).map(|released, _actor, _ctx| {
            log_failure("release", released.as_ref().err());
            done.send(matches!(released, Ok(true))).ok(); // whoever waited may have given up
        }));
    }

    /// Takes in what the owner said; claims the session when it has released it.
    fn on_move(&mut self, reply: Option<MoveReply>, ctx: &mut Context<Self>) {
        match reply {
            // A request that came here meanwhile has claimed it already.
            Some(MoveReply::Given) if matches!(self.engine.role(), Role::Owner(_)) => {
                self.note_move(self.shard.clock.now());
            }
            Some(MoveReply::Given) if !self.cell.is_given_up() => {
                let now = self.shard.clock.now();
                self.coming = true;
                // A look that nobody waits for: where the session is elsewhere, it begins with a claim.
                self.engine.submit(Job {
                    work: Work::View,
                    replies: Vec::new(),
                    deadline: now + ANSWER,
                    submitted: now,
                    from_peer: false,
                    trace: None,
                    sent: 0,
                    span: tracing::Span::none(),
                });
                self.turn(ctx);
            }
            Some(MoveReply::Given | MoveReply::Used | MoveReply::Recent | MoveReply::Busy)
            | None => self.cell.visits().refused(),
        }
    }
}

impl Handler<WantSession> for SessionActor {
    type Result = ();

    fn handle(&mut self, WantSession { since }: WantSession, ctx: &mut Context<Self>) {
        let Role::Elsewhere { node, .. } = self.engine.role() else {
            return self.cell.visits().refused(); // it is here by now, or nobody's
        };
        let (node, shard) = (node.clone(), Arc::clone(&self.shard));
        let me = self.engine.node().clone();
        let message = MoveMessage::new(self.cell.locator, me, since, shard.clock.now());
        let asked = async move { shard.bus.request(&node, &message, ANSWER).await };
        ctx.spawn(asked.into_actor(self).map(|reply, actor, ctx| actor.on_move(reply.ok(), ctx)));
    }
}

impl Handler<Part> for SessionActor {
    type Result = ();

    fn handle(&mut self, part: Part, ctx: &mut Context<Self>) {
        // Of two nodes that want it the first gets it; the other one's sender is dropped, which refuses it.
        let waits = self.parting.as_ref().is_some_and(|earlier| !earlier.done.is_closed());
        if !waits {
            self.parting = Some(part);
            self.part_if_asked(ctx);
        }
    }
}
