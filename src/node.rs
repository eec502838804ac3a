//! One node of an application, put together: sessions and files first, then the application's own services, then jobs, and
//! the console.

use std::path::{Path, PathBuf};

use actix_web::web::ServiceConfig;
use serde::Serialize;
use understudy_runtime::config::{Config, ConfigErrors};
use understudy_runtime::files::{FileService, Files, Judgement, StoredFile};
use understudy_runtime::node::{HealthCheck, NodeBuilder, NodeError};
use understudy_runtime::service::{Health, NodeContext, Service};
use understudy_scheduler::schedule::ZoneName;
use understudy_scheduler::spec::{OnOrphan, Placement};
use understudy_scheduler::{Job, JobContext, JobError, Jobs, SchedulerService};
use understudy_session::expiry::Heard;
use understudy_session::{
    Schema, SessionEnded, SessionExpired, SessionLimitExceeded, SessionService, SessionState,
    Sessions,
};

use crate::console::ConsoleService;
use crate::readymade::jobs::{self, JobsFile};
use crate::scheduling::{FIRST_START, Scheduling};

/// What is added to the node once the services before it are in place.
type Addition = Box<dyn FnOnce(NodeBuilder) -> NodeBuilder>;

/// One node of an application, with everything Understudy brings.
#[must_use = "a node does nothing before it is run"]
pub struct Node {
    config: Config,
    sessions: SessionService,
    files: FileService,
    additions: Vec<Addition>,
    scheduler: SchedulerService,
    deployments: Vec<String>,
}

impl Node {
    /// Reads the options from the environment.
    ///
    /// # Errors
    /// All mistakes at once, each with the variable's name and what would be right; never with a value of a secret.
    pub fn from_env() -> Result<Self, ConfigErrors> {
        Config::from_env().map(Self::new)
    }

