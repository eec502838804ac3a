//! Checks of Redis: whether it answers, what it would lose, and how it is doing.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Check, Outcome, Patient, over};
use crate::config::{Durability, RedisConfig, Topology};
use crate::problems::TOLERATED_MS;
use crate::redis::findings::value;
use crate::redis::{Redis, Reply};
use crate::service::NodeContext;

/// How long a server may take to tell of itself.
const LIMIT: Duration = Duration::from_secs(2);
/// A round trip that takes longer is felt by every request that writes.
const SLOW: Duration = Duration::from_millis(50);
/// From so much of the memory in use on, an operator should know, and act; per cent.
const MUCH: u64 = 80;
const TOO_MUCH: u64 = 95;
/// A replica that has heard nothing for longer is behind, s.
const LAG_S: u64 = 10;

/// A Redis that the cluster stands on.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) redis: Redis,
    pub(super) config: Option<RedisConfig>,
    /// What it tells of itself, or why it does not.
    info: Result<String, String>,
    /// How long it took to tell.
    took: Duration,
    /// Whether changes of sessions wait for a replica of it.
    needs_replica: bool,
}

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "redis_reachable",
        title: "Redis answers",
        fix: "start Redis, or mend what is between: address, firewall, password, TLS",
        run: |patient| Box::pin(reachable(patient)),
    },
    Check {
        code: "redis_version",
        title: "Version of Redis",
        fix: "use Redis 7 or newer, or Valkey",
        run: |patient| Box::pin(of_info(patient, |_, info| version(info))),
    },
    Check {
        code: "redis_eviction",
        title: "Redis keeps what it was given",
        fix: "set maxmemory-policy to noeviction",
        run: |patient| Box::pin(of_info(patient, |_, info| eviction(info))),
    },
    Check {
        code: "redis_persistence",
        title: "Redis survives a restart",
        fix: "set appendonly to yes, or keep sessions in the database as well (UNDERSTUDY_SESSION_PERSIST)",
        run: |patient| Box::pin(persistence(patient)),
    },
    Check {
        code: "redis_replicas",
        title: "Writes wait for replicas",
        fix: "set min-replicas-to-write to 1, and min-replicas-max-lag below the time after which Sentinel takes a server for dead",
        run: |patient| Box::pin(of_info(patient, replicas)),
    },
    Check {
        code: "redis_replica_lag",
        title: "Replicas keep up",
        fix: "look at the load of the replicas and at the network to them",
        run: |patient| Box::pin(of_info(patient, |_, info| replica_lag(info))),
    },
    Check {
        code: "redis_memory",
        title: "Memory of Redis",
        fix: "raise maxmemory or give the machine more memory; fewer or smaller sessions help too",
        run: |patient| Box::pin(of_info(patient, |_, info| memory(info))),
    },
    Check {
        code: "redis_tls",
        title: "Encryption to Redis",
        fix: "use a rediss:// address or UNDERSTUDY_REDIS_TLS=true; sessions travel on this connection",
        run: |patient| Box::pin(std::future::ready(encryption(patient))),
    },
    Check {
        code: "redis_clock",
        title: "Clock against Redis",
        fix: "let a time server (chrony, systemd-timesyncd) keep the clocks of all machines",
        run: |patient| Box::pin(clock(patient)),
    },
];

/// Asks the Redis of the cluster, and that of the sessions if it is another, what they tell of themselves.
pub(super) async fn servers(node: &NodeContext) -> Vec<Server> {
    let main = node.redis.clone().map(|redis| ("redis", redis, node.config.redis.clone()));
    let is_other = |redis: &&Redis| node.redis.as_ref().is_none_or(|main| !main.is_same(redis));
    let sessions = node.lease_redis.as_ref().filter(is_other).cloned();
    let sessions =
        sessions.map(|redis| ("redis of the sessions", redis, node.config.session.redis.clone()));
    let mut servers = Vec::new();
    for (name, redis, config) in [main, sessions].into_iter().flatten() {
        let begun = Instant::now();
        let info = match timeout(LIMIT, redis.info("default")).await {
            Ok(info) => info.map_err(|error| error.to_string()),
            Err(_elapsed) => Err(format!("no answer within {} s", LIMIT.as_secs())),
        };
        let has_sessions = node.lease_redis.as_ref().is_some_and(|it| it.is_same(&redis));
        let durability = node.config.session.persist.durability;
        let needs_replica = has_sessions && durability == Durability::Replicated;
        servers.push(Server { name, redis, config, info, took: begun.elapsed(), needs_replica });
    }
    servers
}

