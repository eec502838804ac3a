//! How a node starts the scheduler, drains it and stops it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::{Actor as _, Addr, Arbiter};
use actix_web::web::ServiceConfig;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use sea_orm_migration::MigrationTrait;
use tokio::sync::{Notify, mpsc, oneshot};
use understudy_runtime::config::{JobsEnabled, LeaderFallback};
use understudy_runtime::error::chain;
use understudy_runtime::redis::{Redis, Role};
use understudy_runtime::service::{Health, NodeContext, Service, ServiceError};

use crate::actor::{Close, LeaderChanged, Look, LookAround, SchedulerActor, SchedulerTools, Shared};
use crate::clock::DatabaseClock;
use crate::hooks::Hooks;
use crate::job::{Job, Registry};
use crate::jobs::{CancelHere, Jobs, LookAgain};
use crate::leader::{
    DatabaseLease, FallbackLease, LeaderHandle, LeaderLease, LeaderPhase, LeaderSpec, RedisLease, SingleLease,
};
use crate::schedule::ZoneName;
use crate::spec::JobSpec;
use crate::store::{Origin, Store};
use crate::worker::{CancelRun, HandBack, Underway, WorkerActor, WorkerTools, write_lines};

/// How many lines of runs may wait to be written.
const LINES: usize = 10_000;
/// How long runs get to end after they were told to, beyond the grace.
const HAND_BACK: Duration = Duration::from_millis(3_500);

/// The scheduler of a node.
#[derive(Default)]
pub struct SchedulerService {
    registry: Registry,
    hooks: Hooks,
    started: OnceLock<Started>,
}

struct Started {
    jobs: Jobs,
    scheduler: Addr<SchedulerActor>,
    worker: Addr<WorkerActor>,
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    definitions: Arc<ArcSwap<BTreeMap<String, String>>>,
    hooks: Hooks,
    node: NodeContext,
    grace: Duration,
    _threads: JobThreads,
    _arbiter: Arbiter,
}

/// The threads of handlers; one that blocks must not keep the node from stopping.
struct JobThreads(Option<tokio::runtime::Runtime>);

