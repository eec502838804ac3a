//! The resources that every node has on its admin port.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::{self, Data};
use serde::Serialize;

use super::tokens::Tokens;
use super::{AdminPort, OPERATIONS, Operations};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::database::Finding;
use crate::http::health::{self, Detail};
use crate::http::problem::Problem;
use crate::http::requests::Requests;
use crate::ids::NodeId;
use crate::lock::ClusterLocks;
use crate::membership::{Member, Membership};
use crate::node::{Lifecycle, Phase, Reason};
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
    /// What an operator should change at the database.
    pub(crate) findings: Vec<Finding>,
    pub(crate) port: AdminPort,
    pub(crate) context: Option<NodeContext>,
    pub(crate) tokens: Option<Tokens>,
    /// Those of the public port.
    pub(crate) requests: Requests,
}

/// Adds the resources, and those of the services.
pub(crate) fn configure(app: &mut web::ServiceConfig, state: &AdminState) {
    health::configure(app, &state.lifecycle, Detail::Reasons);
    for service in &state.services {
        service.admin(app);
    }
    if state.config.metrics.enabled {
        app.route("/metrics", web::get().to(metrics));
    }
    super::locks::configure(app, state.locks.as_ref());
    super::people::configure(app, state);
    super::openapi::configure(app, &state.port);
    super::settings::configure(app, state);
    super::maintenance::configure(app, state);
    super::events::configure(app, state);
    super::requests::configure(app, state);
    let about = state.clone();
    let nodes = state.clone();
    let config = state.clone();
    app.route("/v1/about", web::get().to(move || std::future::ready(json(&about.about()))))
        .route("/v1/nodes", web::get().to(move || std::future::ready(nodes.nodes())))
        .route("/v1/config", web::get().to(move || std::future::ready(json(&config.options()))));
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
                .map(|service| ServiceBody::of(service.as_ref()))
                .collect(),
            warnings: self.warnings().collect(),
        }
    }

    fn warnings(&self) -> impl Iterator<Item = &str> {
        let found = self.findings.iter().map(|finding| finding.text.as_str());
        self.config.warnings.iter().map(String::as_str).chain(found)
    }

    fn nodes(&self) -> HttpResponse {
        let Some(membership) = &self.membership else { return starting() };
        let members = membership.members();
        let nodes = members
            .iter()
            .map(|member| NodeBody { member, this: member.record.id == self.node_id });
        json(&NodesBody { nodes: nodes.collect() })
    }

    fn options(&self) -> ConfigBody {
        ConfigBody { fingerprint: self.config.fingerprint(), options: self.config.redacted() }
    }
}

/// Answers that the node is not as far yet.
pub(super) fn starting() -> HttpResponse {
    not_started().response()
}

fn not_started() -> Problem {
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
    services: Vec<ServiceBody>,
    warnings: Vec<&'a str>,
}

#[derive(Serialize)]
struct ServiceBody {
    name: &'static str,
    health: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl ServiceBody {
    fn of(service: &dyn Service) -> Self {
        let (health, reason) = match service.health() {
            Health::Ready => ("ready", None),
            Health::Degraded(reason) => ("degraded", Some(reason)),
            Health::Failed(reason) => ("failed", Some(reason)),
        };
        Self { name: service.name(), health, reason }
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

#[derive(Serialize)]
struct ConfigBody {
    fingerprint: String,
    options: BTreeMap<String, String>,
}
