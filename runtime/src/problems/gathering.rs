//! Gathers what a node knows to be wrong, once a second.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use super::clocks::Pauses;
use super::drift::Drift;
use super::history::{Changes, History};
use super::options::Options;
use super::servers::Servers;
use super::{Problems, Sighting, around};
use crate::clock::BootInstant;
use crate::finding::{Finding, Severity};
use crate::membership::{Member, MemberRecord};
use crate::node::Phase;
use crate::node::checks::Checks;
use crate::service::{Health, NodeContext, Service};
use crate::settings::LOG_TAIL;

const EVERY: Duration = Duration::from_secs(1);
/// Reasons for not being ready that an operator has chosen.
const CHOSEN: [&str; 2] = ["drained", "maintenance"];

/// Looks at a node and around it until the node stops.
#[derive(Clone)]
pub(super) struct Gathering {
    node: NodeContext,
    services: Vec<Arc<dyn Service>>,
    checks: Checks,
    drift: Drift,
    servers: Servers,
    pauses: Pauses,
    history: History,
    /// Since when nodes of different versions are seen.
    skewed: Option<BootInstant>,
    /// The codes and severities that the metrics show.
    shown: BTreeSet<(Cow<'static, str>, Severity)>,
    problems: Problems,
}

impl Gathering {
    pub(super) fn new(
        node: &NodeContext,
        services: Vec<Arc<dyn Service>>,
        checks: Checks,
        (options, problems): (Options, Problems),
    ) -> Self {
        let cluster = &node.config.cluster;
        Self {
            services,
            checks,
            drift: Drift::new(options, cluster.config_drift),
            servers: Servers::new(),
            pauses: Pauses::new(cluster.node_ttl),
            history: History::default(),
            skewed: None,
            shown: BTreeSet::new(),
            problems,
            node: node.clone(),
        }
    }

    /// Looks again and again.
    pub(super) async fn run(mut self) {
        while self.node.lifecycle.phase() < Phase::Stopping {
            let seen = self.look().await;
            let changes = self.history.note(&seen, self.node.clock.wall_ms());
            self.count();
            self.problems.publish(self.history.known(), !changes.is_empty());
            tell(&changes);
            let began = self.node.clock.now();
            sleep(EVERY).await;
            let now = self.node.clock.now();
            let took = now.saturating_duration_since(began);
            self.pauses.slept(EVERY, took, (now, self.node.clock.wall_ms()));
        }
    }

    async fn look(&mut self) -> Vec<Sighting> {
        let node = self.node.clone();
        let name = node.node_id.name().as_str();
        let (members, own) = (node.membership.members(), node.membership.own());
        let living: Vec<&MemberRecord> =
            members.iter().filter(|member| member.live).map(|member| &member.record).collect();
        self.servers.look(&node, living.len()).await;
        let mut found = self.options_of_this();
        found.extend(self.log_is_followed());
        found.extend(self.state());
        found.extend(self.servers.findings(name));
        found.extend(self.drift.look(&living, &own).await);
        found.extend(around::wrong_secret(&living));
        found.extend(self.version_skew(&living));
        found.extend(node.membership.rival().map(|rival| around::rival(name, &rival)));
        let mut seen: Vec<Sighting> = found.into_iter().map(Sighting::from).collect();
        seen.extend(self.with_times(&members));
        seen
    }

    /// What tells by itself when it began.
    fn with_times(&self, members: &[Member]) -> Vec<Sighting> {
        let node = &self.node;
        // Who cannot read the list hears nothing of anybody, and knows nothing of their deaths.
        let is_deaf = node.membership.unread_for() >= node.config.cluster.node_ttl;
        let mut seen = match is_deaf {
            true => Vec::new(),
            false => around::lost(members, node.clock.wall_ms()),
        };
        seen.extend(around::refused(&node.membership.notes()));
        seen.extend(self.pauses.sightings(node.node_id.name().as_str(), node.clock.now()));
        seen
    }

    fn version_skew(&mut self, living: &[&MemberRecord]) -> Option<Finding> {
        let now = self.node.clock.now();
        let since = *self.skewed.get_or_insert(now);
        let found = around::version_skew(living, now.saturating_duration_since(since));
        if found.is_none() {
            self.skewed = None;
        }
        found
    }

    fn options_of_this(&self) -> Vec<Finding> {
        let warnings = self.node.config.warnings.iter();
        let fix = "change the option; docs/configuration.md says what is right";
        let finding =
            |text: &String| Finding::new(Severity::Warning, "config_warning", text.clone(), fix);
        warnings.map(finding).collect()
    }