/// Judges what each server tells of itself; of one that does not answer nothing can be said.
async fn of_info(patient: &Patient, judge: fn(&Server, &str) -> Outcome) -> Outcome {
    over(patient.redis.iter().map(|server| match &server.info {
        Ok(info) => (server.name, judge(server, info)),
        Err(_) => (server.name, no_answer()),
    }))
}

pub(super) fn no_answer() -> Outcome {
    Outcome::skipped("it does not answer")
}

async fn reachable(patient: &Patient) -> Outcome {
    if patient.redis.is_empty() {
        return Outcome::skipped("a node without a cluster has no Redis");
    }
    over(patient.redis.iter().map(|server| {
        let took_ms = server.took.as_secs_f64() * 1_000.0;
        let outcome = match &server.info {
            Err(why) => Outcome::critical(why.clone()),
            Ok(_) if server.took > SLOW => {
                Outcome::warning(format!("it answers, but only after {took_ms:.1} ms"))
                    .fix("look at the load of Redis and at the network: every write waits so long")
            }
            Ok(_) => Outcome::ok(format!("an answer after {took_ms:.1} ms")),
        };
        (server.name, outcome)
    }))
}

fn version(info: &str) -> Outcome {
    if let Some(valkey) = value(info, "valkey_version") {
        return Outcome::ok(format!("Valkey {valkey}"));
    }
    let Some(version) = value(info, "redis_version") else {
        return Outcome::warning("it does not tell its version");
    };
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(7..) => Outcome::ok(format!("Redis {version}")),
        Some(6) => {
            Outcome::warning(format!("Redis {version} works, but leases fail when it is full"))
        }
        Some(_) | None => Outcome::critical(format!("Redis {version} is too old")),
    }
}

fn eviction(info: &str) -> Outcome {
    let policy = value(info, "maxmemory_policy").unwrap_or("unknown");
    let limit = number(info, "maxmemory");
    match (policy, limit) {
        ("noeviction", _) => Outcome::ok("noeviction"),
        (policy, 0) => {
            Outcome::ok(format!("{policy}, but without a limit (maxmemory 0) nothing is evicted"))
        }
        (policy, _) => Outcome::critical(format!(
            "when it is full it evicts keys ({policy}): sessions would vanish"
        )),
    }
}

async fn persistence(patient: &Patient) -> Outcome {
    let mut found = Vec::new();
    for server in &patient.redis {
        let outcome = match &server.info {
            Ok(info) => keeps(server, info).await,
            Err(_) => no_answer(),
        };
        found.push((server.name, outcome));
    }
    over(found.into_iter())
}

async fn keeps(server: &Server, info: &str) -> Outcome {
    let says = |name: &str, word: &str| value(info, name) == Some(word);
    if says("aof_enabled", "1") {
        if says("aof_last_write_status", "err") {
            return Outcome::critical("the last write to its log failed (aof_last_write_status)")
                .fix("look at its disk: full, read-only, or broken");
        }
        return Outcome::ok("each write is in its log (appendonly yes)");
    }
    if says("rdb_last_bgsave_status", "err") {
        return Outcome::critical("its last snapshot failed (rdb_last_bgsave_status)")
            .fix("look at its disk: full, read-only, or broken");
    }
    let snapshots = match setting(&server.redis, "save").await {
        Some(save) if save.is_empty() => "nothing is kept on disk",
        Some(_) => "there are snapshots only, so what was written since the last one is lost",
        None => {
            "its log is off (appendonly no); whether there are snapshots is not told to this user"
        }
    };
    Outcome::warning(format!(
        "{snapshots}: a restart loses what neither a living node nor the database holds"
    ))
}

