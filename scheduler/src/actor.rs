//! The scheduler of a node: claims what is due while this node leads, and takes from the queue what it can run.
//!
//! One round after the other, about once a second, at the next due time, and whenever something has changed. A round
//! takes no input and keeps nothing: what is due stands in the database, so a new leader knows all that the old one knew.

mod beat;
mod round;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, Message, SpawnHandle,
    WrapFuture as _,
};
use arc_swap::ArcSwap;
use understudy_runtime::actors::{ActorType, Alive, Mailbox, Probe};
use understudy_runtime::config::JobsConfig;
use understudy_runtime::service::NodeContext;

use crate::clock::DatabaseClock;
use crate::job::Registry;
use crate::jobs::WeakJobs;
use crate::leader::{EndReason, LeaderHandle, LeaderPhase, LeaderState};
use crate::store::{Need, SchedulerNode, Store};
use crate::worker::{EpochEnded, WorkerActor};

pub(crate) use beat::BeatReport;

/// What starts runs on a node.
pub(crate) static SCHEDULER: ActorType = ActorType {
    name: "scheduler",
    meaning: "Claims what is due while the node leads, and takes runs from the queue",
    instead: Some("pause the scheduler (`scheduler pause`), or drain the node"),
};

/// What a scheduler stands on.
pub(crate) struct SchedulerTools {
    pub(crate) node: NodeContext,
    pub(crate) store: Store,
    pub(crate) clock: DatabaseClock,
    pub(crate) leader: LeaderHandle,
    pub(crate) worker: Mailbox<WorkerActor>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) busy: Arc<AtomicUsize>,
    pub(crate) shared: Arc<Shared>,
    /// What this node stands for: job and fingerprint.
    pub(crate) definitions: Arc<ArcSwap<BTreeMap<String, String>>>,
}

impl SchedulerTools {
    fn config(&self) -> &JobsConfig {
        &self.node.config.jobs
    }
}

/// What the scheduler publishes for health, administration and system jobs.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) surroundings: ArcSwap<Surroundings>,
    /// When a round last came to its end, ns since boot; 0 for never.
    pub(crate) last_round: AtomicU64,
    /// The handle, for jobs of Understudy itself, which are registered before there is one.
    pub(crate) jobs: OnceLock<WeakJobs>,
}

/// What a node knows of its surroundings, as of its last sign of life.
#[derive(Debug, Default, Clone)]
pub(crate) struct Surroundings {
    /// The nodes that live.
    pub(crate) nodes: Vec<SchedulerNode>,
    /// Whether this node is in maintenance.
    pub(crate) maintenance: bool,
    /// Why signs of life fail, and since when by the clock since boot; none when they do not.
    pub(crate) trouble: Option<(understudy_runtime::clock::BootInstant, String)>,
    /// Since when the database answers without a break; none while it does not.
    pub(crate) reached_since: Option<understudy_runtime::clock::BootInstant>,
    /// When it last answered.
    pub(crate) last_good: Option<understudy_runtime::clock::BootInstant>,
    /// The database's clock minus this node's wall clock, ms.
    pub(crate) offset_ms: i64,
    /// How many terms began lately.
    pub(crate) terms: i64,
    /// The jobs that are due soon and that no living node can start, with what is missing. Only the leader looks.
    pub(crate) unmet_jobs: BTreeMap<String, String>,
}

impl Surroundings {
    /// Gives those out of `wanted` that no living node meets.
    pub(crate) fn unmet(&self, wanted: impl Iterator<Item = Need>) -> BTreeSet<Need> {
        let all: BTreeSet<Need> = wanted.collect();
        let unmet = |need: &Need| !self.nodes.iter().any(|node| node.meets(need));
        all.into_iter().filter(unmet).collect()
    }
}

/// The scheduler's actor: a thin shell around rounds and signs of life.
pub(crate) struct SchedulerActor {
    core: Rc<round::Core>,
    /// A round is under way.
    busy: bool,
    /// Something changed meanwhile.
    again: bool,
    beating: bool,
    /// An operator has set something meanwhile.
    beat_again: bool,
    timer: Option<SpawnHandle>,
    stopping: bool,
    said_farewell: bool,
    probe: Probe,
    _alive: Alive,
}

