//! The actor that owns one session on this node: carries out what its [`Engine`] decides.
//!
//! A thin shell. It lives on the arbiter of its shard, whose thread also holds the connection to the store; it never
//! blocks, keeps nothing that the store does not have, and may die at any moment: the next request starts another one,
//! which claims the session with a new fencing token.

mod moving;
mod steps;

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::oneshot;
use tracing::{Instrument as _, debug_span, warn};
use understudy_runtime::actors::ActorType;
use understudy_runtime::clock::BootInstant;

use crate::engine::{Answer, Engine, Job, Moment, Reply, Role, Sent, Step};
use crate::forward::forward;
use crate::handle::Shard;
use crate::record::Record;
use crate::resident::Cell;
use crate::store::ClaimReply;

use steps::{Came, carry_out, log_failure};

pub(crate) use moving::{Part, WantSession};

/// Most jobs that wait for one session; more are told that it is busy.
pub(crate) const MAILBOX: usize = 4096;

/// Owners of sessions.
pub(crate) static SESSION: ActorType = ActorType {
    name: "session",
    meaning: "Owns one session, or knows the node that does",
    instead: None,
};

/// Owns one session on this node.
pub(crate) struct SessionActor {
    engine: Engine,
    cell: Arc<Cell>,
    shard: Arc<Shard>,
    /// The earliest turn that is planned.
    wake_at: Option<BootInstant>,
    /// Who waits until nothing is under way.
    settled: Option<oneshot::Sender<()>>,
    /// Who waits until the copy was confirmed.
    confirmed: Option<oneshot::Sender<()>>,
    /// Given up by the map of residents: goes as soon as its last job is done.
    leaving: bool,
    /// The highest version that was told to be lost.
    lost_version: u64,
    /// The owner has released the session for this node, which is about to claim it.
    coming: bool,
    /// Another node wants the session, and gets it as soon as nothing is under way.
    parting: Option<Part>,
}

/// Hands a job in; whoever waits is answered through the job.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Submit(pub(crate) Job);

/// Tells that the lease changed: the copy is to be confirmed or put back now, not at the next request. Done when the
/// store has answered.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CheckCopy(pub(crate) oneshot::Sender<()>);

/// Asks the actor to give the session up and go, if nobody used it for that long.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Passivate(pub(crate) std::time::Duration);

/// Asks the actor to give the session up and go, as soon as nobody waits for it: answered with whether it does, when the
/// store has heard that the session is nobody's, or could not be told.
#[derive(Message)]
#[rtype(result = "bool")]
pub(crate) struct HandBack;

/// Comes after everything that was in the mailbox when the session was given up.
#[derive(Message)]
#[rtype(result = "()")]
struct Leave;

/// Asks the actor to finish what is under way and to take no more from peers.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Drain(pub(crate) oneshot::Sender<()>);

impl SessionActor {
    pub(crate) fn new(engine: Engine, cell: Arc<Cell>, shard: Arc<Shard>) -> Self {
        let actor = Self {
            engine,
            cell,
            shard,
            wake_at: None,
            settled: None,
            confirmed: None,
            leaving: false,
            lost_version: 0,
            coming: false,
            parting: None,
        };
        actor.publish();
        actor
    }

    fn moment(&self) -> Moment {
        let now = self.shard.clock.now();
        Moment {
            now,
            lease: self.shard.board.current(self.cell.bucket, now),
            last_access: self.cell.last_access(),
            seen_version: self.cell.seen_version(),
            patience: self.shard.options.store_patience,
        }
    }

    /// Takes steps until one is under way or there is nothing to do, then answers.
    fn turn(&mut self, ctx: &mut Context<Self>) {
        if self.cell.is_ended() {
            self.engine.hear_end();
        }
        loop {
            let moment = self.moment();
            match self.engine.next(moment) {
                Step::Rest => break,
                Step::Wait(until) => {
                    self.wake(until, moment.now, ctx);
                    break;
                }
                Step::Forward { node, job, limit } => {
                    let shard = Arc::clone(&self.shard);
                    let locator = self.cell.locator;
                    let span = job.span.clone();
                    let sent = async move { forward(&shard, locator, node, job, limit).await };
                    let sent = sent.instrument(span);
                    ctx.spawn(sent.into_actor(self).map(|(node, job, came), actor, ctx| {
                        actor.engine.on_forward(node, job, came);
                        actor.turn(ctx);
                    }));
                }
                step @ (Step::Claim { .. }
                | Step::Validate(_)
                | Step::Write { .. }
                | Step::Restore(_)
                | Step::Revoke(_)) => {
                    self.take(step, moment, ctx);
                    break;
                }
            }
        }
        self.publish();
        self.answer();
        self.part_if_asked(ctx);
        if self.leaving && self.engine.is_idle() {
            ctx.stop();
        }
    }

