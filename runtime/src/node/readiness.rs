//! Asks once a second whether this node can do its work, and tells why not.
//!
//! A dependency counts as away after two failures in a row, so that one slow answer under load does not take a node
//! out of the balancer; both together take less than three seconds. It counts as back after one success.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::checks::Checks;
use super::{Phase, Reason};
use crate::config::Requirement;
use crate::error::chain;
use crate::service::{Health, NodeContext, Service};

const EVERY: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_millis(800);
const FAILURES: u32 = 2;

/// Watches a node until it stops.
#[derive(Clone)]
pub(super) struct Monitor {
    node: NodeContext,
    services: Vec<Arc<dyn Service>>,
    checks: Checks,
    database: Probe,
    redis: Probe,
}

impl Monitor {
    pub(super) fn new(node: NodeContext, services: Vec<Arc<dyn Service>>, checks: Checks) -> Self {
        Self { node, services, checks, database: Probe::default(), redis: Probe::default() }
    }

    /// Asks again and again, until the node begins to drain.
    pub(super) async fn run(mut self) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = BTreeSet::new();
        while self.node.lifecycle.phase() < Phase::Draining {
            ticks.tick().await;
            let reasons = self.ask().await;
            let codes: BTreeSet<String> =
                reasons.iter().map(|reason| reason.code.clone()).collect();
            if codes != before {
                tell(&reasons);
                before = codes;
            }
            self.node.lifecycle.set_reasons(reasons);
            let ready = self.node.lifecycle.is_ready();
            metrics::gauge!("understudy_node_ready").set(if ready { 1.0 } else { 0.0 });
        }
        metrics::gauge!("understudy_node_ready").set(0.0);
    }

    /// Asks everything once, at the same time; returns why the node is not ready.
    pub(super) async fn ask(&mut self) -> Vec<Reason> {
        let node = &self.node;
        let needs = &node.config.ops.ready_requires;
        // Both are asked also where nobody requires them: the metrics tell in any case.
        let database =
            async { Box::pin(node.database.ping(LIMIT)).await.map_err(|error| chain(&error)) };
        let redis = async {
            let Some(redis) = &node.redis else { return Ok(()) };
            Box::pin(redis.info("replication")).await.map(drop).map_err(|error| chain(&error))
        };
        let (database, redis, sick) =
            tokio::join!(bounded(database), bounded(redis), self.checks.ask());
        metrics::gauge!("understudy_database_up").set(up(&database));
        if node.redis.is_some() {
            metrics::gauge!("understudy_redis_up").set(up(&redis));
        }
        let mut reasons = Vec::new();
        if needs.contains(&Requirement::Database) {
            reasons.extend(self.database.judge(database).map(|why| Reason::new("database", why)));
        }
        if needs.contains(&Requirement::Redis) {
            reasons.extend(self.redis.judge(redis).map(|why| Reason::new("redis", why)));
        }
        reasons.extend(self.lapsed());
        if let Some(rival) = self.node.membership.rival() {
            reasons.push(Reason::new("duplicate_node", rival));
        }
        reasons.extend(self.services.iter().filter_map(|service| match service.health() {
            Health::Failed(why) => Some(Reason::new(service.name(), why)),
            Health::Ready | Health::Degraded(_) => None,
        }));
        reasons.extend(sick);
        reasons
    }

    /// Without its leases a node can answer from no memory and take over nothing, although the store answers.
    fn lapsed(&self) -> Option<Reason> {
        let node = &self.node;
        let store = match &node.lease_redis {
            Some(_) => Requirement::Redis,
            None => Requirement::Database,
        };
        let held = node.lease.board().all_held(node.clock.now());
        if held || !node.config.ops.ready_requires.contains(&store) {
            return None;
        }
        let trouble = node.lease.trouble();
        let why =
            trouble.map_or_else(|| "the lease has run out".to_owned(), |why| chain(why.as_ref()));
        Some(Reason::new("lease", why))
    }
}

/// What is known of one dependency.
#[derive(Debug, Clone, Default)]
struct Probe {
    failures: u32,
    since: Option<Instant>,
}

impl Probe {
    /// Counts an answer; returns why the dependency counts as away.
    fn judge(&mut self, answer: Result<(), String>) -> Option<String> {
        match answer {
            Ok(()) => {
                *self = Self::default();
                None
            }
            Err(why) => {
                self.failures = self.failures.saturating_add(1);
                let since = *self.since.get_or_insert_with(Instant::now);
                let seconds = since.elapsed().as_secs();
                (self.failures >= FAILURES).then(|| format!("{why} (for {seconds} s)"))
            }
        }
    }
}

async fn bounded(answer: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let late = || Err(format!("no answer within {} ms", LIMIT.as_millis()));
    timeout(LIMIT, answer).await.unwrap_or_else(|_elapsed| late())
}

fn up(answer: &Result<(), String>) -> f64 {
    if answer.is_ok() { 1.0 } else { 0.0 }
}

fn tell(reasons: &[Reason]) {
    if reasons.is_empty() {
        return info!("node is ready");
    }
    let text: Vec<String> =
        reasons.iter().map(|reason| format!("{}: {}", reason.code, reason.detail)).collect();
    warn!(reasons = text.join("; "), "node is not ready");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h1_one_failure_is_forgiven_and_two_are_not() {
        let mut probe = Probe::default();
        let away = || Err("refused".to_owned());
        assert_eq!(probe.judge(away()), None);
        assert_eq!(probe.judge(Ok(())), None);
        assert_eq!(probe.judge(away()), None);
        assert!(probe.judge(away()).unwrap().starts_with("refused"));
        assert!(probe.judge(away()).is_some());
        assert_eq!(probe.judge(Ok(())), None, "it is back at once");
        assert_eq!(probe.judge(away()), None);
    }

    #[test]
    fn h1_an_outage_is_seen_within_three_seconds() {
        assert!(
            (EVERY + LIMIT) * (FAILURES - 1) + LIMIT + Duration::from_millis(200)
                < Duration::from_secs(3)
        );
    }

    #[tokio::test]
    async fn a_dependency_that_is_silent_is_away() {
        let silent = std::future::pending::<Result<(), String>>();
        assert_eq!(bounded(silent).await, Err("no answer within 800 ms".to_owned()));
    }
}