    /// Makes a node with the options given.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            sessions: SessionService::new(),
            files: FileService::new(),
            additions: Vec::new(),
            scheduler: SchedulerService::new(),
            deployments: Vec::new(),
        }
    }

    /// Adds the application's routes; called once on each worker thread.
    pub fn routes(self, routes: impl Fn(&mut ServiceConfig) + Send + Sync + 'static) -> Self {
        self.with(|builder| builder.routes(routes))
    }

    /// Adds a service of the application. It starts after the sessions and before the jobs, and stops after them.
    pub fn service(self, service: impl Service) -> Self {
        self.with(|builder| builder.service(service))
    }

    /// Has the node ask the application once a second how something is that it needs. While the answer is
    /// [`Health::Failed`] the node is not ready, so balancers send it nothing; [`Health::Degraded`] is told to operators
    /// only. A check may take 1 s; late twice in a row counts as failed. `name` is 1 to 64 of `a-z 0-9 _ -`.
    ///
    /// ```no_run
    /// use understudy::prelude::*;
    ///
    /// async fn gateway() -> Health {
    ///     Health::Failed("the gateway refuses".to_owned())
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// Node::from_env()?.health("payments", gateway).run()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn health<F, Fut>(self, name: &str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Health> + Send + 'static,
    {
        let name = name.to_owned();
        self.with(move |builder| builder.health(&name, check))
    }

    /// Adds a health check of a type of its own; see [`health`](Self::health).
    pub fn health_check(self, check: impl HealthCheck) -> Self {
        self.with(|builder| builder.health_check(check))
    }

    /// Adds a job. Every node of the cluster that is given the job can run it.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use understudy::prelude::*;
    ///
    /// async fn tidy_up(job: JobContext) -> Result<(), JobError> {
    ///     job.info("nothing lies about");
    ///     Ok(())
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// Node::from_env()?.job(Job::every("tidy-up", Duration::from_secs(60), tidy_up)).run()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn job(mut self, job: Job) -> Self {
        self.scheduler = self.scheduler.job(job);
        self
    }

    /// Adds a handler without a job of its own: for jobs that are defined while the program runs, and name it.
    pub fn handler<F, Fut, R>(mut self, name: &str, handler: F) -> Self
    where
        F: Fn(JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
        R: Serialize,
    {
        self.scheduler.registry().add_handler(name, handler);
        self
    }

    /// Takes jobs from this file, in place of that of `UNDERSTUDY_JOBS_FILE`.
    pub fn jobs_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.jobs.file = Some(path.into());
        self
    }

    /// Has `hook` run when this node starts, before it is ready; it has joined the cluster and reaches its stores. Of hooks
    /// that take longer than 10 s the node does not wait for the end.
    pub fn on_node_start<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(NodeContext, Jobs) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.scheduler.hooks().on_node_start(hook);
        self
    }

    /// Has `hook` run when this node stops, after its last request; not when it crashes.
    pub fn on_node_stop<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(NodeContext, Jobs) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.scheduler.hooks().on_node_stop(hook);
        self
    }

    /// Has `hook` run when this node begins to lead.
    pub fn on_become_leader<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(NodeContext, Jobs) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.scheduler.hooks().on_become_leader(hook);
        self
    }

    /// Has `hook` run when this node leads no more; another may do so already.
    pub fn on_lose_leader<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(NodeContext, Jobs) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.scheduler.hooks().on_lose_leader(hook);
        self
    }

    /// Has `handler` run once in the whole cluster per deployment, on whichever of its nodes comes first. `deployment`, 1
    /// to 100 of `A-Z a-z 0-9 . _ -` such as a version, is the same for all nodes and for all their restarts.
    ///
    /// It is a run of the job `cluster-first-start.<deployment>`, with a history like any other. The nodes do not wait for
    /// it. When its node dies it runs again on another, up to three times; when it fails it is not tried again. It
    /// is remembered for ever.
    pub fn on_cluster_first_start<F, Fut, R>(mut self, deployment: &str, handler: F) -> Self
    where
        F: Fn(JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
        R: Serialize,
    {
        let job = Job::manual(&format!("{FIRST_START}{deployment}"), handler)
            .description("Runs once per deployment")
            .placement(Placement::Any)
            .on_orphan(OnOrphan::Retry { max: 3 });
        self.deployments.push(deployment.to_owned());
        self.job(job)
    }

    /// Gives the way to the sessions for handlers of jobs and whatever else is put together before the node starts: to tell
    /// pages of events, for example.
    #[must_use]
    pub fn sessions(&self) -> Sessions {
        self.sessions.sessions()
    }

    /// Gives the files that every node sees, for handlers of jobs and whatever else is put together before the node starts.
    /// Handlers of requests are given them as an argument.
    #[must_use]
    pub fn files(&self) -> Files {
        self.files.files()
    }

    /// Has `examine` asked of every file that all nodes see whether it is clean, before anybody is served it; see
    /// [`FileService::examine`] for what happens when it fails. All nodes must be given the same. The last one given counts.
    ///
    /// ```no_run
    /// use understudy::prelude::*;
    ///
    /// async fn examine(file: StoredFile) -> Result<Judgement, String> {
    ///     let bytes = file.info().bytes; // here it would be sent to a scanner
    ///     Ok(match bytes {
    ///         0..1_000_000 => Verdict::Clean.into(),
    ///         _ => Verdict::Infected.because("larger than a megabyte"),
    ///     })
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// Node::from_env()?.examine_files(examine).run()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn examine_files<F, Fut, J>(mut self, examine: F) -> Self
    where
        F: Fn(StoredFile) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<J, String>> + Send + 'static,
        J: Into<Judgement> + 'static,
    {
        self.files = self.files.examine(examine);
        self
    }

    /// Has `tell` called for each session that ran out of time, on one node of the cluster; see
    /// [`SessionService::on_expired`] for what happens when it fails. The last one given counts.
    pub fn on_session_expired<F, Fut>(mut self, tell: F) -> Self
    where
        F: Fn(SessionExpired) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Heard> + Send + 'static,
    {
        self.sessions = self.sessions.on_expired(tell);
        self
    }

    /// Has `tell` called for each session that is over, whatever the reason, with what it held; see
    /// [`SessionService::on_ended`]. The last one given counts.
    pub fn on_session_ended<F, Fut>(mut self, tell: F) -> Self
    where
        F: Fn(SessionEnded) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Heard> + Send + 'static,
    {
        self.sessions = self.sessions.on_ended(tell);
        self
    }

    /// Has `tell` called when a user has more sessions than wanted after a login, with
    /// `UNDERSTUDY_SESSION_MAX_POLICY=notify`; see [`SessionService::on_limit_exceeded`]. The last one given counts.
    pub fn on_session_limit_exceeded<F, Fut>(mut self, tell: F) -> Self
    where
        F: Fn(SessionLimitExceeded) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Heard> + Send + 'static,
    {
        self.sessions = self.sessions.on_limit_exceeded(tell);
        self
    }

    /// Adds the schema of an attribute of sessions: its versions, and what brings a value from one to the next; see
    /// [`understudy_session::schema`]. One that lacks a step is refused at the start.
    pub fn session_schema(mut self, schema: Schema) -> Self {
        self.sessions = self.sessions.schema(schema);
        self
    }

    /// Adds the schema of a state of sessions, so that the attribute is understood by its name too.
    pub fn session_state<S: SessionState>(self) -> Self {
        self.session_schema(Schema::of::<S>())
    }

    /// Puts the node together. The jobs file is read here, so a broken one is told before anything starts.
    ///
    /// # Errors
    /// [`NodeError::Configuration`] with all mistakes of the jobs file, each with line and field.
    pub fn build(self) -> Result<NodeBuilder, NodeError> {
        let Self { config, sessions, files, additions, mut scheduler, deployments } = self;
        let file = config.jobs.file.as_deref().map(|path| load(path, &config)).transpose()?;
        if file.is_some() {
            jobs::register(scheduler.registry());
        }
        let builder = NodeBuilder::new(config).service(sessions).service(files);
        let builder = additions.into_iter().fold(builder, |builder, add| add(builder));
        let scheduling = Scheduling::new(scheduler, file, deployments);
        Ok(builder.service(scheduling).service(ConsoleService::new()))
    }

    /// Runs the node until SIGTERM or SIGINT, then hands over to the other nodes; blocks the thread.
    ///
    /// # Errors
    /// When the node cannot start; [`NodeError::exit_code`] says with which status the process should end.
    pub fn run(self) -> Result<(), NodeError> {
        self.build()?.run()
    }

    fn with(mut self, add: impl FnOnce(NodeBuilder) -> NodeBuilder + 'static) -> Self {
        self.additions.push(Box::new(add));
        self
    }
}

fn load(path: &Path, config: &Config) -> Result<JobsFile, NodeError> {
    let zone: ZoneName = config.jobs.time_zone.parse().map_err(|_| {
        let problem =
            "UNDERSTUDY_JOBS_TIMEZONE must be the IANA name of a time zone, such as Europe/Oslo";
        NodeError::Configuration(problem.to_owned())
    })?;
    JobsFile::load(path, zone).map_err(|error| {
        NodeError::Configuration(format!(
            "the jobs file (UNDERSTUDY_JOBS_FILE) is broken:\n{error}"
        ))
    })
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("scheduler", &self.scheduler).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
