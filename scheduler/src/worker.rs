//! The worker of a node: carries out the runs that this node has started, and says that they live.
//!
//! Handlers run on threads of their own, so that one that blocks costs no lease and no request; whatever watches over
//! them runs elsewhere. A run ends here in one of these ways: it is finished in the database; it is found to be
//! another node's; or the process dies, and the database gives it to another node when its signs of life stop.

mod attempt;
mod messages;
mod writing;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::{Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, WrapFuture as _};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};
use understudy_runtime::actors::{Alive, Mailbox, Probe};
use understudy_runtime::error::chain;
use understudy_runtime::service::{NodeContext, Work};

use crate::clock::DatabaseClock;
use crate::context::{Cancel, CancelReason, ToWrite};
use crate::job::Registry;
use crate::leader::LeaderBoard;
use crate::progress::Progress;
use crate::run::RunId;
use crate::spec::{OnLeaseLoss, OnOrphan};
use crate::store::{Ending, Heartbeat, Store, TakenRun};

pub(crate) use messages::{
    Begin, CancelRun, Ended, EpochEnded, HandBack, Load, RunsUnderWay, Underway, WORKER, WhatRuns,
};

/// So many attempts are remembered.
const REMEMBERED: usize = 20_000;
/// How often progress is written.
const FLUSH: Duration = Duration::from_secs(1);

/// What a worker stands on.
#[derive(Clone)]
pub(crate) struct WorkerTools {
    pub(crate) node: NodeContext,
    pub(crate) store: Store,
    pub(crate) clock: DatabaseClock,
    pub(crate) registry: Arc<Registry>,
    /// Whether this node leads.
    pub(crate) board: LeaderBoard,
    /// Where handlers run.
    pub(crate) threads: Handle,
    /// Where they are watched.
    pub(crate) watch: Handle,
    pub(crate) lines: mpsc::Sender<ToWrite>,
    /// How many ordinary runs are under way.
    pub(crate) busy: Arc<AtomicUsize>,
    /// How often runs show a sign of life.
    pub(crate) alive: Duration,
    /// Told when there is room again.
    pub(crate) room: Arc<tokio::sync::Notify>,
}

/// The runs of this node.
pub(crate) struct WorkerActor {
    tools: WorkerTools,
    runs: HashMap<(RunId, u32), Running>,
    /// Attempts that were begun here, the latest of them: none of those is begun again.
    begun: Begun,
    beating: bool,
    /// Nothing begins here any more.
    closing: bool,
    probe: Probe,
    _alive: Alive,
}

/// The latest attempts that were begun, up to a number.
#[derive(Default)]
struct Begun {
    known: HashSet<(RunId, u32)>,
    order: VecDeque<(RunId, u32)>,
}

