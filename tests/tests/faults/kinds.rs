//! The faults of the other files, in short, where Redis is not one plain server: over TLS, behind Sentinel, as a Cluster.
//!
//! The bounds are those of the other files, but for one that is told here.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use understudy_tests::{Client, Cluster, Data, Redis, Topology, crowd, oracle, wait};

use super::ledger::{Came, Ledger, turn};
use super::outage::tells_outage;
use super::traffic::{STEADY, Tally, Traffic};

const LIMIT: Duration = Duration::from_secs(60);
const SESSIONS: usize = 6;
/// The lease, and half a second.
const TAKEOVER_MS: u128 = 3_500;
/// Sessions of a node that was asked to leave are there at once: no lease is waited for, only the next request.
const LEFT_MS: u128 = 1_000;
/// When Redis comes back after an outage that may be longer than a lease, sessions are claimed anew, and that waits for one
/// lease: a node was killed and another one has left a moment ago, and they cannot say that they own nothing any more. A
/// second more is what the return takes by itself.
const BACK_MS: u128 = 4_000;

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_kill_pause_drain_and_outage_cost_nothing_acknowledged() {
    all_faults(Topology::Tls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_sentinel_kill_pause_drain_and_outage_cost_nothing_acknowledged() {
    all_faults(Topology::Sentinel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_redis_cluster_kill_pause_drain_and_outage_cost_nothing_acknowledged() {
    all_faults(Topology::Cluster).await;
}

/// One after the other on one cluster, since it takes longer to start than most of them do.
async fn all_faults(topology: Topology) {
    let _turn = turn().await;
    let redis = Redis::builder(topology).append_only();
    let mut cluster = Cluster::builder().redis_with(redis).start().await;
    killed(&mut cluster).await;
    cluster.nodes[0].start_again(); // it has the time of the next fault to come up
    paused(&cluster).await;
    cluster.nodes[0].ready(LIMIT).await;
    asked_to_leave(&mut cluster).await;
    without_redis(&mut cluster).await;
}

/// Sessions at a node, and traffic on them at others that has been through all of them.
async fn busy(owner: &str, others: &[&str]) -> (Arc<Ledger>, Traffic) {
    let ledger = Ledger::begin(owner, SESSIONS).await;
    let traffic = Traffic::start(&ledger, others, STEADY);
    ledger.mark().await;
    wait::until("traffic runs", LIMIT, async || ledger.all_written_since_mark(2)).await;
    (ledger, traffic)
}

/// Waits until each session was written again; returns how long after `since`.
async fn all_written(ledger: &Ledger, since: Instant) -> u128 {
    wait::until("all are written", LIMIT, async || ledger.all_written_since_mark(1)).await;
    since.elapsed().as_millis()
}

/// Demands that the traffic did not notice anything.
async fn nobody_noticed(traffic: Traffic) {
    let tally = traffic.stop().await;
    oracle!("reads that failed", Tally::get(&tally.failed_reads), 0);
    oracle!("increments that failed", Tally::get(&tally.failed_writes), 0);
    oracle!("reads that were stale", Tally::get(&tally.stale), 0);
}

async fn killed(cluster: &mut Cluster) {
    let (ledger, traffic) = busy(cluster.url(0), &[cluster.url(1), cluster.url(2)]).await;
    cluster.kill9(0);
    let since = ledger.mark().await;
    let took = all_written(&ledger, since).await;
    oracle!("all sessions written again after the kill, ms", took, within TAKEOVER_MS);
    nobody_noticed(traffic).await;
    ledger.is_exact(cluster.url(2)).await;
}

/// The owner stands still until others have its sessions, and is asked as soon as it wakes up.
async fn paused(cluster: &Cluster) {
    let (owner, other) = (cluster.url(1), cluster.url(2));
    let (ledger, traffic) = busy(owner, &[other]).await;
    cluster.nodes[1].stop();
    let since = ledger.mark().await;
    let took = all_written(&ledger, since).await;
    cluster.nodes[1].cont();
    let reads =
        crowd(SESSIONS, 100, async |number| ledger.accounts[number % SESSIONS].read(owner).await.0)
            .await;
    oracle!("all sessions written elsewhere after the stop, ms", took, within TAKEOVER_MS);
    let stale = reads.iter().filter(|came| **came == Came::Stale).count();
    oracle!("answers of 100 older than the last acknowledged write", stale, 0);
    nobody_noticed(traffic).await;
    wait::until("it answers as it should", LIMIT, async || {
        Client::new().get(owner, "/readyz").await.is_ok_and(|answer| answer.status == 200)
            && ledger.accounts[0].read(owner).await.0 == Came::Well
    })
    .await;
    ledger.is_exact(owner).await;
}

async fn asked_to_leave(cluster: &mut Cluster) {
    let (ledger, traffic) = busy(cluster.url(0), &[cluster.url(1), cluster.url(2)]).await;
    cluster.nodes[0].terminate();
    assert!(cluster.nodes[0].wait_exit(LIMIT).await.success());
    let since = ledger.mark().await;
    let took = all_written(&ledger, since).await;
    oracle!("all sessions written again after the node has left, ms", took, within LEFT_MS);
    oracle!("leases and list entries that it left behind", cluster.traces_of("node-a").len(), 0);
    nobody_noticed(traffic).await;
    ledger.is_exact(cluster.url(1)).await;
}

/// The second and the third node are left.
async fn without_redis(cluster: &mut Cluster) {
    let ledger = Ledger::begin(cluster.url(1), SESSIONS).await;
    cluster.redis.kill();
    let answers = crowd(2 * SESSIONS, 2 * SESSIONS, async |number| {
        let base = cluster.url(1 + number / SESSIONS);
        let sent = Instant::now();
        let answer = ledger.accounts[number % SESSIONS].increment(base).await.1.unwrap();
        (tells_outage(&answer), sent.elapsed())
    })
    .await;
    let untold = answers.iter().filter(|(told, _)| !told).count();
    let slowest = answers.iter().map(|(_, took)| took.as_millis()).max().unwrap();
    oracle!("answers that are not 503 with Retry-After and without a cookie", untold, 0);
    oracle!("slowest of them, ms", slowest, within 1_000);
    cluster.redis.restart(Data::Kept).await;
    let back = Instant::now();
    crowd(SESSIONS, SESSIONS, async |number| {
        for base in [cluster.url(1), cluster.url(2)] {
            wait::until("the session is written", LIMIT, async || {
                ledger.accounts[number].increment(base).await.0 == Came::Well
            })
            .await;
        }
    })
    .await;
    let took = back.elapsed().as_millis();
    oracle!("all sessions written at both nodes after Redis came back, ms", took, within BACK_MS);
    ledger.is_exact(cluster.url(2)).await;
}
