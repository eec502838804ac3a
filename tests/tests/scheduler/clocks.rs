//! Clocks that are wrong and jump: those of nodes, and that of Redis.

use std::time::Duration;

use tokio::time::Instant;
use understudy_tests::{Cluster, oracle, wait};

use super::stage::{LIMIT, Stage, TTL, options, soon_orphaned};

// The library that lies to a node about the time is put before it by the loader of Linux.
#[cfg(target_os = "linux")]
#[path = "clocks/nodes.rs"]
mod nodes;

/// Debian's Redis cannot be lied to: its allocator asks for the time before the library that lies is ready. So this does
/// to the lease what a jump does to it: forward by a lease it is over, back by an hour it has an hour more.
#[tokio::test(flavor = "multi_thread")]
async fn a_jump_of_the_clock_of_redis_costs_no_leader() {
    let mut stage = Stage::with(soon_orphaned(options(Cluster::builder()))).await;
    stage.with_patient_probe().await;
    let lead = stage.agreed().await;
    let key = lease_key(&stage);
    for _ in 0..3 {
        stage.cluster.redis.cli(&["PEXPIRE", &key, "0"]);
        stage.goes_on().await;
        left_is_usual(&stage, &key).await;
    }
    stage.cluster.redis.cli(&["PEXPIRE", &key, "3600000"]);
    let jumped = Instant::now();
    left_is_usual(&stage, &key).await;
    let usual = jumped.elapsed().as_millis();
    oracle!("after a jump back the lease is as long as usual after, ms", usual, within TTL.as_millis() / 2);
    stage.goes_on().await;
    let after = stage.agreed().await;
    oracle!("terms begun while the leader lived", after.epoch - lead.epoch, 0);
    stage.cluster.kill9(lead.node);
    let killed = Instant::now();
    wait::until("another leads", LIMIT, async || {
        stage.leads().await.is_some_and(|other| other != lead.node)
    })
    .await;
    let gap = killed.elapsed().as_millis();
    oracle!("another leads after kill -9, ms", gap, within(TTL * 2).as_millis());
    stage.goes_on().await;
    stage.cluster.restart(lead.node).await;
    stage.settle("probe").await;
}

fn lease_key(stage: &Stage) -> String {
    let keys = stage.cluster.redis.all_keys();
    keys.into_iter().find(|key| key.ends_with("{leader}:lease")).expect("there is a leader")
}

/// Waits until the lease is there, and no longer than leases are.
async fn left_is_usual(stage: &Stage, key: &str) {
    let ttl = i64::try_from(TTL.as_millis()).expect("a lease is short");
    wait::poll("the lease is as long as usual", LIMIT, Duration::from_millis(20), async || {
        let left: i64 = stage.cluster.redis.cli(&["PTTL", key]).trim().parse().ok()?;
        (0..=ttl).contains(&left).then_some(())
    })
    .await;
}
