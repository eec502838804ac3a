//! Starting the scheduler of a node: the leader, the definitions it brings along, its threads and actors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use actix::{Actor as _, Arbiter};
use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{Instrument as _, info_span};
use understudy_runtime::actors::Mailbox;
use understudy_runtime::config::{JobsEnabled, LeaderFallback};
use understudy_runtime::error::chain;
use understudy_runtime::events::EventKind;
use understudy_runtime::redis::{Redis, Role};
use understudy_runtime::service::{NodeContext, ServiceError};

use super::Started;
use super::findings::Leaderless;
use crate::actor::{
    LeaderChanged, Look, LookAround, SCHEDULER, SchedulerActor, SchedulerTools, Shared,
};
use crate::clock::DatabaseClock;
use crate::hooks::Hooks;
use crate::job::Registry;
use crate::jobs::{CancelHere, Jobs, LookAgain, LookAroundHere};
use crate::leader::{
    DatabaseLease, FallbackLease, LEADER, LeaderHandle, LeaderLease, LeaderPhase, LeaderSpec,
    RedisLease, SingleLease,
};
use crate::schedule::ZoneName;
use crate::spec::JobSpec;
use crate::store::{DefinitionError, Origin, Store};
use crate::worker::{CancelRun, WORKER, WorkerActor, WorkerTools, write_lines};

/// How many connections to the database the scheduler has for itself.
const CONNECTIONS: u32 = 8;
/// How many lines of runs may wait to be written.
const LINES: usize = 10_000;

/// The threads of handlers; one that blocks must not keep the node from stopping.
pub(super) struct JobThreads(Option<tokio::runtime::Runtime>);

