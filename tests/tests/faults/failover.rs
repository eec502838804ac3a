//! Redis loses a server: a replica takes over, or a part of a Cluster is away.

use std::time::Duration;

use tokio::time::Instant;
use understudy_tests::{Cluster, Data, Topology, oracle, wait};

use super::ledger::{Ledger, acquainted, turn};
use super::traffic::{STEADY, Tally, Traffic};

const LIMIT: Duration = Duration::from_secs(30);
/// Not ours: a second until the sentinels of the harness call the primary dead, then a vote; a vote that fails, as on a
/// machine where all of them wake up at the same time, is repeated after twice the failover time-out of 2 s. This leaves
/// room for three of them.
const ELECTION_MS: u128 = 15_000;
/// After the election: one lease, should the nodes not come to terms on the new server sooner; a second for what was lost
/// to be put back; and the half second until the traffic here asks again after a refusal.
const AFTER_ELECTION_MS: u128 = 4_500;
/// After the server answers again: two seconds in which Redis itself refuses writes after a start (its
/// `CLUSTER_WRITABLE_DELAY`); two until the owner has put back what it owns there, as on one Redis that comes back
/// empty; and one until the traffic here asks again, whose last request may just have been refused.
const PART_BACK_MS: u128 = 5_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_loses_no_acknowledged_write_of_a_living_owner() {
    let _turn = turn().await;
    let mut cluster = Cluster::builder().redis(Topology::Sentinel).start().await;
    acquainted(Instant::now()).await;
    let ledger = Ledger::begin(cluster.url(0), 12).await;
    let bases = [cluster.url(0), cluster.url(1), cluster.url(2)];
    let traffic = Traffic::start(&ledger, &bases, STEADY);
    ledger.mark().await;
    wait::until("traffic runs", LIMIT, async || ledger.all_written_since_mark(3)).await;
    let old = cluster.redis.primary_port();
    cluster.redis.kill_primary();
    let killed = ledger.mark().await;
    let elected = cluster.redis.new_primary(old, LIMIT).await;
    wait::until("all sessions are written", LIMIT, async || ledger.all_written_since_mark(1)).await;
    let took = killed.elapsed();
    for node in &cluster.nodes {
        let memory = node.usage().resident_bytes / 1_048_576;
        oracle!(&format!("memory of {} in MiB", node.name()), memory, <= 300);
    }
    oracle!("another primary after, ms", elected.as_millis(), <= ELECTION_MS);
    let beyond = took.saturating_sub(elected).as_millis();
    oracle!("of that after the election, ms", beyond, <= AFTER_ELECTION_MS);
    let tally = traffic.stop().await;
    oracle!("reads that were stale", Tally::get(&tally.stale), 0);
    ledger.is_exact(cluster.url(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_node_that_comes_back_empty_gets_its_sessions_back() {
    let _turn = turn().await;
    let mut cluster = Cluster::builder().redis(Topology::Cluster).start().await;
    acquainted(Instant::now()).await;
    let ledger = Ledger::begin(cluster.url(0), 12).await;
    let bases = [cluster.url(0), cluster.url(1), cluster.url(2)];
    let traffic = Traffic::start(&ledger, &bases, STEADY);
    ledger.mark().await;
    wait::until("traffic runs", LIMIT, async || ledger.all_written_since_mark(3)).await;
    cluster.redis.servers()[1].kill();
    let failed = |traffic: &Traffic| Tally::get(&traffic.tally().failed_writes);
    wait::until("the loss is felt", LIMIT, async || failed(&traffic) > 0).await;
    cluster.redis.servers()[1].restart(Data::Lost).await;
    let back = ledger.mark().await;
    wait::until("all sessions are written", LIMIT, async || ledger.all_written_since_mark(1)).await;
    let took = back.elapsed().as_millis();
    oracle!("all sessions written again after the server came back, ms", took, <= PART_BACK_MS);
    let tally = traffic.stop().await;
    oracle!("reads that were stale", Tally::get(&tally.stale), 0);
    ledger.is_exact(cluster.url(1)).await;
}
