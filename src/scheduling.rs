//! The scheduler as a node of an application has it: with the jobs of a file, and what happens once per deployment.
//!
//! It adds nothing to what the scheduler does; it brings more to do, right after the scheduler has started.

use std::sync::Arc;

use actix_web::web::ServiceConfig;
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sea_orm_migration::MigrationTrait;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use understudy_runtime::admin::Operation;
use understudy_runtime::error::chain;
use understudy_runtime::finding::Finding;
use understudy_runtime::service::{
    Health, NodeContext, RequestWrap, Service, ServiceError, StopNote, Work,
};
use understudy_scheduler::run::Cause;
use understudy_scheduler::spec::JobName;
use understudy_scheduler::store::{DefinitionError, EnqueueError, Order};
use understudy_scheduler::{Jobs, SchedulerService};

use crate::readymade::jobs::{self, JobsFile, Trouble};

/// What the name of the job of a deployment begins with. The deployment is part of the name, so that during a rolling
/// deployment only nodes of the new program run it, never an old one with the old handler.
pub(crate) const FIRST_START: &str = "cluster-first-start.";

/// The scheduler, and what the application has it do from the start.
pub(crate) struct Scheduling {
    scheduler: SchedulerService,
    file: Option<JobsFile>,
    /// The deployments that have something to be done once in the cluster.
    deployments: Vec<String>,
    trouble: watch::Receiver<Trouble>,
    /// Goes to whoever watches over the file.
    tell_trouble: watch::Sender<Trouble>,
    watcher: Option<AbortHandle>,
}

impl Scheduling {
    pub(crate) fn new(
        scheduler: SchedulerService,
        file: Option<JobsFile>,
        deployments: Vec<String>,
    ) -> Self {
        let (tell_trouble, trouble) = watch::channel(None);
        Self { scheduler, file, deployments, trouble, tell_trouble, watcher: None }
    }

    /// Brings the jobs of the file in force, and has somebody watch over it from then on.
    async fn begin_file(&mut self) -> Result<(), ServiceError> {
        let (Some(file), Some(jobs)) = (&self.file, self.scheduler.file_jobs()) else {
            return Ok(());
        };
        let report = jobs.bring(file.specs()).await.map_err(|error| match &error {
            DefinitionError::Database(cause) => away(cause.is_retryable(), &error),
            DefinitionError::Invalid(_)
            | DefinitionError::Unknown
            | DefinitionError::Changed(_)
            | DefinitionError::NotYours(_) => {
                let path = file.path().display();
                ServiceError::Configuration(format!(
                    "{path} (UNDERSTUDY_JOBS_FILE): {}",
                    chain(&error)
                ))
            }
        })?;
        jobs::tell(&report);
        file.warn_of_unset_variables();
        if let Some(file) = self.file.take() {
            let watching = tokio::spawn(jobs::watch(file, jobs, self.tell_trouble.clone()));
            self.watcher = Some(watching.abort_handle());
        }
        Ok(())
    }

    /// Asks for what is to be done once per deployment; whoever comes first is served, the others get the same run.
    async fn order_first_starts(&self) -> Result<(), ServiceError> {
        let Some(jobs) = self.scheduler.jobs() else { return Ok(()) };
        for deployment in &self.deployments {
            order_first_start(&jobs, deployment).await?;
        }
        Ok(())
    }
}

async fn order_first_start(jobs: &Jobs, deployment: &str) -> Result<(), ServiceError> {
    let job: JobName = format!("{FIRST_START}{deployment}").parse().map_err(|_| {
        let message = "the name of a deployment must be 1 to 100 of A-Z a-z 0-9 . _ -".to_owned();
        ServiceError::Failed { message, source: None }
    })?;
    let order = Order { key: Some(deployment.to_owned()), ..Order::new(job, Cause::Task) };
    match jobs.order(order).await {
        // One that has not ended is the one.
        Ok(_) | Err(EnqueueError::Busy(_)) => Ok(()),
        Err(EnqueueError::Database(error)) => Err(away(error.is_retryable(), &error)),
        Err(error) => Err(ServiceError::Failed {
            message: "what is done once per deployment cannot be asked for".to_owned(),
            source: Some(Box::new(error)),
        }),
    }
}

fn away(is_retryable: bool, error: &(dyn std::error::Error + 'static)) -> ServiceError {
    if is_retryable {
        return ServiceError::Retryable(chain(error));
    }
    ServiceError::Failed { message: chain(error), source: None }
}

#[async_trait(?Send)]
impl Service for Scheduling {
    fn name(&self) -> &'static str {
        self.scheduler.name()
    }

    async fn start(&mut self, node: &NodeContext) -> Result<(), ServiceError> {
        // After an error that passes all this is tried again, but the scheduler starts only once.
        if self.scheduler.jobs().is_none() {
            self.scheduler.start(node).await?;
        }
        self.begin_file().await?;
        self.order_first_starts().await
    }

    fn migrations(&self) -> Vec<Box<dyn MigrationTrait>> {
        self.scheduler.migrations()
    }

    fn health(&self) -> Health {
        match (self.scheduler.health(), &*self.trouble.borrow()) {
            (Health::Ready, Some(trouble)) => Health::Degraded(trouble.clone()),
            (health, _) => health,
        }
    }

    fn web(&self, app: &mut ServiceConfig) {
        self.scheduler.web(app);
    }

    fn operations(&self) -> &'static [Operation] {
        self.scheduler.operations()
    }

    fn findings(&self) -> Vec<Finding> {
        self.scheduler.findings()
    }

    fn stop_notes(&self) -> BoxFuture<'static, Vec<StopNote>> {
        self.scheduler.stop_notes()
    }

    fn work(&self) -> BoxFuture<'static, Vec<Work>> {
        self.scheduler.work()
    }

    fn admin(&self, app: &mut ServiceConfig) {
        self.scheduler.admin(app);
    }

    fn web_wrap(&self) -> Option<Arc<dyn RequestWrap>> {
        self.scheduler.web_wrap()
    }

    /// A node that leaves brings nothing new any more.
    async fn drain(&self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
        self.scheduler.drain().await;
    }

    async fn stop(&self) {
        self.scheduler.stop().await;
    }

    fn stop_limit(&self) -> std::time::Duration {
        self.scheduler.stop_limit()
    }
}
