//! The resources that every node has on its admin port.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data};
use serde::Serialize;

use super::repeated::look_after;
use super::tokens::Tokens;
use super::{AdminPort, OPERATIONS, Operations};
use crate::cache;
use crate::clock::SharedClock;
use crate::config::Config;
use crate::database::Migrations;
use crate::doctor::Doctor;
use crate::finding::Severity;
use crate::http::health::{self, Detail};
use crate::http::problem::Problem;
use crate::http::requests::Requests;
use crate::ids::NodeId;
use crate::lock::ClusterLocks;
use crate::membership::{Member, Membership};
use crate::node::checks::Checks;
use crate::node::{Lifecycle, Phase, Reason};
use crate::problems::Problems;
use crate::problems::options::Options;
use crate::service::{Health, NodeContext, Service};
use crate::telemetry::metrics_text;

/// What the resources show; the parts that exist only after the start are empty before.
#[derive(Clone)]
pub(crate) struct AdminState {
    pub(crate) config: Arc<Config>,
    pub(crate) node_id: NodeId,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) clock: SharedClock,
    /// When the process started, ms since 1970.
    pub(crate) started_ms: u64,
    pub(crate) membership: Option<Membership>,
    pub(crate) locks: Option<ClusterLocks>,
    pub(crate) services: Vec<Arc<dyn Service>>,
    /// Those of the application.
    pub(crate) checks: Checks,
    pub(crate) options: Option<Options>,
    pub(crate) problems: Option<Problems>,
    pub(crate) doctor: Option<Doctor>,
    pub(crate) port: AdminPort,
    pub(crate) context: Option<NodeContext>,
    pub(crate) tokens: Option<Tokens>,
    /// Those of the public port.
    pub(crate) requests: Requests,
    pub(crate) migrations: Migrations,
}

/// Adds the resources, and those of the services.
pub(crate) fn configure(app: &mut web::ServiceConfig, state: &AdminState) {
    let database = state.context.as_ref().map(|context| context.database.clone());
    let repeated = from_fn(move |request, next| look_after(database.clone(), request, next));
    let all = web::scope("").wrap(repeated).configure(|app| configure_all(app, state));
    app.service(all);
}

fn configure_all(app: &mut web::ServiceConfig, state: &AdminState) {
    health::configure(app, &state.lifecycle, Detail::Reasons);
    for service in &state.services {
        service.admin(app);
    }
    if state.config.metrics.enabled {
        app.route("/metrics", web::get().to(metrics));
    }
    super::locks::configure(app, state.locks.as_ref());
    super::people::configure(app, state);
    super::nodes::configure(app, state);
    super::openapi::configure(app, &state.port);
    super::config::configure(app, state);
    super::problems::configure(app, state);
    super::diag::configure(app, state);
    super::settings::configure(app, state);
    super::maintenance::configure(app, state);
    super::events::configure(app, state);
    super::requests::configure(app, state);
    super::logs::configure(app, state);
    super::tasks::configure(app, state);
    super::migrations::configure(app, state);
    super::actors::configure(app, state);
    super::caches::configure(app, state);
    let about = state.clone();
    let nodes = state.clone();
    app.route("/v1/about", web::get().to(move || std::future::ready(json(&about.about()))))
        .route("/v1/nodes", web::get().to(move || std::future::ready(nodes.nodes())));
}

/// Answers with all metrics in the text format of Prometheus.
pub(crate) async fn metrics() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(metrics_text())
}

impl AdminState {
    /// Returns what can be asked of the port, in this phase of the node.
    pub(crate) fn operations(&self) -> Operations {
        let services = self.services.iter().map(|service| service.operations());
        Operations::new(std::iter::once(OPERATIONS).chain(services))
    }

    fn about(&self) -> About<'_> {
        About {
            name: "understudy",
            version: env!("CARGO_PKG_VERSION"),
            node: self.node_id.to_string(),
            cluster: self.config.cluster.enabled.then(|| self.config.cluster.name.as_str()),
            pid: std::process::id(),
            started_ms: self.started_ms,
            uptime_seconds: self.clock.wall_ms().saturating_sub(self.started_ms) / 1_000,
            phase: self.lifecycle.phase(),
            ready: self.lifecycle.is_ready(),
            reasons: self.lifecycle.reasons(),
            services: self
                .services
                .iter()
                .map(|service| HealthBody::of(service.name().to_owned(), service.health()))
                .chain(self.cache())
                .collect(),
            checks: self
                .checks
                .results()
                .into_iter()
                .map(|(name, health)| HealthBody::of(name, health))
                .collect(),
            warnings: self.warnings(),
        }
    }

    /// How the cache is, from when there is one.
    fn cache(&self) -> Option<HealthBody> {
        let caches = &self.context.as_ref()?.caches;
        Some(HealthBody::of(cache::SERVICE.to_owned(), caches.health()))
    }

    /// What this node knows to be wrong; before it knows anything, what is wrong with its options.
    fn warnings(&self) -> Vec<String> {
        let Some(problems) = &self.problems else { return self.config.warnings.clone() };
        let known = problems.here();
        let bad = known.iter().filter(|problem| problem.finding.severity > Severity::Info);
        bad.map(|problem| problem.finding.text.to_string()).collect()
    }

    fn nodes(&self) -> HttpResponse {
        let Some(membership) = &self.membership else { return starting() };
        let members = membership.members();
        let nodes = members
            .iter()
            .map(|member| NodeBody { member, this: member.record.id == self.node_id });
        json(&NodesBody { nodes: nodes.collect() })
    }
}

/// Answers that the node is not as far yet.
pub(super) fn starting() -> HttpResponse {
    not_started().response()
}

pub(super) fn not_started() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "starting", "The node is starting")
        .with_retry_after(Duration::from_secs(1))
}

/// What a resource stands on that needs a node that has started.
pub(super) struct Started(Option<NodeContext>);

impl Started {
    pub(super) fn of(state: &AdminState) -> Data<Self> {
        Data::new(Self(state.context.clone()))
    }

    pub(super) fn context(&self) -> Result<&NodeContext, Problem> {
        self.0.as_ref().ok_or_else(not_started)
    }
}

pub(super) fn json(body: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(body)
}

#[derive(Serialize)]
struct About<'a> {
    name: &'static str,
    version: &'static str,
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a str>,
    pid: u32,
    started_ms: u64,
    uptime_seconds: u64,
    phase: Phase,
    ready: bool,
    reasons: Vec<Reason>,
    services: Vec<HealthBody>,
    checks: Vec<HealthBody>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct HealthBody {
    name: String,
    health: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl HealthBody {
    fn of(name: String, health: Health) -> Self {
        let (health, reason) = match health {
            Health::Ready => ("ready", None),
            Health::Degraded(reason) => ("degraded", Some(reason)),
            Health::Failed(reason) => ("failed", Some(reason)),
        };
        Self { name, health, reason }
    }
}

#[derive(Serialize)]
struct NodesBody<'a> {
    nodes: Vec<NodeBody<'a>>,
}

#[derive(Serialize)]
struct NodeBody<'a> {
    #[serde(flatten)]
    member: &'a Member,
    /// Whether it is the node that answers.
    this: bool,
}