impl Begun {
    fn note(&mut self, attempt: (RunId, u32)) {
        if self.known.insert(attempt) {
            self.order.push_back(attempt);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

/// A run under way.
struct Running {
    run: TakenRun,
    cancel: Cancel,
    progress: tokio::sync::watch::Receiver<Progress>,
}

impl WorkerActor {
    pub(crate) fn new(tools: WorkerTools, probe: Probe) -> Self {
        Self {
            _alive: probe.born(),
            probe,
            tools,
            runs: HashMap::new(),
            begun: Begun::default(),
            beating: false,
            closing: false,
        }
    }

    fn begin(&mut self, run: TakenRun, ctx: &mut Context<Self>) {
        // By attempt: the next one may come before the end of the last was heard of.
        let which = (run.id, run.attempt);
        if self.runs.contains_key(&which) {
            return;
        }
        self.begun.note(which);
        if !run.definition.spec.system {
            self.tools.busy.fetch_add(1, Ordering::AcqRel);
        }
        let attempt = attempt::Attempt::new(&self.tools, run.clone());
        let (cancel, progress) = (attempt.cancel(), attempt.progress());
        self.runs.insert(which, Running { run, cancel, progress });
        let told = Tell { address: Mailbox::new(ctx.address(), self.probe.clone()), which };
        self.tools.watch.spawn(async move {
            attempt.carry_out().await;
            drop(told);
        });
    }

    fn known(&self) -> Vec<(RunId, u32)> {
        self.runs.keys().copied().collect()
    }

    /// Says that the runs live; hears who of them is cancelled or was given away.
    fn beat(&mut self, ctx: &mut Context<Self>) {
        // One at a time: a database that does not answer must not pile them up.
        if std::mem::replace(&mut self.beating, true) {
            return;
        }
        let (store, node) = (self.tools.store.clone(), self.tools.node.node_id.to_string());
        let known = self.known();
        let asked = known.clone();
        let handling = self.probe.begin("beat");
        let beat = async move {
            let heard = store.heartbeat(&node, &asked).await;
            drop(handling);
            heard
        };
        ctx.spawn(beat.into_actor(self).map(move |heard, worker, ctx| {
            worker.beating = false;
            match heard {
                Ok(heartbeat) => worker.heard(&known, heartbeat, ctx),
                Err(error) => {
                    debug!(error = chain(&error), "the runs could not say that they live")
                }
            }
        }));
    }

    fn heard(&mut self, asked: &[(RunId, u32)], heartbeat: Heartbeat, ctx: &mut Context<Self>) {
        for which in asked {
            let alive = heartbeat.alive.iter().find(|(run, number, _)| (*run, *number) == *which);
            let Some(running) = self.runs.get(which) else { continue };
            match alive {
                // Also the answer for a run that has just ended here: its handler hears of it no more.
                None => running.cancel.cancel(CancelReason::Fenced),
                Some((_, _, Some(by))) => running.cancel.cancel(CancelReason::Asked(by.clone())),
                Some((_, _, None)) => {}
            }
        }
        for run in heartbeat.unknown {
            self.adopt(run, ctx);
        }
    }

    /// A run was started for this node, but the answer that said so was lost: nobody has begun it.
    fn adopt(&mut self, run: TakenRun, ctx: &mut Context<Self>) {
        if self.begun.known.contains(&(run.id, run.attempt)) {
            return;
        }
        // A claim whose answer is on its way looks the same for a moment.
        let age_ms = self.tools.clock.now_ms() - run.started_ms;
        if age_ms < crate::plan::millis(self.tools.alive) {
            return;
        }
        let job = run.definition.spec.name.as_str();
        let term = self.tools.board.leading(self.tools.clock.boot());
        let not_ours = run.by_leader && term.is_none_or(|term| term.epoch != run.epoch);
        if self.closing || not_ours {
            warn!(run.id = %run.id, job.name = job, "a run whose start was not heard of is left to others");
            return self.leave(run);
        }
        warn!(run.id = %run.id, job.name = job, "a run whose start was not heard of begins late");
        self.begin(run, ctx);
    }

    /// Puts a run that never began back into the queue: its next attempt is the same. Should that fail, the next sign of
    /// life finds it again.
    fn leave(&self, run: TakenRun) {
        let (store, node) = (self.tools.store.clone(), self.tools.node.node_id.to_string());
        let unbegun =
            Ending::Again { after_ms: 0, outcome: "handed_back", error: None, uncounted: true };
        self.tools.watch.spawn(async move {
            if let Err(error) = store.finish(&run, &node, unbegun, None).await {
                debug!(error = chain(&error), "a run that never began could not be put back");
            }
        });
    }

    /// Writes how far the runs are, of those that have told something new.
    fn flush(&mut self) {
        let mut changed = Vec::new();
        for running in self.runs.values_mut() {
            if running.progress.has_changed().unwrap_or(false) {
                let text = serde_json::to_string(&*running.progress.borrow_and_update());
                changed.extend(text.ok().map(|text| (running.run.id, running.run.attempt, text)));
            }
        }
        if changed.is_empty() {
            return;
        }
        let store = self.tools.store.clone();
        self.tools.watch.spawn(async move {
            if let Err(error) = store.write_progress(&changed).await {
                debug!(error = chain(&error), "progress could not be written");
            }
        });
    }
}

/// Says that a run has ended, whatever ended it, a panic included.
struct Tell {
    address: Mailbox<WorkerActor>,
    which: (RunId, u32),
}

impl Drop for Tell {
    fn drop(&mut self) {
        self.address.do_send(Ended(self.which));
    }
}

impl Actor for WorkerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1_024);
        ctx.run_interval(self.tools.alive, |worker, ctx| worker.beat(ctx));
        ctx.run_interval(FLUSH, |worker, _ctx| worker.flush());
    }
}