impl Drop for JobThreads {
    fn drop(&mut self) {
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

impl SchedulerService {
    /// Makes the service; nothing happens before the node starts it. Add it after the services whose duties it is to
    /// carry out.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a job of the program.
    #[must_use]
    pub fn job(mut self, job: Job) -> Self {
        self.registry.add(job);
        self
    }

    /// Changes the handlers and jobs of the program.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Changes what is done when nodes come and go.
    pub fn hooks(&mut self) -> &mut Hooks {
        &mut self.hooks
    }

    /// Gives the handle, once the service was started.
    #[must_use]
    pub fn jobs(&self) -> Option<Jobs> {
        self.started.get().map(|started| started.jobs.clone())
    }
}

#[async_trait(?Send)]
impl Service for SchedulerService {
    fn name(&self) -> &'static str {
        "scheduler"
    }

    fn migrations(&self) -> Vec<Box<dyn MigrationTrait>> {
        crate::store::migrations()
    }

    async fn start(&mut self, node: &NodeContext) -> Result<(), ServiceError> {
        if let Some(problem) = self.registry.problems().first() {
            return Err(ServiceError::Failed { message: problem.clone(), source: None });
        }
        let mut registry = self.registry.clone();
        let started = Box::pin(begin(node, &mut registry, self.hooks.clone())).await?;
        crate::hooks::on_start(&started.hooks, node, &started.jobs).await;
        if self.started.set(started).is_err() {
            let message = "the scheduler was started twice".to_owned();
            return Err(ServiceError::Failed { message, source: None });
        }
        Ok(())
    }

    fn health(&self) -> Health {
        let Some(started) = self.started.get() else { return Health::Ready };
        let surroundings = started.shared.surroundings.load();
        if let Some((_, why)) = &surroundings.trouble {
            return Health::Degraded(format!("jobs do not start: {why}"));
        }
        if let Some(trouble) = started.jobs.leader().trouble() {
            return Health::Degraded(format!("no leader can be elected: {}", chain(&*trouble)));
        }
        let offset_ms = surroundings.offset_ms;
        if offset_ms.abs() > 1_000 {
            return Health::Degraded(format!(
                "the clock of this node is {offset_ms} ms behind that of the database"
            ));
        }
        Health::Ready
    }

    fn web(&self, app: &mut ServiceConfig) {
        if let Some(started) = self.started.get() {
            app.app_data(started.jobs.clone());
        }
    }

    fn admin(&self, app: &mut ServiceConfig) {
        if let Some(started) = self.started.get() {
            crate::admin::configure(app, &started.jobs, &started.node);
        }
    }

    fn stop_limit(&self) -> Duration {
        let grace = self.started.get().map_or(Duration::ZERO, |started| started.grace);
        grace + HAND_BACK + Duration::from_secs(2)
    }

    /// Another node leads from here on; what runs goes on.
    async fn drain(&self) {
        let Some(started) = self.started.get() else { return };
        // At once and not one after the other: an open claim keeps a new leader waiting in the database, nowhere else.
        let (_, ()) = tokio::join!(started.scheduler.send(Close), started.jobs.leader().resign());
    }

    /// Waits for what runs, as long as it may take, and hands the rest back.
    async fn stop(&self) {
        let Some(started) = self.started.get() else { return };
        crate::hooks::on_stop(&started.hooks, &started.node, &started.jobs).await;
        wait_for_runs(started, started.grace).await;
        let left = started.worker.send(HandBack).await.unwrap_or(0);
        if left > 0 {
            wait_for_runs(started, HAND_BACK).await;
        }
        let node = started.node.node_id.to_string();
        if let Err(error) = started.jobs.store().forget_node(&node).await {
            tracing::debug!(error = chain(&error), "the scheduler's entry of this node runs out by itself");
        }
    }
}

impl SchedulerService {
    /// Brings the definitions of a file in force, in place of those it brought before.
    ///
    /// # Errors
    /// When a definition is wrong, or the database is away.
    pub(crate) async fn bring_file(
        jobs: &FileJobs,
        specs: &[JobSpec],
    ) -> Result<crate::store::SyncReport, crate::store::DefinitionError> {
        let living = living(&jobs.shared, &jobs.node);
        let report = jobs.jobs.store().sync(specs, Origin::File, &living).await?;
        jobs.definitions.rcu(|known| {
            let mut known = BTreeMap::clone(known);
            known.retain(|name, _| jobs.of_code.contains(name));
            known.extend(specs.iter().map(|spec| (spec.name.to_string(), spec.fingerprint())));
            known
        });
        jobs.jobs.look_again();
        Ok(report)
    }

    /// Gives what brings the definitions of a file in force, once the service was started.
    #[must_use]
    pub fn file_jobs(&self) -> Option<FileJobs> {
        let started = self.started.get()?;
        Some(FileJobs {
            jobs: started.jobs.clone(),
            node: started.node.clone(),
            shared: Arc::clone(&started.shared),
            definitions: Arc::clone(&started.definitions),
            of_code: started.registry.specs().iter().map(|spec| spec.name.to_string()).collect(),
        })
    }
}

/// Brings definitions of a file in force; a cheap clone.
#[derive(Debug, Clone)]
pub struct FileJobs {
    jobs: Jobs,
    node: NodeContext,
    shared: Arc<Shared>,
    definitions: Arc<ArcSwap<BTreeMap<String, String>>>,
    of_code: Vec<String>,
}

impl FileJobs {
    /// Brings the definitions of a file in force: new and changed ones are taken over, those that no file names any more
    /// are removed.
    ///
    /// # Errors
    /// When a definition is wrong, or the database is away.
    pub async fn bring(
        &self,
        specs: &[JobSpec],
    ) -> Result<crate::store::SyncReport, crate::store::DefinitionError> {
        SchedulerService::bring_file(self, specs).await
    }