/// Reads a setting of the server; nothing when the user may not.
pub(super) async fn setting(redis: &Redis, name: &str) -> Option<String> {
    let reply = redis.command("CONFIG", vec!["GET", name]).await.ok()?;
    match reply {
        Reply::Map(map) => map.inner().into_values().next().and_then(|value| value.as_string()),
        Reply::Array(pair) => pair.get(1).and_then(Reply::as_string),
        // No other kind of answer has a setting in it.
        Reply::Boolean(_)
        | Reply::Integer(_)
        | Reply::Double(_)
        | Reply::String(_)
        | Reply::Bytes(_)
        | Reply::Null
        | Reply::Queued => None,
    }
}

fn replicas(server: &Server, info: &str) -> Outcome {
    if server.needs_replica && number(info, "connected_slaves") == 0 {
        return Outcome::critical(
            "it has no replica, and changes of sessions wait for one: none is acknowledged",
        )
        .fix("add a replica, or set UNDERSTUDY_SESSION_DURABILITY to stored");
    }
    if *server.redis.topology() == Topology::Cluster {
        return Outcome::skipped("in a Cluster the minority stops by itself");
    }
    match (number(info, "connected_slaves"), value(info, "min_slaves_good_slaves")) {
        (0, None) => Outcome::skipped("it has no replicas"),
        (0, Some(_)) => Outcome::critical("it waits for replicas and has none: it takes no writes")
            .fix("start the replicas, or set min-replicas-to-write to 0"),
        (count, Some(good)) => {
            Outcome::ok(format!("{good} of {count} replicas are good, and writes wait for some"))
        }
        (count, None) => Outcome::warning(format!(
            "it has {count} replicas but acknowledges writes without them: an old primary that is cut off would go \
             on, and what it acknowledges is lost"
        )),
    }
}

fn replica_lag(info: &str) -> Outcome {
    let count = number(info, "connected_slaves");
    if count == 0 {
        return Outcome::skipped("it has no replicas");
    }
    let mut behind = Vec::new();
    for place in 0..count {
        let Some(line) = value(info, &format!("slave{place}")) else { continue };
        let part = |name: &str| {
            line.split(',')
                .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
                .unwrap_or_default()
        };
        let lag: u64 = part("lag").parse().unwrap_or(0);
        if part("state") != "online" || lag > LAG_S {
            behind.push(format!("{}:{} ({}, {lag} s)", part("ip"), part("port"), part("state")));
        }
    }
    if behind.is_empty() {
        return Outcome::ok(format!("{count} replicas, none more than {LAG_S} s behind"));
    }
    Outcome::warning(format!("behind: {}", behind.join(", ")))
}

fn memory(info: &str) -> Outcome {
    let (used, limit) = (number(info, "used_memory"), number(info, "maxmemory"));
    let (of, limit) = match limit {
        0 => ("the machine's memory", number(info, "total_system_memory")),
        limit => ("maxmemory", limit),
    };
    if limit == 0 {
        return Outcome::skipped("it does not tell how much there is");
    }
    let share = used.saturating_mul(100) / limit;
    let text = format!("{} MiB, {share} % of {of}", used / 1_048_576);
    match share {
        TOO_MUCH.. => Outcome::critical(text),
        MUCH.. => Outcome::warning(text),
        0.. => Outcome::ok(text),
    }
}

fn encryption(patient: &Patient) -> Outcome {
    let servers = patient.redis.iter().filter_map(|server| {
        let targets = &server.config.as_ref()?.targets;
        let far = targets.hosts.iter().find(|(host, _)| !is_loopback(host));
        let outcome = match far {
            _ if targets.tls => Outcome::ok("TLS"),
            None => Outcome::ok("no TLS, but it does not leave this machine"),
            Some((host, _)) => Outcome::warning(format!("no TLS to {host}")),
        };
        Some((server.name, outcome))
    });
    over(servers.collect::<Vec<_>>().into_iter())
}

/// Whether a name or address surely is of this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.starts_with('/')
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

