//! How a node starts the scheduler, drains it and stops it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::Arbiter;
use actix_web::web::ServiceConfig;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sea_orm_migration::MigrationTrait;
use understudy_runtime::actors::Mailbox;
use understudy_runtime::admin::Operation;
use understudy_runtime::clock::BootInstant;
use understudy_runtime::error::chain;
use understudy_runtime::finding::Finding;
use understudy_runtime::service::{Health, NodeContext, Service, ServiceError, StopNote, Work};

use crate::actor::{Close, SchedulerActor, Shared};
use crate::admin::AdminJobs;
use crate::hooks::Hooks;
use crate::job::{Job, Registry};
use crate::jobs::Jobs;
use crate::worker::{HandBack, RunsUnderWay, Underway, WorkerActor};

/// After so long without a round the scheduler does not work.
const STALLED: Duration = Duration::from_secs(15);
/// How long runs get to end after they were told to, beyond the grace.
const HAND_BACK: Duration = Duration::from_millis(3_500);

mod files;
mod findings;
mod notes;
mod start;

pub use files::FileJobs;
use findings::Leaderless;
use start::JobThreads;

/// The scheduler of a node.
#[derive(Default)]
pub struct SchedulerService {
    registry: Registry,
    hooks: Hooks,
    started: OnceLock<Started>,
}

struct Started {
    jobs: Jobs,
    scheduler: Mailbox<SchedulerActor>,
    worker: Mailbox<WorkerActor>,
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    definitions: Arc<ArcSwap<BTreeMap<String, String>>>,
    hooks: Hooks,
    node: NodeContext,
    leaderless: Leaderless,
    grace: Duration,
    _threads: JobThreads,
    _arbiter: Arbiter,
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
        let started = Box::pin(start::begin(node, &mut registry, self.hooks.clone())).await?;
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
        let last = BootInstant::from_nanos(started.shared.last_round.load(Ordering::Acquire));
        let silent = started.node.clock.now().saturating_duration_since(last);
        if last.as_nanos() > 0 && silent > STALLED {
            return Health::Degraded(format!(
                "jobs do not start: no round for {} s",
                silent.as_secs()
            ));
        }
        let offset_ms = surroundings.offset_ms;
        if offset_ms.abs() > 1_000 {
            return Health::Degraded(format!(
                "the clock of this node is {} ms {} that of the database",
                offset_ms.abs(),
                if offset_ms > 0 { "behind" } else { "ahead of" }
            ));
        }
        Health::Ready
    }

    fn findings(&self) -> Vec<Finding> {
        self.started.get().map(findings::findings).unwrap_or_default()
    }

    fn web(&self, app: &mut ServiceConfig) {
        if let Some(started) = self.started.get() {
            app.app_data(started.jobs.clone());
        }
    }

    fn operations(&self) -> &'static [Operation] {
        crate::admin::OPERATIONS
    }

    fn admin(&self, app: &mut ServiceConfig) {
        if let Some(started) = self.started.get() {
            crate::admin::configure(app, &started.jobs, &started.node);
        }
    }

    fn stop_notes(&self) -> BoxFuture<'static, Vec<StopNote>> {
        let Some(started) = self.started.get() else {
            return Box::pin(std::future::ready(Vec::new()));
        };
        let admin = AdminJobs::of(&started.jobs, &started.node);
        Box::pin(notes::stop_notes(admin, started.worker.clone()))
    }

    fn work(&self) -> BoxFuture<'static, Vec<Work>> {
        let Some(started) = self.started.get() else {
            return Box::pin(std::future::ready(Vec::new()));
        };
        let worker = started.worker.clone();
        Box::pin(async move {
            // Of its own, since what nobody waits for any more would count as waiting for ever.
            let asked = tokio::spawn(async move { worker.send(RunsUnderWay).await });
            // A worker that has ended has nothing.
            asked.await.ok().and_then(Result::ok).unwrap_or_default()
        })
    }

    fn stop_limit(&self) -> Duration {
        let grace = self.started.get().map_or(Duration::ZERO, |started| started.grace);
        let hooks = self.started.get().map_or(0, |started| started.hooks.stops());
        grace + HAND_BACK + crate::hooks::LIMIT * hooks + Duration::from_secs(2)
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
        wait_for_runs(started, started.grace).await;
        let left = started.worker.send(HandBack).await.unwrap_or(0);
        if left > 0 {
            wait_for_runs(started, HAND_BACK).await;
        }
        crate::hooks::on_stop(&started.hooks, &started.node, &started.jobs).await;
        let node = started.node.node_id.to_string();
        if let Err(error) = started.jobs.store().forget_node(&node).await {
            tracing::debug!(
                error = chain(&error),
                "the scheduler's entry of this node runs out by itself"
            );
        }
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

impl fmt::Debug for SchedulerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerService").field("registry", &self.registry).finish_non_exhaustive()
    }
}
