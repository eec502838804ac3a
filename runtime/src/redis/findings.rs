//! What an operator should know about a server before sessions are trusted to it.

use std::borrow::Cow;

use crate::config::Topology;
use crate::finding::{Finding, Severity};

const TOO_OLD: Finding = known(
    Severity::Critical,
    "redis_too_old",
    "redis is older than version 6: connections may not work, and leases fail when it is full",
    "use Redis 7 or newer, or Valkey",
);
const EVICTS: Finding = known(
    Severity::Critical,
    "redis_evicts",
    "redis evicts keys when it is full (maxmemory-policy): sessions would vanish",
    "set maxmemory-policy to noeviction",
);
const FORGETS: Finding = known(
    Severity::Warning,
    "redis_forgets",
    "redis keeps nothing on disk (appendonly no) and has no replica: a restart loses what neither a living node nor the database holds",
    "set appendonly to yes, add a replica, or keep sessions in the database as well (UNDERSTUDY_SESSION_PERSIST)",
);
const SPLITS: Finding = known(
    Severity::Warning,
    "redis_splits",
    "redis has replicas but acknowledges writes without them (min-replicas-to-write 0): an old primary that is cut off would go on, and what it acknowledges is lost",
    "set min-replicas-to-write to 1, and min-replicas-max-lag below the time after which Sentinel takes a server for dead",
);

const UNREPLICATED: Finding = known(
    Severity::Critical,
    "redis_unreplicated",
    "changes of sessions wait for a replica of redis (UNDERSTUDY_SESSION_DURABILITY is replicated), and there is none: no change is acknowledged",
    "add a replica, or set UNDERSTUDY_SESSION_DURABILITY to stored",
);

const fn known(
    severity: Severity,
    code: &'static str,
    text: &'static str,
    fix: &'static str,
) -> Finding {
    let (code, text, fix) = (Cow::Borrowed(code), Cow::Borrowed(text), Cow::Borrowed(fix));
    Finding { code, severity, text, fix }
}

/// Reads a value out of the text of `INFO`.
pub(crate) fn value<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Reads the text of `INFO`.
pub(super) fn judge(info: &str, topology: &Topology) -> Vec<Finding> {
    let value = |name: &str| value(info, name);
    let number = |name| value(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let major = value("redis_version").and_then(|text| text.split('.').next()?.parse::<u32>().ok());
    let replicas = number("connected_slaves");
    let evicts = number("maxmemory") > 0 && value("maxmemory_policy") != Some("noeviction");
    // The server shows how many replicas are good only if it waits for any.
    let waits = value("min_slaves_good_slaves").is_some();
    // A Cluster stops the minority by itself.
    let splits = replicas > 0 && !waits && *topology != Topology::Cluster;
    let forgets = replicas == 0 && value("aof_enabled") == Some("0");
    let all = [
        (major.is_some_and(|major| major < 6), TOO_OLD),
        (evicts, EVICTS),
        (forgets, FORGETS),
        (splits, SPLITS),
    ];
    all.into_iter().filter_map(|(found, finding)| found.then_some(finding)).collect()
}

/// Says of the text of `INFO` of a server whose changes a replica must have that there is none.
pub(super) fn unreplicated(info: &str) -> Option<Finding> {
    (value(info, "connected_slaves") == Some("0")).then_some(UNREPLICATED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(info: &str, topology: &Topology) -> Vec<Cow<'static, str>> {
        judge(info, topology).into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn k10_what_would_lose_sessions_is_found() {
        let good = "redis_version:7.0.15\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:1\r\nconnected_slaves:0\r\n";
        assert_eq!(codes(good, &Topology::Standalone), [""; 0]);
        let bad = "redis_version:5.0.3\r\nmaxmemory:100\r\nmaxmemory_policy:volatile-ttl\r\naof_enabled:0\r\nconnected_slaves:0\r\n";
        assert_eq!(
            codes(bad, &Topology::Standalone),
            ["redis_too_old", "redis_evicts", "redis_forgets"]
        );
        let replicated = "redis_version:7.0.15\r\naof_enabled:0\r\nconnected_slaves:2\r\n";
        let sentinel = Topology::Sentinel { service: "prime".to_owned() };
        assert_eq!(codes(replicated, &sentinel), ["redis_splits"]);
        assert_eq!(codes(replicated, &Topology::Cluster), [""; 0]);
        let waiting = format!("{replicated}min_slaves_good_slaves:2\r\n");
        assert_eq!(codes(&waiting, &sentinel), [""; 0]);
        assert_eq!(
            unreplicated(good).map(|finding| finding.code),
            Some("redis_unreplicated".into())
        );
        assert!(unreplicated(replicated).is_none());
    }
}