    /// Returns the handle on jobs.
    #[must_use]
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }
}

async fn wait_for_runs(started: &Started, limit: Duration) {
    let done = async {
        // The worker ends runs one by one and tells nobody in particular; its own word is what counts.
        while started.worker.send(Underway).await.unwrap_or(0) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(limit, done).await.ok();
}

async fn begin(
    node: &NodeContext,
    registry: &mut Registry,
    hooks: Hooks,
) -> Result<Started, ServiceError> {
    let zone: ZoneName = node.config.jobs.time_zone.parse().map_err(|_| {
        ServiceError::Configuration(
            "UNDERSTUDY_JOBS_TIMEZONE must be the IANA name of a time zone, such as Europe/Oslo".to_owned(),
        )
    })?;
    let store = Store::new(node.database.clone(), zone);
    let clock = DatabaseClock::new(Arc::clone(&node.clock));
    let shared = Arc::new(Shared::default());
    crate::system::register(registry, node, &store, &shared);
    check(registry, &store)?;
    let asked = clock.boot();
    let now_ms = store.now_ms().await.map_err(|error| away(&error))?;
    clock.heard(asked, now_ms);
    let leader = start_leader(node, &store).await?;
    let jobs = Jobs::new(store.clone(), leader.clone(), node.bus.clone(), node.membership.clone());
    let registry = Arc::new(registry.clone());
    let definitions = bring_definitions(node, &store, &registry).await?;
    let threads = job_threads(node)?;
    let (lines, to_write) = mpsc::channel(LINES);
    tokio::spawn(write_lines(store.clone(), to_write));
    let (busy, room) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let worker_tools = WorkerTools {
        node: node.clone(),
        store: store.clone(),
        clock: clock.clone(),
        registry: Arc::clone(&registry),
        threads: threads.0.as_ref().map_or_else(tokio::runtime::Handle::current, |it| it.handle().clone()),
        watch: tokio::runtime::Handle::current(),
        lines,
        busy: Arc::clone(&busy),
        alive: node.config.jobs.alive,
        room: Arc::clone(&room),
    };
    let arbiter = Arbiter::new();
    let (answer, started) = oneshot::channel();
    let (for_leader, for_node) = (leader.clone(), node.clone());
    let (for_registry, for_shared) = (Arc::clone(&registry), Arc::clone(&shared));
    let for_definitions = Arc::clone(&definitions);
    arbiter.spawn_fn(move || {
        let worker = WorkerActor::new(worker_tools).start();
        let scheduler = SchedulerActor::new(SchedulerTools {
            node: for_node,
            store,
            clock,
            leader: for_leader,
            worker: worker.clone(),
            registry: for_registry,
            busy,
            shared: for_shared,
            definitions: for_definitions,
        })
        .start();
        // Whoever starts it waits for this.
        answer.send((worker, scheduler)).ok();
    });
    let (worker, scheduler) = started.await.map_err(|_| ServiceError::Failed {
        message: "the scheduler's thread ended".to_owned(),
        source: None,
    })?;
    listen(node, &worker, &scheduler);
    crate::admin::listen(node, &jobs);
    follow(&leader, &hooks, (node, &jobs), (scheduler.clone(), room));
    Ok(Started {
        jobs,
        scheduler,
        worker,
        shared,
        registry,
        definitions,
        hooks,
        node: node.clone(),
        grace: node.config.jobs.shutdown_grace,
        _threads: threads,
        _arbiter: arbiter,
    })
}

fn away(error: &understudy_runtime::database::DatabaseError) -> ServiceError {
    if error.is_retryable() {
        return ServiceError::Retryable(chain(error).to_string());
    }
    ServiceError::Failed { message: chain(error).to_string(), source: None }
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
        let report = store.sync(&specs, origin, &living).await.map_err(|error| match error {
            crate::store::DefinitionError::Database(error) => away(&error),
            other => ServiceError::Failed { message: other.to_string(), source: None },
        })?;
        for name in &report.older {
            tracing::warn!(job.name = name.as_str(), "another node has a newer definition of a job: it stays in force");
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
    let spec = LeaderSpec {
        node_id: node.node_id.clone(),
        clock: Arc::clone(&node.clock),
        ttl: config.ttl,
        renew: config.renew,
        margin: config.margin,
        eligible: config.eligible,
        priority: config.priority,
    };
    let inauguration: Arc<dyn crate::leader::Inauguration> = Arc::new(store.clone());
    let redis = config.redis.clone().filter(|_| node.config.cluster.enabled);
    let Some(redis) = redis else {
        let lease: Arc<dyn LeaderLease> = Arc::new(SingleLease::new());
        let started = LeaderHandle::start(spec, node.bus.clone(), inauguration, move || async move { Ok(lease) });
        return started.await.map_err(|never: std::convert::Infallible| match never {});
    };
    let redis = spec.redis(&redis);
    let (keys, node_id, min_replicas) = (Arc::clone(&node.keys), node.node_id.clone(), config.min_replicas);
    let fallback = (config.fallback == LeaderFallback::Database)
        .then(|| DatabaseLease::new(node.database.clone(), spec.command_timeout()));
    let (clock, ttl) = (Arc::clone(&node.clock), spec.ttl);
    let connect = move || async move {
        let redis = Redis::connect(&redis, Role::Leader, &node_id).await?;
        let redis = RedisLease::new(redis, &keys, min_replicas);
        let lease: Arc<dyn LeaderLease> = match fallback {
            Some(database) => Arc::new(FallbackLease::new(Arc::new(redis), Arc::new(database), clock, ttl)),
            None => Arc::new(redis),
        };
        Ok(lease)
    };
    LeaderHandle::start(spec, node.bus.clone(), inauguration, connect).await.map_err(
        |error: understudy_runtime::redis::ConnectError| ServiceError::Configuration(chain(&error).to_string()),
    )
}

/// Other nodes' words.
fn listen(node: &NodeContext, worker: &Addr<WorkerActor>, scheduler: &Addr<SchedulerActor>) {
    let (worker, scheduler) = (worker.downgrade(), scheduler.downgrade());
    node.bus.handle::<LookAgain, _, _>(move |_from, LookAgain {}| {
        if let Some(scheduler) = scheduler.upgrade() {
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

/// Tells the scheduler when this node begins or ceases to lead, and when there is room for runs again.
fn follow(
    leader: &LeaderHandle,
    hooks: &Hooks,
    (node, jobs): (&NodeContext, &Jobs),
    (scheduler, room): (Addr<SchedulerActor>, Arc<Notify>),
) {
    let mut states = leader.subscribe();
    let (hooks, node, jobs) = (hooks.clone(), node.clone(), jobs.clone());
    let watched = scheduler.downgrade();
    tokio::spawn(async move {
        let mut led = None;
        loop {
            let state = states.borrow_and_update().clone();
            let leads = (state.phase == LeaderPhase::Leading).then_some(state.epoch).flatten();
            let Some(scheduler) = watched.upgrade() else { return };
            let ended = led.filter(|epoch| leads != Some(*epoch));
            scheduler.do_send(LeaderChanged { state: state.clone(), ended });
            drop(scheduler);
            if let Some(epoch) = ended {
                crate::hooks::on_lose_leader(&hooks, &node, &jobs, epoch).await;
            }
            if let Some(epoch) = leads.filter(|epoch| led != Some(*epoch)) {
                crate::hooks::on_become_leader(&hooks, &node, &jobs, epoch).await;
            }
            led = leads;
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

fn living(shared: &Shared, node: &NodeContext) -> Vec<(String, String)> {
    let own = node.node_id.to_string();
    let surroundings = shared.surroundings.load();
    let others = surroundings.nodes.iter().filter(|one| one.node != own);
    others.flat_map(|one| one.definitions.clone()).collect()
}

impl fmt::Debug for SchedulerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerService").field("registry", &self.registry).finish_non_exhaustive()
    }
}
