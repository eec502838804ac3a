//! How a node is, in all that it can tell within a moment.

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use super::process::ProcessFigures;
use crate::cache::{self, WeakCaches};
use crate::clock::SharedClock;
use crate::database::Database;
use crate::http::requests::Requests;
use crate::membership::{Drained, Membership};
use crate::node::{Lifecycle, Phase, Reason};
use crate::redis::Redis;
use crate::service::{Health, NodeContext, Service};
use crate::settings::Settings;
use crate::watchdog::{PauseReport, Pauses};

/// How long a server may take to answer before it counts as away, in this report.
const ANSWER_LIMIT: Duration = Duration::from_millis(400);

/// How a node is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeDetail {
    /// In which phase of its life it is.
    pub phase: Phase,
    /// Whether it is ready, and was not asked to stop.
    pub ready: bool,
    /// Who has taken it out of service, if somebody has.
    pub drained: Option<Drained>,
    /// Why it is not ready.
    pub reasons: Vec<Reason>,
    /// How its services are, and its cache.
    pub services: Vec<ServiceDetail>,
    /// For how long the process has run.
    pub uptime_seconds: u64,
    /// Memory in use; none where the system does not tell.
    pub rss_bytes: Option<u64>,
    /// Open files and connections; none where the system does not tell.
    pub open_files: Option<u64>,
    /// Time on processors since the start; none where the system does not tell.
    pub cpu_seconds: Option<f64>,
    /// Requests under way on the public port.
    pub requests_under_way: u64,
    /// Redis, as the node reaches it; none when it has none.
    pub redis: Option<RedisDetail>,
    /// The database, as the node reaches it.
    pub database: DatabaseDetail,
    /// Whether it stood still at times.
    pub pauses: PauseReport,
    /// The version of its program.
    pub version: String,
    /// Which settings it has heard of.
    #[serde(default)]
    pub settings_revision: Option<u64>,
}

/// How a service of a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDetail {
    /// Its name.
    pub name: String,
    /// `ready`, `degraded` or `failed`.
    pub health: String,
    /// Why it is not just ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How a node reaches Redis.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RedisDetail {
    /// Whether there is a connection.
    pub connected: bool,
    /// How long an answer took, ms; none when none came in time.
    pub rtt_ms: Option<f64>,
}

/// How a node reaches the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseDetail {
    /// Whether it answers.
    pub up: bool,
}

/// What of a node the report is made of; keeps alive neither its bus nor its services.
#[derive(Clone)]
pub(crate) struct Here {
    pub(super) lifecycle: Lifecycle,
    pub(super) membership: Membership,
    pub(super) clock: SharedClock,
    pub(super) requests: Requests,
    redis: Option<Redis>,
    database: Database,
    settings: Settings,
    services: Vec<Weak<dyn Service>>,
    caches: WeakCaches,
    pauses: Pauses,
    started_ms: u64,
}

impl Here {
    pub(crate) fn new(
        node: &NodeContext,
        services: &[Arc<dyn Service>],
        requests: &Requests,
        pauses: Pauses,
    ) -> Self {
        Self {
            lifecycle: node.lifecycle.clone(),
            membership: node.membership.clone(),
            clock: Arc::clone(&node.clock),
            requests: requests.clone(),
            redis: node.redis.clone(),
            database: node.database.clone(),
            settings: node.settings.clone(),
            services: services.iter().map(Arc::downgrade).collect(),
            caches: node.caches.weak(),
            pauses,
            started_ms: node.membership.own().started_ms,
        }
    }

    /// Returns the services that are still there.
    pub(super) fn services(&self) -> impl Iterator<Item = Arc<dyn Service>> + '_ {
        self.services.iter().filter_map(Weak::upgrade)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.lifecycle.is_ready() && !self.lifecycle.is_stop_asked()
    }

    /// Looks at everything; takes half a second at most.
    pub(super) async fn detail(&self) -> NodeDetail {
        let figures = tokio::task::spawn_blocking(ProcessFigures::read);
        let ping = Box::pin(self.database.ping(ANSWER_LIMIT));
        let (figures, database, redis) = tokio::join!(figures, ping, self.redis());
        // Fails only when the runtime ends.
        let figures = figures.unwrap_or_default();
        let uptime_ms = self.clock.wall_ms().saturating_sub(self.started_ms);
        NodeDetail {
            phase: self.lifecycle.phase(),
            ready: self.is_ready(),
            drained: self.lifecycle.drained(),
            reasons: self.lifecycle.reasons(),
            services: self.health_of_services(),
            uptime_seconds: uptime_ms / 1_000,
            rss_bytes: figures.rss_bytes,
            open_files: figures.open_files,
            cpu_seconds: figures.cpu_seconds,
            requests_under_way: u64::try_from(self.requests.count()).unwrap_or(u64::MAX),
            redis,
            database: DatabaseDetail { up: database.is_ok() },
            pauses: self.pauses.report(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            settings_revision: u64::try_from(self.settings.revision()).ok(),
        }
    }

    /// How its services are, and the cache, which every node has.
    fn health_of_services(&self) -> Vec<ServiceDetail> {
        let services = self.services();
        let mut details: Vec<ServiceDetail> =
            services.map(|service| ServiceDetail::of(service.name(), service.health())).collect();
        let caches = self.caches.upgrade();
        details.extend(caches.map(|caches| ServiceDetail::of(cache::SERVICE, caches.health())));
        details
    }

    async fn redis(&self) -> Option<RedisDetail> {
        let redis = self.redis.as_ref()?;
        let asked = Instant::now();
        let answer = timeout(ANSWER_LIMIT, Box::pin(redis.info("replication"))).await;
        let answered = matches!(answer, Ok(Ok(_)));
        let rtt_ms = asked.elapsed().as_secs_f64() * 1_000.0;
        let rtt_ms = answered.then(|| (rtt_ms * 100.0).round() / 100.0);
        Some(RedisDetail { connected: redis.is_connected(), rtt_ms })
    }
}

impl ServiceDetail {
    fn of(name: &str, health: Health) -> Self {
        let (health, reason) = match health {
            Health::Ready => ("ready", None),
            Health::Degraded(reason) => ("degraded", Some(reason)),
            Health::Failed(reason) => ("failed", Some(reason)),
        };
        Self { name: name.to_owned(), health: health.to_owned(), reason }
    }
}
