//! The seam at which a capability (sessions, jobs, files) plugs into a node, and what the node hands to it.
//!
//! The node knows only this trait: it names no capability. Order and time limits belong to [`crate::node`].

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, web};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sea_orm_migration::MigrationTrait;
use serde::{Deserialize, Serialize};

use crate::actors::Actors;
use crate::admin::{AdminPort, Operation};
use crate::bus::Bus;
use crate::cache::Caches;
use crate::clock::SharedClock;
use crate::config::Config;
use crate::database::Database;
use crate::duty::Duties;
use crate::events::Events;
use crate::finding::Finding;
use crate::http::Maintenance;
use crate::ids::NodeId;
use crate::keys::KeySpace;
use crate::lease::LeaseHandle;
use crate::lock::ClusterLocks;
use crate::membership::Membership;
use crate::node::Lifecycle;
use crate::rate_limit::RateLimits;
use crate::redis::Redis;
use crate::settings::Settings;

/// How long a service may take to drain, and to stop unless it says otherwise.
pub(crate) const SERVICE_LIMIT: Duration = Duration::from_secs(10);

/// A capability of a node: it is started, asked for its health, brings routes, and is drained and stopped.
///
/// The node starts its services one after the other in the order they were added, serves requests only after
/// all have started, and drains and then stops them in the reverse order. `start` runs on the system's thread, where
/// `tokio::spawn` reaches the node's shared pool and actors may be started on arbiters of their own.
#[async_trait(?Send)]
pub trait Service: Send + Sync + 'static {
    /// Names the service in logs, in reasons of readiness and in the admin API: `a-z 0-9 _`.
    fn name(&self) -> &'static str;

    /// Starts the service; every other method is called only after this one succeeded.
    ///
    /// # Errors
    /// A [`ServiceError::Retryable`] is tried again for ever with back-off while the node stays unready; a
    /// [`ServiceError::Configuration`] ends the process with status 78, a [`ServiceError::Failed`] with 1.
    async fn start(&mut self, node: &NodeContext) -> Result<(), ServiceError>;

    /// Returns the migrations of the service's tables; they are applied before anything starts, in the order given.
    fn migrations(&self) -> Vec<Box<dyn MigrationTrait>> {
        Vec::new()
    }

    /// Says how the service is right now; asked each second, must not block.
    fn health(&self) -> Health {
        Health::Ready
    }

    /// Adds routes and shared data to the public port; called once on each worker thread.
    fn web(&self, app: &mut web::ServiceConfig) {
        let _ = app;
    }

    /// Adds resources to the admin port; they are called only by requests that one of [`operations`](Self::operations)
    /// describes, and whose role was checked.
    fn admin(&self, app: &mut web::ServiceConfig) {
        let _ = app;
    }

    /// Describes what can be asked of the service's resources on the admin port, and who may.
    fn operations(&self) -> &'static [Operation] {
        &[]
    }

    /// Says what an operator should know or change right now; asked each second, must not block.
    fn findings(&self) -> Vec<Finding> {
        Vec::new()
    }

    /// Says what an operator should know before the node is stopped, and what speaks against it. It may ask the database
    /// or other nodes; what takes longer than about a second is not waited for.
    fn stop_notes(&self) -> BoxFuture<'static, Vec<StopNote>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    /// Says what long work is under way in the service on this node: runs of jobs, not requests. What takes longer than
    /// about a second is not waited for.
    fn work(&self) -> BoxFuture<'static, Vec<Work>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    /// Returns what the service wants to see of every request on the public port, if anything.
    fn web_wrap(&self) -> Option<Arc<dyn RequestWrap>> {
        None
    }

    /// Ends what must not begin any more: called when the node begins to drain, while requests are still being
    /// served. Leaders step down here; no new job may begin afterwards.
    async fn drain(&self) {}

    /// Finishes what is under way and hands everything over: called when the port is closed and no request is under way,
    /// and before the node's leases are released, within [`stop_limit`](Self::stop_limit). The bus, the stores and the
    /// threads that serve requests still work; a late request on a connection that was kept may still come.
    async fn stop(&self) {}

    /// Says how long [`stop`](Self::stop) may take before it is left behind, 10 s if nothing else is said. The time is
    /// part of how long the whole node may take to stop, so it must be the same whenever it is asked for.
    fn stop_limit(&self) -> Duration {
        SERVICE_LIMIT
    }
}