async fn clock(patient: &Patient) -> Outcome {
    let node = patient.node();
    if patient.redis.is_empty() {
        return Outcome::skipped("a node without a cluster has no Redis");
    }
    let mut found = Vec::new();
    for server in &patient.redis {
        let before_ms = node.clock.wall_ms();
        let begun = Instant::now();
        let reply = server.redis.command("TIME", Vec::new()).await;
        let took_ms = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        let outcome = match reply.ok().and_then(|reply| time_ms(&reply)) {
            None => no_answer(),
            Some(there_ms) => offset(there_ms - signed(before_ms) - took_ms / 2, took_ms / 2 + 1),
        };
        found.push((server.name, outcome));
    }
    over(found.into_iter())
}

fn time_ms(reply: &Reply) -> Option<i64> {
    let Reply::Array(parts) = reply else { return None };
    let part = |place: usize| parts.get(place)?.as_string()?.parse::<i64>().ok();
    Some(part(0)? * 1_000 + part(1)? / 1_000)
}

/// Judges by how much a server's clock is ahead, ms, and how far that may be wrong.
pub(super) fn offset(ahead_ms: i64, doubt_ms: i64) -> Outcome {
    let side = if ahead_ms > 0 { "behind" } else { "ahead" };
    let text = format!("this node is {} ms {side}, give or take {doubt_ms} ms", ahead_ms.abs());
    if ahead_ms.abs() - doubt_ms > TOLERATED_MS {
        Outcome::warning(text)
    } else {
        Outcome::ok(text)
    }
}

pub(super) fn number(info: &str, name: &str) -> u64 {
    value(info, name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub(super) fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{Critical, Ok as Good, Skipped, Warning};
    use super::*;

    #[test]
    fn h7_versions_are_told_apart() {
        for (info, expected) in [
            ("redis_version:7.0.15", Good),
            ("redis_version:8.2.1", Good),
            ("redis_version:6.2.14", Warning),
            ("redis_version:5.0.3", Critical),
            ("redis_version:7.2.4\r\nvalkey_version:8.0.1", Good),
            ("", Warning),
        ] {
            assert_eq!(version(info).verdict, expected, "{info}");
        }
    }

    #[test]
    fn h7_a_server_that_evicts_is_critical_when_it_can_be_full() {
        for (info, expected) in [
            ("maxmemory:100\r\nmaxmemory_policy:noeviction", Good),
            ("maxmemory:0\r\nmaxmemory_policy:allkeys-lru", Good),
            ("maxmemory:100\r\nmaxmemory_policy:volatile-ttl", Critical),
        ] {
            assert_eq!(eviction(info).verdict, expected, "{info}");
        }
    }

    #[test]
    fn h7_memory_is_judged_by_the_limit_or_the_machine() {
        for (info, expected) in [
            ("used_memory:79\r\nmaxmemory:100", Good),
            ("used_memory:80\r\nmaxmemory:100", Warning),
            ("used_memory:95\r\nmaxmemory:100", Critical),
            ("used_memory:90\r\nmaxmemory:0\r\ntotal_system_memory:100", Warning),
            ("used_memory:90", Skipped),
        ] {
            assert_eq!(memory(info).verdict, expected, "{info}");
        }
    }

    #[test]
    fn h7_replicas_that_fall_behind_are_named() {
        let info = |lag: u32, state: &str| {
            format!(
                "connected_slaves:1\r\nslave0:ip=10.0.0.2,port=6379,state={state},offset=1,lag={lag}\r\n"
            )
        };
        assert_eq!(replica_lag(&info(1, "online")).verdict, Good);
        assert_eq!(replica_lag(&info(11, "online")).verdict, Warning);
        let found = replica_lag(&info(0, "wait_bgsave"));
        assert_eq!((found.verdict, found.text.contains("10.0.0.2:6379")), (Warning, true));
        assert_eq!(replica_lag("connected_slaves:0").verdict, Skipped);
    }

    #[test]
    fn h7_loopback_is_known_by_every_name() {
        for host in ["localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]", "/run/redis.sock"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["redis", "10.0.0.1", "localhost.evil.test", "::2", "0.0.0.0"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn h7_a_clock_is_wrong_only_as_far_as_it_is_sure() {
        assert_eq!(offset(500, 0).verdict, Good);
        assert_eq!(offset(-600, 200).verdict, Good);
        let wrong = offset(-900, 1);
        assert_eq!((wrong.verdict, wrong.text.contains("900 ms ahead")), (Warning, true));
    }
}