impl Drop for JobThreads {
    fn drop(&mut self) {
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

pub(super) async fn begin(
    node: &NodeContext,
    registry: &mut Registry,
    hooks: Hooks,
) -> Result<Started, ServiceError> {
    let zone: ZoneName = node.config.jobs.time_zone.parse().map_err(|_| {
        ServiceError::Configuration(
            "UNDERSTUDY_JOBS_TIMEZONE must be the IANA name of a time zone, such as Europe/Oslo"
                .to_owned(),
        )
    })?;
    // Handlers that use up the application's connections must not keep runs from saying that they live.
    understudy_runtime::telemetry::describe(crate::metrics::catalogue());
    let database = node.database.clone().with_own_connections(CONNECTIONS);
    let store = Store::new(database, zone);
    let clock = DatabaseClock::new(Arc::clone(&node.clock));
    let shared = Arc::new(Shared::default());
    crate::system::register(registry, node, &store, &shared);
    check(registry, &store)?;
    let asked = clock.boot();
    let now_ms = store.now_ms().await.map_err(|error| away(&error))?;
    clock.heard(asked, now_ms);
    let leader = start_leader(node, &store).await?;
    let jobs = Jobs::new(store.clone(), leader.clone(), node.bus.clone(), node.membership.clone());
    // The first word counts, and there is no other.
    shared.jobs.set(jobs.downgrade()).ok();
    let registry = Arc::new(registry.clone());
    let definitions = bring_definitions(node, &store, &registry).await?;
    let threads = job_threads(node)?;
    let parts = Parts { store, clock, leader, registry, shared, definitions };
    let (arbiter, actors, room) = start_actors(node, &parts, &threads).await?;
    let (worker, scheduler) = actors;
    listen(node, &worker, &scheduler);
    crate::admin::listen(node, &jobs);
    follow(&parts.leader, &hooks, (node, &jobs), (&scheduler, room));
    follow_service(node, &scheduler);
    Ok(Started {
        jobs,
        scheduler,
        worker,
        shared: parts.shared,
        registry: parts.registry,
        definitions: parts.definitions,
        hooks,
        node: node.clone(),
        leaderless: Leaderless::default(),
        grace: node.config.jobs.shutdown_grace,
        _threads: threads,
        _arbiter: arbiter,
    })
}

/// What the actors share.
#[derive(Clone)]
struct Parts {
    store: Store,
    clock: DatabaseClock,
    leader: LeaderHandle,
    registry: Arc<Registry>,
    shared: Arc<Shared>,
    definitions: Arc<ArcSwap<BTreeMap<String, String>>>,
}

type Actors = (Mailbox<WorkerActor>, Mailbox<SchedulerActor>);

/// Starts worker and scheduler on a thread of their own.
async fn start_actors(
    node: &NodeContext,
    parts: &Parts,
    threads: &JobThreads,
) -> Result<(Arbiter, Actors, Arc<Notify>), ServiceError> {
    let (lines, to_write) = mpsc::channel(LINES);
    tokio::spawn(write_lines(parts.store.clone(), to_write));
    let (busy, room) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let here = tokio::runtime::Handle::current();
    let worker_tools = WorkerTools {
        node: node.clone(),
        store: parts.store.clone(),
        clock: parts.clock.clone(),
        registry: Arc::clone(&parts.registry),
        board: parts.leader.board().clone(),
        threads: threads
            .0
            .as_ref()
            .map_or_else(|| here.clone(), |threads| threads.handle().clone()),
        watch: here,
        lines,
        busy: Arc::clone(&busy),
        alive: node.config.jobs.alive,
        room: Arc::clone(&room),
    };
    let arbiter = Arbiter::new();
    let (answer, started) = oneshot::channel();
    let (node, parts) = (node.clone(), parts.clone());
    arbiter.spawn_fn(move || {
        let probe = node.actors.probe(&WORKER);
        let worker = Mailbox::new(WorkerActor::new(worker_tools, probe.clone()).start(), probe);
        let probe = node.actors.probe(&SCHEDULER);
        let Parts { store, clock, leader, registry, shared, definitions } = parts;
        let tools = SchedulerTools {
            node,
            store,
            clock,
            leader,
            worker: worker.clone(),
            registry,
            busy,
            shared,
            definitions,
        };
        // Whoever starts it waits for this.
        let scheduler = SchedulerActor::new(tools, probe.clone()).start();
        answer.send((worker, Mailbox::new(scheduler, probe))).ok();
    });
    let actors = started.await.map_err(|_| ServiceError::Failed {
        message: "the scheduler's thread ended".to_owned(),
        source: None,
    })?;
    Ok((arbiter, actors, room))
}

fn away(error: &understudy_runtime::database::DatabaseError) -> ServiceError {
    if error.is_retryable() {
        return ServiceError::Retryable(chain(error));
    }
    ServiceError::Failed { message: chain(error), source: None }
}

/// All definitions of the program are checked before any is stored.
fn check(registry: &Registry, store: &Store) -> Result<(), ServiceError> {
    for spec in registry.specs() {
        if let Err(problems) = spec.check(store.zone()) {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let message = format!("the job `{}` is wrong: {}", spec.name, problems.join("; "));
            return Err(ServiceError::Failed { message, source: None });
        }
    }
    Ok(())
}

async fn bring_definitions(
    node: &NodeContext,
    store: &Store,
    registry: &Registry,
) -> Result<Arc<ArcSwap<BTreeMap<String, String>>>, ServiceError> {
    let silent_ms = crate::plan::millis(node.config.jobs.alive) * 3;
    let nodes = store.nodes(silent_ms).await.map_err(|error| away(&error))?;
    let own = node.node_id.to_string();
    let living: Vec<(String, String)> =
        nodes.into_iter().filter(|one| one.node != own).flat_map(|one| one.definitions).collect();
    let (system, code): (Vec<JobSpec>, Vec<JobSpec>) =
        registry.specs().iter().cloned().partition(|spec| spec.system);
    for (specs, origin) in [(system, Origin::System), (code, Origin::Code)] {
        let report = store.sync(&specs, origin, &living).await.map_err(|error| {
            if let DefinitionError::Database(error) = &error {
                return away(error);
            }
            ServiceError::Failed { message: error.to_string(), source: None }
        })?;
        for name in &report.older {
            tracing::warn!(
                job.name = name.as_str(),
                "another node has a newer definition of a job: it stays in force"
            );
        }
    }
    let list = match &node.config.jobs.enabled {
        JobsEnabled::All => "all".to_owned(),
        JobsEnabled::None => "none".to_owned(),
        JobsEnabled::List(names) => names.iter().cloned().collect::<Vec<_>>().join(","),
    };
    store.begin_jobs_enabled(&list, &own).await.map_err(|error| away(&error))?;
    let mine = registry.specs().iter().map(|spec| (spec.name.to_string(), spec.fingerprint()));
    Ok(Arc::new(ArcSwap::from_pointee(mine.collect())))
}

fn job_threads(node: &NodeContext) -> Result<JobThreads, ServiceError> {
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(node.config.jobs.threads)
        .thread_name("job")
        .enable_all()
        .build()
        .map_err(|error| ServiceError::Failed {
            message: "threads for jobs cannot be started".to_owned(),
            source: Some(Box::new(error)),
        })?;
    Ok(JobThreads(Some(threads)))
}

async fn start_leader(node: &NodeContext, store: &Store) -> Result<LeaderHandle, ServiceError> {
    let config = &node.config.leader;
    let name = node.node_id.name().as_str();
    let in_maintenance = store.in_maintenance().await.map_err(|error| away(&error))?;
    let maintenance = in_maintenance.iter().any(|(one, _)| one == name);
    let switches = store.switches().await.map_err(|error| away(&error))?;
    let spec = LeaderSpec {
        node_id: node.node_id.clone(),
        clock: Arc::clone(&node.clock),
        ttl: config.ttl,
        renew: config.renew,
        margin: config.margin,
        eligible: config.eligible,
        priority: config.priority,
        maintenance,
        frozen: switches.is_frozen(),
        probe: node.actors.probe(&LEADER),
    };
    let inauguration: Arc<dyn crate::leader::Inauguration> = Arc::new(store.clone());
    let redis = config.redis.clone().filter(|_| node.config.cluster.enabled);
    let Some(redis) = redis else {
        let lease: Arc<dyn LeaderLease> = Arc::new(SingleLease::new());
        let started = LeaderHandle::start(
            spec,
            node.bus.clone(),
            inauguration,
            move || async move { Ok(lease) },
        );
        return started.await.map_err(|never: std::convert::Infallible| match never {});
    };
    let redis = spec.redis(&redis);
    let (keys, node_id, min_replicas) =
        (Arc::clone(&node.keys), node.node_id.clone(), config.min_replicas);
    let fallback = (config.fallback == LeaderFallback::Database)
        .then(|| DatabaseLease::new(node.database.clone(), spec.command_timeout()));
    let (clock, ttl) = (Arc::clone(&node.clock), spec.ttl);
    let connect = move || async move {
        let redis = Redis::connect(&redis, Role::Leader, &node_id).await?;
        let redis = RedisLease::new(redis, &keys, min_replicas, ttl);
        let lease: Arc<dyn LeaderLease> = match fallback {
            Some(database) => {
                Arc::new(FallbackLease::new(Arc::new(redis), Arc::new(database), clock, ttl))
            }
            None => Arc::new(redis),
        };
        Ok(lease)
    };
    LeaderHandle::start(spec, node.bus.clone(), inauguration, connect).await.map_err(
        |error: understudy_runtime::redis::ConnectError| ServiceError::Configuration(chain(&error)),
    )
}

/// Other nodes' words.
fn listen(node: &NodeContext, worker: &Mailbox<WorkerActor>, scheduler: &Mailbox<SchedulerActor>) {
    let (worker, scheduler) = (worker.downgrade(), scheduler.downgrade());
    let around = scheduler.clone();
    node.bus.handle::<LookAgain, _, _>(move |_from, LookAgain {}| {
        if let Some(scheduler) = scheduler.upgrade() {
            scheduler.do_send(Look);
        }
        std::future::ready(())
    });
    node.bus.handle::<LookAroundHere, _, _>(move |_from, LookAroundHere {}| {
        if let Some(scheduler) = around.upgrade() {
            scheduler.do_send(LookAround);
        }
        std::future::ready(())
    });
    node.bus.handle::<CancelHere, _, _>(move |_from, CancelHere { run, by }| {
        let worker = worker.upgrade();
        async move {
            let Some(worker) = worker else { return false };
            worker.send(CancelRun { run: crate::run::RunId(run), by }).await.unwrap_or(false)
        }
    });
}

/// Has the scheduler see at once that an operator has taken this node out of service, or back.
fn follow_service(node: &NodeContext, scheduler: &Mailbox<SchedulerActor>) {
    let mut drained = node.lifecycle.subscribe_drained();
    let scheduler = scheduler.downgrade();
    let following = async move {
        while drained.changed().await.is_ok() {
            let Some(scheduler) = scheduler.upgrade() else { return };
            scheduler.do_send(LookAround);
        }
    };
    let span = info_span!("scheduler.follow_service", node.id = %node.node_id);
    tokio::spawn(following.instrument(span));
}

/// Runs the hooks of the lead, one change after the other. There are few changes, so the queue needs no bound.
fn run_hooks(
    hooks: Hooks,
    node: NodeContext,
    jobs: Jobs,
) -> mpsc::UnboundedSender<(Option<u64>, Option<u64>)> {
    let (changes, mut queue) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some((ended, begun)) = queue.recv().await {
            if let Some(epoch) = ended {
                crate::hooks::on_lose_leader(&hooks, &node, &jobs, epoch).await;
            }
            if let Some(epoch) = begun {
                crate::hooks::on_become_leader(&hooks, &node, &jobs, epoch).await;
            }
        }
    });
    changes
}