/// What a service does with every request of the public port, without a middleware (and an allocation) of its own.
///
/// Both calls are synchronous: whatever must wait belongs into an extractor, so that it happens only for requests
/// that need it.
pub trait RequestWrap: Send + Sync + 'static {
    /// Looks at a request before it is routed; may put things into its extensions.
    fn on_request(&self, request: &ServiceRequest) {
        let _ = request;
    }

    /// Looks at the answer before its head is sent; may add headers such as cookies.
    fn on_response(&self, request: &HttpRequest, status: u16, headers: &mut HeaderMap) {
        let _ = (request, status, headers);
    }

    /// Names the session of a request for log lines and spans: the same for all its requests, and worth nothing to whoever
    /// reads it. Asked after the answer was made, and only when there is a line to write.
    fn session_id(&self, request: &HttpRequest) -> Option<String> {
        let _ = request;
        None
    }
}

/// How a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It works.
    Ready,
    /// It works, but an operator should know something; the node stays ready.
    Degraded(String),
    /// It does not work; the node is not ready, for the reason given.
    Failed(String),
}

/// Something that an operator should know before a node is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopNote {
    /// A stable word if it speaks against stopping the node, such as `only_eligible_leader`; none if it is good to know.
    pub against: Option<Cow<'static, str>>,
    /// What it is, for people.
    pub text: String,
}

impl StopNote {
    /// Says what is good to know.
    #[must_use]
    pub fn note(text: impl Into<String>) -> Self {
        Self { against: None, text: text.into() }
    }

    /// Says what speaks against stopping the node.
    #[must_use]
    pub fn against(code: &'static str, text: impl Into<String>) -> Self {
        Self { against: Some(code.into()), text: text.into() }
    }
}

/// A piece of long work under way, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// What kind of work it is, such as `run`.
    pub kind: Cow<'static, str>,
    /// What it is called among its kind: by this it can be looked at or ended.
    pub id: String,
    /// What it is work of, such as the name of a job.
    pub of: String,
    /// Since when, ms since 1970.
    pub since_ms: i64,
}

/// A service could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Something the service needs is away; starting is tried again.
    #[error("not yet: {0}")]
    Retryable(String),
    /// An option is wrong; the text names the variable and never a secret.
    #[error("{0}")]
    Configuration(String),
    /// It will not work by trying again.
    #[error("{message}")]
    Failed {
        /// What was being done.
        message: String,
        /// Why it failed.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// What a node hands to its services; a cheap clone.
#[derive(Debug, Clone)]
pub struct NodeContext {
    /// All options, as read at start.
    pub config: Arc<Config>,
    /// This life of this node.
    pub node_id: NodeId,
    /// The clock of leases and deadlines.
    pub clock: SharedClock,
    /// Where things lie in Redis.
    pub keys: Arc<KeySpace>,
    /// The connection for ordinary commands; `None` in embedded mode. A service that needs a connection of its
    /// own makes one with [`Redis::connect`].
    pub redis: Option<Redis>,
    /// The connection to the Redis that keeps the node's leases, and whatever scripts must find beside them; `None`
    /// when the leases are not in Redis. Usually the same as `redis`.
    pub lease_redis: Option<Redis>,
    /// The node's leases, one per bucket; always held in embedded mode.
    pub lease: LeaseHandle,
    /// The nodes of the cluster.
    pub membership: Membership,
    /// Messages to other nodes.
    pub bus: Bus,
    /// The database.
    pub database: Database,
    /// Locks of which there is one holder in the cluster.
    pub locks: ClusterLocks,
    /// How often something may be done, over all nodes together.
    pub rate_limits: RateLimits,
    /// What is dear to load, kept for all nodes.
    pub caches: Caches,
    /// Periodic work for the whole cluster; a service adds its own when it starts.
    pub duties: Duties,
    /// Options that are changed while the cluster runs.
    pub settings: Settings,
    /// What happens, for those who watch.
    pub events: Events,
    /// Whom the public port serves.
    pub maintenance: Maintenance,
    /// What the actors of the node do.
    pub actors: Actors,
    /// In which phase of its life the node is.
    pub lifecycle: Lifecycle,
    /// Who asks on the admin port.
    pub admin: AdminPort,
}
