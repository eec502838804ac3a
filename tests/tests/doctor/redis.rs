//! What is found about Redis when it is set or used wrongly.

use understudy_tests::{Cluster, Redis, Topology, oracle, wait};

use super::ground::{LIMIT, Stage, check, found, gone, problem, told};

/// What the documentation asks for.
const RIGHTS: &str = "~us:* &us:* +@all -@dangerous +info";

fn modest() -> understudy_tests::RedisBuilder {
    Redis::builder(Topology::Standalone).append_only().user("app", "app-password", RIGHTS)
}

#[tokio::test(flavor = "multi_thread")]
async fn h7_a_redis_as_the_documentation_asks_for_is_well_and_each_wrong_setting_is_found() {
    let stage = Stage::with(Cluster::builder().nodes(2).redis_with(modest())).await;
    let (node, redis) = (stage.node(0), &stage.cluster.redis);
    let examination = told(node, "/v1/diag").await;
    let checks = examination["checks"].as_array().unwrap();
    oracle!("checks", checks.len(), >= 20);
    let of_redis = checks.iter().filter(|it| it["code"].as_str().unwrap().starts_with("redis_"));
    let unwell: Vec<String> = of_redis
        .filter(|it| !matches!(it["result"].as_str().unwrap(), "ok" | "skipped"))
        .map(ToString::to_string)
        .collect();
    oracle!("checks of a good Redis that are not well", unwell.join("\n"), "");
    for code in ["bus_self", "bus_nodes", "leases", "ready", "services", "session_keys", "leader"] {
        assert_eq!(check(&examination, code)["result"], "ok", "{}", check(&examination, code));
    }
    redis.cli(&["CONFIG", "SET", "maxmemory", "200mb"]);
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    found(node, "redis_eviction", "critical").await;
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    found(node, "redis_eviction", "ok").await;
    redis.cli(&["CONFIG", "SET", "appendonly", "no"]);
    found(node, "redis_persistence", "warning").await;
    let used = redis.cli(&["INFO", "memory"]);
    let used = used.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    let limit = used.trim().parse::<u64>().unwrap() * 115 / 100;
    redis.cli(&["CONFIG", "SET", "maxmemory", &limit.to_string()]);
    found(node, "redis_memory", "warning").await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn h7_rights_that_are_missing_or_too_many_are_found() {
    let stage = Stage::with(Cluster::builder().nodes(2).redis_with(modest())).await;
    let (node, redis) = (stage.node(0), &stage.cluster.redis);
    found(node, "redis_acl", "ok").await;
    redis.cli(&["ACL", "SETUSER", "app", "-zadd"]);
    let write = found(node, "redis_write", "critical").await;
    assert!(write["text"].as_str().unwrap().contains("can't run this command"), "{write}");
    redis.cli(&["ACL", "SETUSER", "app", "+zadd"]);
    found(node, "redis_write", "ok").await;
    // Whoever may change settings may do the rest too.
    redis.cli(&["ACL", "SETUSER", "app", "+@all"]);
    let acl = found(node, "redis_acl", "warning").await;
    for part in ["app", "config", "flushall", "keys"] {
        assert!(acl["text"].as_str().unwrap().contains(part), "{part} in {acl}");
    }
    redis.cli(&["ACL", "SETUSER", "app", "-keys"]);
    let acl = found(node, "redis_acl", "warning").await;
    assert!(!acl["text"].as_str().unwrap().contains("keys"), "it is asked, not supposed: {acl}");
    // Nobody is heard any more who may not listen.
    redis.cli(&["ACL", "SETUSER", "app", "resetchannels"]);
    found(node, "bus_self", "critical").await;
    redis.cli(&["ACL", "SETUSER", "app", "&us:*"]);
    found(node, "bus_self", "ok").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h7_replicas_that_nobody_waits_for_or_that_fall_behind_are_found() {
    let replica = Redis::standalone().await;
    let builder = Cluster::builder().nodes(2).env("UNDERSTUDY_SESSION_DURABILITY", "replicated");
    let stage = Stage::with(builder).await;
    let port = stage.cluster.redis.primary_port().to_string();
    // Changes of sessions wait for a replica that is not there.
    found(stage.node(0), "redis_replicas", "critical").await;
    wait::until("it is told", LIMIT, async || {
        problem(stage.node(1), "redis_unreplicated", "").await.is_some()
    })
    .await;
    replica.cli(&["REPLICAOF", "127.0.0.1", &port]);
    let replicas = found(stage.node(0), "redis_replicas", "warning").await;
    assert!(replicas["fix"].as_str().unwrap().contains("min-replicas-to-write"), "{replicas}");
    // The settings of servers are looked at only now and then.
    wait::until("it is told", LIMIT, async || {
        problem(stage.node(1), "redis_splits", "").await.is_some()
    })
    .await;
    found(stage.node(0), "redis_replica_lag", "ok").await;
    stage.cluster.redis.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    found(stage.node(0), "redis_replicas", "ok").await;
    stage.cluster.redis.cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    replica.pause();
    found(stage.node(0), "redis_replica_lag", "warning").await;
    replica.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn h7_a_redis_that_is_silent_costs_the_other_checks_nothing() {
    let stage = Stage::of(2).await;
    stage.cluster.redis.pause();
    let begun = tokio::time::Instant::now();
    let reachable = found(stage.node(0), "redis_reachable", "critical").await;
    oracle!("it is found after, ms", begun.elapsed().as_millis(), within 15_000);
    assert!(!reachable["text"].as_str().unwrap().is_empty());
    found(stage.node(0), "leases", "critical").await;
    let ready = found(stage.node(0), "ready", "critical").await;
    assert!(ready["text"].as_str().unwrap().contains("redis"), "{ready}");
    let examination = told(stage.node(0), "/v1/diag").await;
    assert_eq!(check(&examination, "database_reachable")["result"], "ok");
    stage.cluster.redis.resume();
    found(stage.node(0), "redis_reachable", "ok").await;
    gone(stage.node(0), "not_ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h7_settings_that_lose_sessions_are_told_without_asking() {
    let redis = Redis::builder(Topology::Standalone)
        .config_line("maxmemory 200mb")
        .config_line("maxmemory-policy allkeys-lru");
    let stage = Stage::with(Cluster::builder().nodes(2).redis_with(redis)).await;
    let evicts = stage.all_tell("redis_evicts", "").await;
    assert_eq!(evicts["severity"], "critical");
    assert_eq!(evicts["nodes"].as_array().unwrap().len(), 2, "{evicts}");
    stage.all_tell("redis_forgets", "").await;
}
