//! Scheduled jobs that start exactly once in the cluster.
//!
//! A leader, elected by a lease in Redis and inaugurated with an epoch in the database, claims due times in
//! transactions that check the epoch; so a second start of one due time is impossible, whatever clocks, pauses and
//! partitions do. It builds on `understudy-runtime` and knows nothing of sessions.
//!
//! An application makes [`Job`]s out of async functions and gives them to its node; a function is given a
//! [`JobContext`]. [`Jobs`] is the handle for everything else: the queue, starting and cancelling, pausing, history.

mod actor;
mod admin;
mod clock;
mod context;
mod error;
mod explain;
mod hooks;
mod job;
mod jobs;
pub mod leader;
mod metrics;
mod plan;
mod progress;
pub mod run;
pub mod schedule;
mod service;
pub mod spec;
pub mod store;
mod system;
mod worker;

pub use crate::metrics::catalogue as metrics;
pub use context::{CancelReason, CompleteError, GuardError, JobContext};
pub use error::JobError;
pub use explain::{Explanation, Verdict};
pub use hooks::Hooks;
pub use job::{Job, Registry};
pub use jobs::{BackfillError, CancelError, Jobs};
pub use progress::{Items, Progress, Stage, StageState};
pub use run::{Fence, RunId, RunState};
pub use service::{FileJobs, SchedulerService};
