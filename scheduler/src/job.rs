//! Jobs of a program: a handler, which is an ordinary async function, and when and how it runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::context::JobContext;
use crate::error::JobError;
use crate::spec::{
    Fold, Gap, JobName, JobSpec, Misfire, OnFailure, OnLeaseLoss, OnOrphan, Overlap, Placement,
    Retry, Schedule,
};

/// What a handler reports, as JSON; `null` when it has nothing to report.
pub(crate) type Outcome = Result<serde_json::Value, JobError>;

/// A handler that was registered.
pub(crate) type Handler = Arc<dyn Fn(JobContext) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// A job of a program: what runs, when, and what happens when something goes wrong.
///
/// ```
/// use understudy_scheduler::{Job, JobContext, JobError};
/// use understudy_scheduler::spec::Misfire;
///
/// async fn nightly_report(job: JobContext) -> Result<(), JobError> {
///     for day in job.progress("days", ["monday", "tuesday"]) {
///         job.check_cancelled()?;
///         job.info(format!("{day} is done"));
///     }
///     Ok(())
/// }
///
/// let job = Job::cron("nightly-report", "0 2 * * *", nightly_report)
///     .time_zone("Europe/Oslo")
///     .misfire(Misfire::FireOnce);
/// ```
#[must_use = "a job runs only when it is given to a node"]
pub struct Job {
    name: String,
    spec: JobSpec,
    handler: Handler,
    /// A name of a following job that is none; told when the node starts.
    bad_then: Option<String>,
}