    fn wake(&mut self, until: BootInstant, now: BootInstant, ctx: &mut Context<Self>) {
        if self.wake_at.is_some_and(|planned| planned <= until && planned > now) {
            return;
        }
        self.wake_at = Some(until);
        ctx.run_later(until.saturating_duration_since(now), |actor, ctx| {
            actor.wake_at = None;
            actor.turn(ctx);
        });
    }

    fn take(&mut self, step: Step, moment: Moment, ctx: &mut Context<Self>) {
        let step = if let Step::Restore(copy) = step {
            Step::Restore(self.with_latest_access(copy, moment.now))
        } else {
            step
        };
        if matches!(step, Step::Write { .. } | Step::Revoke(_)) {
            self.cell.begin_change();
        }
        let sent = Sent { at: moment.now, lease: moment.lease };
        let work = Arc::clone(&self.shard);
        let locator = self.cell.locator;
        let span = debug_span!("session.step");
        let came = async move { carry_out(&work, locator, step).await }.instrument(span);
        ctx.spawn(came.into_actor(self).map(move |came, actor, ctx| {
            actor.absorb(came, sent);
            actor.turn(ctx);
        }));
    }

    /// What is put back must not look unused: accesses are noted at the store, and that note may be lost too.
    fn with_latest_access(&self, copy: Arc<Record>, now: BootInstant) -> Arc<Record> {
        let ago = now.saturating_duration_since(self.cell.last_access()).as_millis();
        let now_ms = self.shard.board.server_now_ms(&*self.shard.clock);
        let last_access_ms = now_ms.saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX));
        if last_access_ms <= copy.last_access_ms {
            return copy;
        }
        Arc::new(Record { last_access_ms, ..(*copy).clone() })
    }

    fn absorb(&mut self, came: Came, sent: Sent) {
        let moment = self.moment();
        match came {
            Came::Claim(token, reply) => {
                if let Ok(ClaimReply::Claimed { version, .. }) = &reply {
                    self.note_loss(*version);
                    self.shard.counters.loads.increment(1);
                    self.cell.touched(sent.at);
                    self.cell.accessed(sent.at);
                }
                log_failure("claim", reply.as_ref().err());
                self.engine.on_claim(token, reply, sent, moment);
                if std::mem::take(&mut self.coming) {
                    self.note_move(moment.now);
                }
            }
            Came::Write(reply) => {
                if reply.is_ok() {
                    self.cell.touched(sent.at);
                    self.cell.accessed(sent.at);
                }
                log_failure("write", reply.as_ref().err());
                self.engine.on_write(reply, sent, moment);
            }
            Came::Validate(reply) => {
                log_failure("validate", reply.as_ref().err());
                if let Some(access) = self.engine.on_validate(reply, sent, moment) {
                    self.cell.accessed(access);
                }
            }
            Came::Restore(reply) => {
                log_failure("restore", reply.as_ref().err());
                self.engine.on_restore(reply, moment);
            }
            Came::Revoke(reply) => {
                log_failure("revoke", reply.as_ref().err());
                if reply.is_ok() {
                    self.shard.endings.tell(self.cell.locator);
                }
                self.engine.on_revoke(reply, moment);
            }
        }
    }

    /// A state that is older than one of which this node knows that it was durable: the store lost what was acknowledged, and
    /// nobody could put it back.
    fn note_loss(&mut self, version: u64) {
        let kept = match self.engine.role() {
            Role::Unknown(Some(kept)) => kept.record.version,
            Role::Unknown(None) | Role::Owner(_) | Role::Elsewhere { .. } | Role::Ended => 0,
        };
        let knew = kept.max(self.cell.seen_version());
        if version >= knew || self.lost_version >= knew {
            return;
        }
        self.lost_version = knew;
        metrics::counter!("session_lost_total").increment(1);
        let session = self.cell.locator.id_for_logs();
        warn!(session.id = session, version, knew, "acknowledged changes of a session are lost");
    }

    fn publish(&self) {
        match self.engine.role() {
            Role::Owner(owned) => {
                self.cell.publish(Some(owned));
                self.cell.set_elsewhere(None);
            }
            Role::Elsewhere { until, .. } => {
                self.cell.publish(None);
                self.cell.set_elsewhere(Some(*until));
            }
            Role::Unknown(_) => {
                self.cell.publish(None);
                self.cell.set_elsewhere(None);
            }
            Role::Ended => {
                self.cell.publish(None);
                self.cell.set_elsewhere(None);
                self.cell.set_over();
            }
        }
        if !self.engine.is_changing() {
            self.cell.end_change();
        }
    }

    /// An operation that changed nothing was a use of the session all the same; a write has told the store already.
    fn note_access(&self) {
        let now = self.shard.clock.now();
        self.cell.accessed(now);
        if self.cell.touch_is_due(now, self.shard.options.touch_every()) {
            let (shard, locator) = (Arc::clone(&self.shard), self.cell.locator);
            actix::spawn(async move {
                log_failure("touch", shard.store.touch(locator).await.err().as_ref());
            });
        }
        if let Role::Owner(owned) = self.engine.role()
            && self.cell.seen_is_due(now, self.shard.options.touch_every())
        {
            self.shard.note_seen(self.cell.locator, &owned.record);
        }
    }

    /// Counts what was asked for, from when it was: what it waited for another node or for the store is a part of it.
    fn count(&self, answers: &[(Job, Answer)]) {
        let now = self.shard.clock.now();
        for (job, _) in answers {
            let took = now.saturating_duration_since(job.submitted);
            let actor = || Some(self.cell.locator.id_for_logs());
            self.shard.probe.done(job.work.name(), took, actor);
        }
    }

    /// Gives the session up, unless there is something to do; says whether it did. From then on requests find no actor and
    /// start another one.
    fn gives_up(&self) -> bool {
        // Asked twice, it must not come back: it is out of the map.
        let given_up = self.cell.is_given_up();
        if given_up || !self.engine.is_idle() || !self.cell.give_up() {
            return false;
        }
        self.shard.forget(&self.cell);
        true
    }

    /// Hands a session that was given up back to the store.
    fn release(&mut self) -> impl Future<Output = ()> + 'static + use<> {
        let fence = self.engine.fence().cloned();
        self.engine.forget();
        self.cell.publish(None);
        let shard = Arc::clone(&self.shard);
        let locator = self.cell.locator;
        async move {
            let failed = match fence {
                Some(fence) => shard.store.release(locator, &fence).await.err(),
                None => None,
            };
            log_failure("release", failed.as_ref()); // then it waits for the lease to end, or for this node's next claim
        }
    }

    /// Answers go out only after [`Self::publish`]: whoever was answered must not read something older here.
    fn answer(&mut self) {
        let answers = self.engine.take_answers();
        if !answers.is_empty() {
            self.count(&answers);
        }
        for (job, answer) in answers {
            if matches!(answer, Ok(Reply::Done(..))) {
                self.note_access();
            }
            for reply in job.replies {
                // Whoever waited may have gone; then nobody is to be told.
                drop(reply.send(answer.clone()));
            }
        }
        if let Some(done) = self.settled.take_if(|_| self.engine.is_idle()) {
            done.send(()).ok(); // whoever waited may have given up
        }
        if let Some(done) = self.confirmed.take_if(|_| self.engine.is_confirmed()) {
            done.send(()).ok(); // whoever waited may have given up
        }
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
    }

    fn stopped(&mut self, _ctx: &mut Context<Self>) {
        if std::thread::panicking() {
            self.shard.probe.lost();
        }
        // Also after a panic: nobody may read what this actor published and no longer looks after.
        self.cell.publish(None);
        self.shard.forget(&self.cell);
    }
}