/// Tells the scheduler when this node begins or ceases to lead, and when there is room for runs again.
fn follow(
    leader: &LeaderHandle,
    hooks: &Hooks,
    (node, jobs): (&NodeContext, &Jobs),
    (scheduler, room): (&Mailbox<SchedulerActor>, Arc<Notify>),
) {
    let mut states = leader.subscribe();
    let lead_changes = run_hooks(hooks.clone(), node.clone(), jobs.clone());
    let (watched, events) = (scheduler.downgrade(), node.events.clone());
    tokio::spawn(async move {
        let mut led = None;
        loop {
            let state = states.borrow_and_update().clone();
            let leads = (state.phase == LeaderPhase::Leading).then_some(state.epoch).flatten();
            let Some(scheduler) = watched.upgrade() else { return };
            let ended = led.filter(|epoch| leads != Some(*epoch));
            scheduler.do_send(LeaderChanged { state: state.clone(), ended });
            drop(scheduler);
            let begun = leads.filter(|epoch| led != Some(*epoch));
            if ended.is_some() || begun.is_some() {
                // Never waited for: what a lost lease means must not wait for what an application does about it.
                lead_changes.send((ended, begun)).ok();
            }
            led = leads;
            events.send(EventKind::Leader);
            if states.changed().await.is_err() {
                return;
            }
        }
    });
    let scheduler = scheduler.downgrade();
    tokio::spawn(async move {
        loop {
            room.notified().await;
            let Some(scheduler) = scheduler.upgrade() else { return };
            scheduler.do_send(Look);
        }
    });
}