/// Something has changed: look at once.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Look;

/// What operators have set may have changed: look at that too.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct LookAround;

/// This node's part in leading has changed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct LeaderChanged {
    pub(crate) state: LeaderState,
    /// The term that was this node's before, if it was.
    pub(crate) ended: Option<u64>,
}

/// Claims and takes nothing any more; answers when nothing of it is under way.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Close;

impl SchedulerActor {
    pub(crate) fn new(tools: SchedulerTools, probe: Probe) -> Self {
        Self {
            _alive: probe.born(),
            probe,
            core: Rc::new(round::Core::new(tools)),
            busy: false,
            again: false,
            beating: false,
            beat_again: false,
            timer: None,
            stopping: false,
            said_farewell: false,
        }
    }

    fn round(&mut self, ctx: &mut Context<Self>) {
        if self.stopping {
            return;
        }
        if self.busy {
            self.again = true;
            return;
        }
        self.busy = true;
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let core = Rc::clone(&self.core);
        let handling = self.probe.begin("round");
        let round = async move {
            let pause = core.round().await;
            drop(handling);
            pause
        };
        ctx.spawn(round.into_actor(self).map(|pause, scheduler, ctx| scheduler.rest(pause, ctx)));
    }

    fn rest(&mut self, pause: Duration, ctx: &mut Context<Self>) {
        self.busy = false;
        if std::mem::take(&mut self.again) {
            return self.round(ctx);
        }
        self.timer = Some(ctx.run_later(pause, |scheduler, ctx| {
            scheduler.timer = None;
            scheduler.round(ctx);
        }));
    }

    fn beat(&mut self, ctx: &mut Context<Self>) {
        // A node that leaves must not come back with a sign of life.
        if self.core.is_closed() && std::mem::replace(&mut self.said_farewell, true) {
            return;
        }
        if std::mem::replace(&mut self.beating, true) {
            return;
        }
        let core = Rc::clone(&self.core);
        let handling = self.probe.begin("beat");
        let beat = async move {
            let report = beat::beat(&core).await;
            drop(handling);
            report
        };
        ctx.spawn(beat.into_actor(self).map(|report: BeatReport, scheduler, ctx| {
            scheduler.beating = false;
            if report.look {
                scheduler.round(ctx);
            }
            if std::mem::take(&mut scheduler.beat_again) {
                scheduler.beat(ctx);
            }
        }));
    }
}

impl Actor for SchedulerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(256);
        ctx.run_interval(self.core.tools.config().alive, |scheduler, ctx| scheduler.beat(ctx));
        self.beat(ctx);
        self.round(ctx);
    }
}

impl Handler<Look> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, _: Look, ctx: &mut Self::Context) {
        let _handling = self.probe.take("look");
        self.round(ctx);
    }
}

impl Handler<LookAround> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, _: LookAround, ctx: &mut Self::Context) {
        let _handling = self.probe.take("look_around");
        // At once: a beat waits for the database.
        self.core.serve_or_rest();
        // One that is under way may have read what was the case before.
        self.beat_again |= self.beating;
        self.beat(ctx);
        self.round(ctx);
    }
}

impl Handler<LeaderChanged> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, LeaderChanged { state, ended }: LeaderChanged, ctx: &mut Self::Context) {
        let _handling = self.probe.take("leader_changed");
        if let Some(epoch) = ended {
            let fenced = state.last_end.is_some_and(EndReason::is_fenced);
            self.core.tools.worker.do_send(EpochEnded { epoch, fenced });
        }
        if state.phase == LeaderPhase::Leading {
            self.round(ctx);
        }
    }
}

impl Handler<Close> for SchedulerActor {
    type Result = actix::ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Close, ctx: &mut Self::Context) -> Self::Result {
        let handling = self.probe.take("close");
        self.stopping = true;
        self.core.close();
        // The last: it says that this node takes no runs any more.
        self.beat(ctx);
        let core = Rc::clone(&self.core);
        let idle = async move {
            core.idle().await;
            drop(handling);
        };
        Box::pin(idle.into_actor(self))
    }
}