impl Handler<Submit> for SessionActor {
    type Result = ();

    fn handle(&mut self, Submit(job): Submit, ctx: &mut Context<Self>) {
        if self.cell.is_given_up() {
            return; // nobody waits for it any more, and another actor may have the session
        }
        self.engine.submit(job);
        if self.shard.is_closed() {
            self.engine.refuse_peers();
        }
        self.turn(ctx);
    }
}

impl Handler<CheckCopy> for SessionActor {
    type Result = ();

    fn handle(&mut self, CheckCopy(done): CheckCopy, ctx: &mut Context<Self>) {
        self.engine.want_check();
        self.confirmed = Some(done);
        self.turn(ctx);
    }
}

impl Handler<Drain> for SessionActor {
    type Result = ();

    fn handle(&mut self, Drain(done): Drain, ctx: &mut Context<Self>) {
        self.engine.refuse_peers();
        self.settled = Some(done);
        self.turn(ctx);
    }
}

impl Handler<Passivate> for SessionActor {
    type Result = ();

    fn handle(&mut self, Passivate(limit): Passivate, ctx: &mut Context<Self>) {
        let idle = self.shard.clock.now().saturating_duration_since(self.cell.last_access());
        if idle >= limit && self.gives_up() {
            let released = self.release();
            ctx.wait(released.into_actor(self).map(|(), _actor, ctx| {
                ctx.notify(Leave);
            }));
        }
    }
}

impl Handler<HandBack> for SessionActor {
    type Result = AtomicResponse<Self, bool>;

    fn handle(&mut self, _: HandBack, _ctx: &mut Context<Self>) -> Self::Result {
        let released = self.gives_up().then(|| self.release());
        let goes = async move {
            let Some(released) = released else { return false };
            released.await;
            true
        };
        AtomicResponse::new(Box::pin(goes.into_actor(self).map(|goes, _actor, ctx| {
            if goes {
                ctx.notify(Leave);
            }
            goes
        })))
    }
}

impl Handler<Leave> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Context<Self>) {
        self.leaving = true;
        self.turn(ctx);
    }
}

impl std::fmt::Debug for SessionActor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionActor").finish_non_exhaustive()
    }
}