    fn log_is_followed(&self) -> Option<Finding> {
        let settings = &self.node.settings;
        let is_on = &*settings.value(&LOG_TAIL) == "on";
        let until_ms = || settings.decided_by(&LOG_TAIL).and_then(|stored| stored.until_ms);
        is_on.then(|| around::log_is_followed(until_ms()))
    }

    /// How this node is, its services and the application's own checks among it.
    fn state(&self) -> Vec<Finding> {
        let name = self.node.node_id.name().as_str();
        let mut found: Vec<Finding> =
            self.services.iter().flat_map(|service| service.findings()).collect();
        found.extend(self.node.caches.findings());
        for service in &self.services {
            if let Health::Degraded(why) = service.health() {
                found.push(Finding::new(
                    Severity::Warning,
                    "service_degraded",
                    format!("{} of {name}: {why}", service.name()),
                    "the text says what is missing; the log of the node says more",
                ));
            }
        }
        found.extend(self.checks.results().into_iter().filter_map(|it| checked(name, it)));
        found.extend(self.not_ready(name));
        found
    }

    fn not_ready(&self, name: &str) -> Vec<Finding> {
        if self.node.lifecycle.phase() != Phase::Running {
            return Vec::new();
        }
        let reasons = self.node.lifecycle.reasons();
        let codes = reasons.iter().map(|reason| reason.code.as_str());
        let codes: Vec<&str> = codes.filter(|code| !CHOSEN.contains(code)).collect();
        let mut found = Vec::new();
        if !codes.is_empty() {
            let text =
                format!("{name} is not ready, so balancers send it nothing: {}", codes.join(", "));
            let fix = "GET /health/ready on its admin port gives each reason in full";
            found.push(Finding::new(Severity::Critical, "not_ready", text, fix));
        }
        if self.node.redis.as_ref().is_some_and(|redis| !redis.is_connected()) {
            let text = format!(
                "{name} is not connected to Redis: sessions in it wait, and nothing is led"
            );
            let fix = "start Redis, or mend the network between; nodes connect again by themselves";
            found.push(Finding::new(Severity::Critical, "redis_away", text, fix));
        }
        if codes.contains(&"database") {
            let text = format!(
                "{name} gets no answer from the database: no job starts, and nothing is kept there"
            );
            let fix =
                "start PostgreSQL, or mend the network between; nodes connect again by themselves";
            found.push(Finding::new(Severity::Critical, "database_away", text, fix));
        }
        found
    }

    /// Tells the metrics how many there are of each code; those that are gone count zero.
    fn count(&mut self) {
        let key = |finding: &Finding| (finding.code.clone(), finding.severity);
        let known = self.history.known();
        self.shown.extend(known.iter().map(|problem| key(&problem.finding)));
        for (code, severity) in &self.shown {
            let same = |finding: &Finding| finding.code == *code && finding.severity == *severity;
            let count = known.iter().filter(|problem| same(&problem.finding)).count();
            metrics::gauge!("understudy_problems", "code" => code.to_string(), "severity" => severity.to_string())
                .set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        }
    }
}

fn checked(node: &str, (check, health): (String, Health)) -> Option<Finding> {
    let fix = "the application brought this check; its own documentation says what helps";
    match health {
        Health::Ready => None,
        Health::Degraded(why) => {
            let text = format!("{check} of {node}: {why}");
            Some(Finding::new(Severity::Warning, "check_degraded", text, fix))
        }
        Health::Failed(why) => {
            let text = format!("{check} of {node} is sick, so the node is not ready: {why}");
            Some(Finding::new(Severity::Critical, "check_sick", text, fix))
        }
    }
}

/// Writes into the log what came and what went; other words for the same are no news.
fn tell(changes: &Changes) {
    let has = |list: &[super::Problem], code: &str| list.iter().any(|it| it.finding.code == code);
    for problem in changes.appeared.iter().filter(|it| !has(&changes.gone, &it.finding.code)) {
        let Finding { code, severity, text, fix } = &problem.finding;
        match severity {
            Severity::Info => info!(%code, %fix, "{text}"),
            Severity::Warning | Severity::Critical => warn!(%code, %severity, %fix, "{text}"),
        }
    }
    for problem in changes.gone.iter().filter(|it| !has(&changes.appeared, &it.finding.code)) {
        let Finding { code, text, .. } = &problem.finding;
        info!(%code, "no longer: {text}");
    }
}