impl Job {
    /// Runs at the times of a cron expression: 5 or 6 fields (seconds first), or `@daily` and the like.
    pub fn cron<F, Fut, R>(name: &str, expression: &str, handler: F) -> Self
    where
        F: Fn(JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
        R: Serialize,
    {
        let schedule = Schedule::Cron {
            expression: expression.to_owned(),
            time_zone: None,
            gap: Gap::default(),
            fold: Fold::default(),
        };
        Self::new(name, schedule, handler)
    }

    /// Runs on a fixed grid: every `every`, counted from the beginning of 1970, whatever nodes come and go.
    pub fn every<F, Fut, R>(name: &str, every: Duration, handler: F) -> Self
    where
        F: Fn(JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
        R: Serialize,
    {
        Self::new(name, Schedule::Every { every, anchor_ms: 0 }, handler)
    }

    /// Runs again so long after the run before has ended.
    pub fn after<F, Fut, R>(name: &str, delay: Duration, handler: F) -> Self
    where
        F: Fn(JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
        R: Serialize,
    {
        Self::new(name, Schedule::After { delay }, handler)
    }

    /// Runs once, at a time in ms since 1970.
    pub fn once<F, Fut, R>(name: &str, at_ms: i64, handler: F) -> Self
    where
        F: Fn(JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
        R: Serialize,
    {
        Self::new(name, Schedule::Once { at_ms }, handler)
    }

    /// Runs only when it is started: by a person, by the program, or after another job.
    pub fn manual<F, Fut, R>(name: &str, handler: F) -> Self
    where
        F: Fn(JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
        R: Serialize,
    {
        Self::new(name, Schedule::Manual, handler)
    }

    /// Works through a queue that the program fills ([`crate::Jobs::enqueue`]): many at once, spread over the nodes.
    pub fn task<F, Fut, R>(name: &str, handler: F) -> Self
    where
        F: Fn(JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
        R: Serialize,
    {
        Self::new(name, Schedule::Manual, handler)
            .placement(Placement::Any)
            .overlap(Overlap::Allow { max: 10_000 })
    }

    fn new<F, Fut, R>(name: &str, schedule: Schedule, handler: F) -> Self
    where
        F: Fn(JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
        R: Serialize,
    {
        // A name that is none is told when the node starts, by its text.
        let checked = name.parse::<JobName>().unwrap_or_else(|_| placeholder());
        let spec = JobSpec::new(checked, schedule);
        Self { name: name.to_owned(), spec, handler: boxed(handler), bad_then: None }
    }

    /// Says what it is for, for people.
    pub fn description(mut self, text: &str) -> Self {
        text.clone_into(&mut self.spec.description);
        self
    }

    /// Reads the cron expression in this time zone, an IANA name; else in that of `UNDERSTUDY_JOBS_TIMEZONE`.
    pub fn time_zone(mut self, name: &str) -> Self {
        if let Schedule::Cron { time_zone, .. } = &mut self.spec.schedule {
            *time_zone = Some(name.to_owned());
        }
        self
    }

    /// Says what happens to times that a change of clocks skips and repeats.
    pub fn clock_changes(mut self, on_gap: Gap, on_fold: Fold) -> Self {
        if let Schedule::Cron { gap, fold, .. } = &mut self.spec.schedule {
            (*gap, *fold) = (on_gap, on_fold);
        }
        self
    }

    /// Says on which node it runs.
    pub fn placement(mut self, placement: Placement) -> Self {
        self.spec.placement = placement;
        self
    }

    /// Runs only on nodes with this label (`UNDERSTUDY_NODE_LABELS`).
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.spec.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Says what happens to due times at which nothing could start.
    pub fn misfire(mut self, misfire: Misfire) -> Self {
        self.spec.misfire = misfire;
        self
    }

    /// Says how late a missed due time may still start.
    pub fn misfire_grace(mut self, grace: Duration) -> Self {
        self.spec.misfire_grace = Some(grace);
        self
    }

    /// Says what happens when a run is due while an earlier one has not ended.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.spec.overlap = overlap;
        self
    }

    /// Lets at most so many runs of this job run at once in the cluster.
    pub fn max_concurrency(mut self, most: u32) -> Self {
        self.spec.max_concurrency = Some(most);
        self
    }

    /// Shares the limit of runs with all jobs of the same key.
    pub fn concurrency_key(mut self, key: &str) -> Self {
        self.spec.concurrency_key = Some(key.to_owned());
        self
    }

    /// Ends an attempt that takes longer.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.spec.timeout = Some(limit);
        self
    }

    /// Says whether and when a failed attempt is tried again.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.spec.retry = retry;
        self
    }

    /// Says what happens to a run whose node died.
    pub fn on_orphan(mut self, policy: OnOrphan) -> Self {
        self.spec.on_orphan = policy;
        self
    }

    /// Says what happens to a run when its node is fenced as leader.
    pub fn on_lease_loss(mut self, policy: OnLeaseLoss) -> Self {
        self.spec.on_lease_loss = policy;
        self
    }

    /// Says which of several waiting runs starts first: greater is sooner, -100 to 100.
    pub fn priority(mut self, priority: i32) -> Self {
        self.spec.priority = priority;
        self
    }

    /// Puts starts off by a random time of up to this.
    pub fn jitter(mut self, most: Duration) -> Self {
        self.spec.jitter = most;
        self
    }

    /// Runs these jobs one after the other when this one has ended; of a failure the rest is skipped, or not.
    pub fn then(mut self, jobs: &[&str], on_failure: OnFailure) -> Self {
        let bad = jobs.iter().find(|name| name.parse::<JobName>().is_err());
        self.bad_then = bad.map(|name| (*name).to_owned());
        self.spec.then = jobs.iter().filter_map(|name| name.parse().ok()).collect();
        self.spec.on_failure = on_failure;
        self
    }

    /// Gives the handler parameters, which operators may change for the job or for a single run.
    pub fn params<P: Serialize>(mut self, params: &P) -> Self {
        self.spec.params = serde_json::to_value(params).unwrap_or_default();
        self
    }

    /// Holds parameters against the JSON schema of a type, at each change and each start.
    pub fn params_of<P: schemars::JsonSchema>(mut self) -> Self {
        self.spec.params_schema = Some(schemars::schema_for!(P).into());
        self
    }

    /// Catches up, by the misfire policy, what was due during a pause.
    pub fn catch_up_on_resume(mut self) -> Self {
        self.spec.catch_up_on_resume = true;
        self
    }

    #[cfg(test)]
    pub(crate) fn spec(&self) -> &JobSpec {
        &self.spec
    }

    pub(crate) fn system(mut self) -> Self {
        self.spec.system = true;
        self
    }
}

/// The name of a job whose name cannot be one; it is refused before anything is stored.
fn placeholder() -> JobName {
    "invalid".parse().expect("a valid name")
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// Makes a handler out of an async function.
pub(crate) fn boxed<F, Fut, R>(handler: F) -> Handler
where
    F: Fn(JobContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, JobError>> + Send + 'static,
    R: Serialize,
{
    Arc::new(move |context| {
        let run = handler(context);
        async move {
            let report = run.await?;
            serde_json::to_value(report)
                .map_err(|error| JobError::fatal(format!("its report is no JSON: {error}")))
        }
        .boxed()
    })
}

/// The handlers and definitions that a node brings along.
#[derive(Default, Clone)]
pub struct Registry {
    handlers: BTreeMap<String, Handler>,
    specs: Vec<JobSpec>,
    problems: Vec<String>,
}

impl Registry {
    /// Adds a job with its handler.
    pub fn add(&mut self, job: Job) {
        let Job { name, spec, handler, bad_then } = job;
        if let Some(bad) = bad_then {
            let bad = bad.escape_default();
            self.problems.push(format!(
                "the job `{name}` is followed by `{bad}`, which cannot be a job's name"
            ));
            return;
        }
        if spec.name.as_str() != name || (spec.name.is_system() && !spec.system) {
            self.problems.push(format!(
                "the job `{}` has a name that cannot be one: 1 to 128 of A-Z a-z 0-9 . _ -, not beginning with system.",
                name.escape_default()
            ));
            return;
        }
        if self.handlers.insert(spec.handler.clone(), handler).is_some() {
            self.problems.push(format!("there are two jobs called `{name}`"));
            return;
        }
        self.specs.push(spec);
    }

    /// Adds a handler without a job: for jobs that a file or an operator defines.
    pub fn add_handler<F, Fut, R>(&mut self, name: &str, handler: F)
    where
        F: Fn(JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
        R: Serialize,
    {
        if self.handlers.insert(name.to_owned(), boxed(handler)).is_some() {
            self.problems.push(format!("there are two handlers called `{name}`"));
        }
    }

    pub(crate) fn handler(&self, name: &str) -> Option<&Handler> {
        self.handlers.get(name)
    }

    pub(crate) fn handler_names(&self) -> impl Iterator<Item = &str> {
        self.handlers.keys().map(String::as_str)
    }

    pub(crate) fn specs(&self) -> &[JobSpec] {
        &self.specs
    }

    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handlers: Vec<&String> = self.handlers.keys().collect();
        f.debug_struct("Registry").field("handlers", &handlers).finish_non_exhaustive()
    }
}
