//! What an operator should know about jobs and about leading: made of what the last sign of life has found, so that asking
//! costs nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use understudy_runtime::clock::BootInstant;
use understudy_runtime::finding::{Finding, Severity};

use super::Started;
use crate::actor::Surroundings;
use crate::leader::LeaderStatus;
use crate::store::SchedulerNode;

/// So many terms within the time that is looked back are too many.
const MOST_TERMS: i64 = 3;
/// So many are named.
const NAMED: usize = 5;

/// Since when nobody is known to lead.
#[derive(Debug, Default)]
pub(super) struct Leaderless(AtomicU64);

impl Leaderless {
    /// Notes whether somebody leads; gives for how long nobody has.
    fn note(&self, somebody: bool, now: BootInstant) -> Duration {
        if somebody {
            self.0.store(0, Ordering::Relaxed);
            return Duration::ZERO;
        }
        let now_nanos = now.as_nanos().max(1);
        let before = self.0.compare_exchange(0, now_nanos, Ordering::Relaxed, Ordering::Relaxed);
        let since = before.err().unwrap_or(now_nanos);
        now.saturating_duration_since(BootInstant::from_nanos(since))
    }
}

/// Says what is wrong right now.
pub(super) fn findings(started: &Started) -> Vec<Finding> {
    let surroundings = started.shared.surroundings.load();
    let status = started.jobs.leader_status();
    let now = started.node.clock.now();
    let silent = started.leaderless.note(status.leader.is_some(), now);
    // A node that dies is followed by another within one time to live and a little.
    let patience = started.node.config.leader.ttl * 2;
    let mut found: Vec<Finding> = no_leader(&status, silent, patience).into_iter().collect();
    found.extend(leader_loop(surroundings.terms));
    found.extend(time_zones(&surroundings.nodes));
    found.extend(handlers(&surroundings));
    found
}

fn no_leader(status: &LeaderStatus, silent: Duration, patience: Duration) -> Option<Finding> {
    if silent < patience {
        return None;
    }
    if status.frozen {
        let text =
            "nobody leads, and none can since the lead is frozen: no job starts at its due time";
        let fix = "unfreeze the lead (leader.unfreeze)";
        return Some(Finding::new(Severity::Warning, "no_leader", text, fix));
    }
    let text = "nobody leads: no job starts at its due time";
    let fix = "GET /v1/leader says why; let at least one ready node be eligible (UNDERSTUDY_LEADER_ELIGIBLE), \
               and end its maintenance";
    Some(Finding::new(Severity::Critical, "no_leader", text, fix))
}

fn leader_loop(terms: i64) -> Option<Finding> {
    (terms > MOST_TERMS).then(|| {
        let text = format!("the lead changed more than {MOST_TERMS} times within 10 minutes");
        let fix = "GET /v1/leader/history has the reasons; look for pauses of nodes, a slow Redis, or a \
                   UNDERSTUDY_LEADER_TTL_MS that is too short";
        Finding::new(Severity::Warning, "leader_loop", text, fix)
    })
}

fn time_zones(nodes: &[SchedulerNode]) -> Option<Finding> {
    let mut by_version: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in nodes {
        by_version.entry(&node.tzdb).or_default().push(name_of(&node.node));
    }
    if by_version.len() < 2 {
        return None;
    }
    let versions = by_version.iter().map(|(version, nodes)| format!("{version} ({})", few(nodes)));
    let versions: Vec<String> = versions.collect();
    let text = format!("nodes have different time zone data: {}", versions.join(", "));
    let fix = "run the same version of the program on all nodes";
    Some(Finding::new(Severity::Warning, "time_zone_data_differ", text, fix))
}

fn handlers(surroundings: &Surroundings) -> Option<Finding> {
    let missing = surroundings.unmet_jobs.iter().map(|(job, need)| format!("{job} ({need})"));
    let missing: Vec<String> = missing.collect();
    if missing.is_empty() {
        return None;
    }
    let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
    let text = format!("jobs that are due within an hour cannot start: {}", few(&missing));
    let fix = "start a node that has the handler and the labels, or disable the job";
    Some(Finding::new(Severity::Warning, "handler_missing", text, fix))
}

/// The name out of `name#incarnation`.
fn name_of(node: &str) -> &str {
    node.split('#').next().unwrap_or(node)
}

fn few(names: &[&str]) -> String {
    let named = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(frozen: bool) -> LeaderStatus {
        LeaderStatus {
            state: crate::leader::LeaderPhase::Standby,
            leader: None,
            epoch: None,
            since_ms: 0,
            expires_in_ms: None,
            this: "a#0000000000000001".parse().unwrap(),
            eligible: true,
            priority: 0,
            maintenance: false,
            frozen,
            hold_until_ms: None,
            trouble: None,
        }
    }

    fn node(name: &str, tzdb: &str) -> SchedulerNode {
        SchedulerNode {
            node: format!("{name}#0000000000000001"),
            seen_ms: 0,
            handlers: std::collections::BTreeSet::new(),
            definitions: BTreeMap::new(),
            labels: BTreeMap::new(),
            tzdb: tzdb.to_owned(),
            takes_jobs: true,
            offset_ms: 0,
        }
    }

    #[test]
    fn h7_a_change_of_leaders_is_no_problem_and_none_for_long_is() {
        let leaderless = Leaderless::default();
        let at = |seconds: u64| BootInstant::from_nanos(seconds * 1_000_000_000);
        assert_eq!(leaderless.note(false, at(10)), Duration::ZERO);
        assert_eq!(leaderless.note(false, at(15)), Duration::from_secs(5));
        assert_eq!(leaderless.note(true, at(16)), Duration::ZERO);
        assert_eq!(leaderless.note(false, at(20)), Duration::ZERO, "it begins anew");
        let patience = Duration::from_secs(10);
        assert_eq!(no_leader(&status(false), Duration::from_secs(9), patience), None);
        let found = no_leader(&status(false), patience, patience).unwrap();
        assert_eq!(found.severity, Severity::Critical);
        assert_eq!(
            no_leader(&status(true), patience, patience).unwrap().severity,
            Severity::Warning
        );
    }

    #[test]
    fn h7_leaders_that_change_all_the_time_are_found() {
        assert_eq!(leader_loop(3), None);
        assert_eq!(leader_loop(4).unwrap().code, "leader_loop");
    }

    #[test]
    fn h7_different_time_zone_data_are_named() {
        assert_eq!(time_zones(&[node("a", "2025a"), node("b", "2025a")]), None);
        let found =
            time_zones(&[node("a", "2025b"), node("b", "2025a"), node("c", "2025b")]).unwrap();
        assert!(found.text.ends_with("2025a (b), 2025b (a, c)"), "{}", found.text);
    }

    #[test]
    fn h7_jobs_that_nobody_can_start_are_named_with_what_is_missing() {
        let mut surroundings = Surroundings::default();
        assert_eq!(handlers(&surroundings), None);
        let need = "no living node has the handler `x`".to_owned();
        surroundings.unmet_jobs = BTreeMap::from([("nightly".to_owned(), need)]);
        let found = handlers(&surroundings).unwrap();
        assert!(
            found.text.contains("nightly (no living node has the handler `x`)"),
            "{}",
            found.text
        );
    }
}