impl Handler<Begin> for WorkerActor {
    type Result = ();

    fn handle(&mut self, Begin(runs): Begin, ctx: &mut Self::Context) {
        let _handling = self.probe.take("begin");
        for run in runs {
            self.begin(run, ctx);
        }
    }
}

impl Handler<Ended> for WorkerActor {
    type Result = ();

    fn handle(&mut self, Ended(which): Ended, _ctx: &mut Self::Context) {
        let _handling = self.probe.take("ended");
        let Some(ended) = self.runs.remove(&which) else { return };
        if !ended.run.definition.spec.system {
            self.tools.busy.fetch_sub(1, Ordering::AcqRel);
        }
        self.tools.room.notify_one();
    }
}

impl Handler<CancelRun> for WorkerActor {
    type Result = bool;

    fn handle(&mut self, CancelRun { run, by }: CancelRun, _ctx: &mut Self::Context) -> bool {
        let _handling = self.probe.take("cancel_run");
        let mut attempts = self.runs.values().filter(|one| one.run.id == run).peekable();
        let found = attempts.peek().is_some();
        for running in attempts {
            running.cancel.cancel(CancelReason::Asked(by.clone()));
        }
        found
    }
}

impl Handler<EpochEnded> for WorkerActor {
    type Result = ();

    /// Runs that belong to the leader end with a term that was taken away. One that was given up in peace leaves them be.
    fn handle(&mut self, EpochEnded { epoch, fenced }: EpochEnded, _ctx: &mut Self::Context) {
        let _handling = self.probe.take("epoch_ended");
        if !fenced {
            return;
        }
        for running in self.runs.values() {
            let goes = running.run.definition.spec.on_lease_loss == OnLeaseLoss::Cancel;
            if running.run.by_leader && running.run.epoch <= epoch && goes {
                running.cancel.cancel(CancelReason::LeaseLost);
            }
        }
    }
}

impl Handler<Underway> for WorkerActor {
    type Result = usize;

    fn handle(&mut self, _: Underway, _ctx: &mut Self::Context) -> usize {
        let _handling = self.probe.take("underway");
        self.runs.len()
    }
}

impl Handler<WhatRuns> for WorkerActor {
    type Result = Load;

    fn handle(&mut self, _: WhatRuns, _ctx: &mut Self::Context) -> Load {
        let _handling = self.probe.take("what_runs");
        let specs = self.runs.values().map(|running| &running.run.definition.spec);
        let of_others: Vec<_> = specs.filter(|spec| !spec.system).collect();
        let unrepeatable = of_others.iter().filter(|spec| spec.on_orphan == OnOrphan::Fail).count();
        Load { runs: of_others.len(), unrepeatable }
    }
}

impl Handler<RunsUnderWay> for WorkerActor {
    type Result = Vec<Work>;

    fn handle(&mut self, _: RunsUnderWay, _ctx: &mut Self::Context) -> Vec<Work> {
        let _handling = self.probe.take("runs_under_way");
        let work = self.runs.values().map(|Running { run, .. }| Work {
            kind: "run".into(),
            id: run.id.to_string(),
            of: run.definition.spec.name.as_str().to_owned(),
            since_ms: run.started_ms,
        });
        work.collect()
    }
}

impl Handler<HandBack> for WorkerActor {
    type Result = usize;

    fn handle(&mut self, _: HandBack, _ctx: &mut Self::Context) -> usize {
        let _handling = self.probe.take("hand_back");
        self.closing = true;
        if !self.runs.is_empty() {
            info!(runs = self.runs.len(), "runs that did not finish in time are handed back");
        }
        for running in self.runs.values() {
            running.cancel.cancel(CancelReason::NodeStops);
        }
        self.runs.len()
    }
}

/// Writes the lines of all runs of a node, until the last of them can write no more.
pub(crate) use writing::write_lines;
