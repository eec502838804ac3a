//! # Understudy
//!
//! An actor-based runtime that lets a stateful web application run on many nodes as if it were one process. When a node
//! dies, another steps in, and the show goes on.
//!
//! Write an ordinary actix-web program, ask for a [`Session`](prelude::Session) where you need one, and start as many
//! copies of it as you like:
//!
//! ```no_run
//! use understudy::prelude::*;
//!
//! async fn count(session: Session) -> Result<impl Responder, SessionError> {
//!     let visits = session.increment("visits", 1).await?; // durable, and the same on every node
//!     Ok(HttpResponse::Ok().body(format!("visit {visits}")))
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     understudy::main(|app| {
//!         app.route("/", web::get().to(count));
//!     })
//! }
//! ```
//!
//! Without any variable set it runs on its own, with sessions in a SQLite file. With `UNDERSTUDY_CLUSTER_ENABLED=true`,
//! Redis and PostgreSQL, any number of nodes share them; see `docs/configuration.md`.

use std::process::ExitCode;

use actix_web::web::ServiceConfig;

pub use understudy_runtime as runtime;
pub use understudy_scheduler as scheduler;
pub use understudy_session as session;

use understudy_runtime::error::chain;
use understudy_runtime::node::NodeError;

pub mod cli;
pub mod console;
mod node;
pub mod readymade;
mod scheduling;

pub use node::Node;

use understudy_runtime::telemetry::Metric;

/// What an application needs, in one line.
pub mod prelude {
    pub use actix_web::{HttpRequest, HttpResponse, Responder, web};
    pub use understudy_runtime::broadcast::{Broadcast, BroadcastResult, Target};
    pub use understudy_runtime::bus::{BusError, BusRequest};
    pub use understudy_runtime::cache::{
        Cache, CacheError, CacheKey, Caches, ChangeError, ForgetError, Given, OutboxError, Region,
        Written,
    };
    pub use understudy_runtime::config::Config;
    pub use understudy_runtime::files::{
        Disposition, FileError, FileInfo, Files, Judgement, Owner, PutOptions, PutWhen, ReadLink,
        Sharing, Space, SpaceRule, StoredFile, Unused, Verdict,
    };
    pub use understudy_runtime::http::problem::Problem;
    pub use understudy_runtime::lock::{ClusterLock, ClusterLocks, LockError, LockOptions};
    pub use understudy_runtime::node::HealthCheck;
    pub use understudy_runtime::rate_limit::{Rate, RateLimitError, RateLimits, Taken};
    pub use understudy_runtime::service::{Health, NodeContext, Service};
    pub use understudy_scheduler::spec::{
        Backoff, Fold, Gap, Misfire, OnFailure, OnLeaseLoss, OnOrphan, Overlap, Placement, Retry,
    };
    pub use understudy_scheduler::{Job, JobContext, JobError, Jobs, RunId};
    pub use understudy_session::{
        Child, CookieLife, LoginOptions, NoTouch, Session, SessionEnded, SessionError,
        SessionEvent, SessionExpired, SessionHandle, SessionInfo, SessionLimitExceeded,
        SessionState, Sessions, TempDir, TempFile, TempFileInfo,
    };

    pub use crate::Node;
}

/// Returns every metric that a node may write; `docs/metrics.md` has the same table.
pub fn metrics() -> impl Iterator<Item = &'static Metric> {
    let own = readymade::METRICS.iter();
    let runtime = understudy_runtime::telemetry::catalogue().iter();
    runtime.chain(understudy_session::metrics()).chain(understudy_scheduler::metrics()).chain(own)
}

/// Does what `main` of an application does: reads the environment, runs the node, tells what went wrong on standard
/// error, and gives the exit status (78: an option is wrong).
#[must_use]
pub fn main(routes: impl Fn(&mut ServiceConfig) + Send + Sync + 'static) -> ExitCode {
    run(|node| node.routes(routes))
}

/// As [`main`], for applications that bring more than routes.
///
/// ```no_run
/// use understudy::prelude::*;
///
/// async fn nightly(job: JobContext) -> Result<(), JobError> {
///     job.info("good night");
///     Ok(())
/// }
///
/// fn main() -> std::process::ExitCode {
///     understudy::run(|node| node.job(Job::cron("nightly", "0 2 * * *", nightly)))
/// }
/// ```
#[must_use]
pub fn run(make: impl FnOnce(Node) -> Node) -> ExitCode {
    match Node::from_env() {
        Ok(node) => ended(make(node).run()),
        Err(errors) => {
            eprintln!("{errors}");
            status(understudy_runtime::config::EXIT_CONFIG)
        }
    }
}

fn ended(result: Result<(), NodeError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", chain(&error));
            status(error.exit_code())
        }
    }
}

fn status(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
