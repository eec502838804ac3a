//! Nodes are asked to leave, one or all in turn, and nobody notices.

use std::time::Duration;

use tokio::time::Instant;
use understudy_tests::{Client, Cluster, ClusterBuilder, crowd, oracle, wait};

use super::ledger::{Account, Came, Ledger, turn};
use super::traffic::{STEADY, Tally, Traffic};

const LIMIT: Duration = Duration::from_secs(60);
/// Drain delay of the harness, and the time that requests and sessions may take.
const DEADLINE_MS: u128 = 32_500;
/// nginx asks a node that refused again after one to two seconds. Had the node closed its idle connections at that very
/// moment, a POST could get lost in one of them; after 2.5 s it has just been told again to go elsewhere.
const DRAIN_DELAY_MS: &str = "2500";

#[tokio::test(flavor = "multi_thread")]
async fn o2_sigterm_of_a_node_with_10000_sessions_fails_no_request() {
    let _turn = turn().await;
    let mut cluster = draining().start().await;
    let balancer = cluster.balancer();
    let idle = many(cluster.url(0)).await;
    let ledger = Ledger::begin(cluster.url(0), 12).await;
    let traffic = Traffic::start(&ledger, &[&balancer], STEADY);
    ledger.mark().await;
    wait::until("traffic runs", LIMIT, async || ledger.all_written_since_mark(3)).await;
    let told = Instant::now();
    cluster.nodes[0].terminate();
    let status = cluster.nodes[0].wait_exit(LIMIT).await;
    let left = told.elapsed().as_millis();
    ledger.mark().await;
    wait::until("traffic goes on", LIMIT, async || ledger.all_written_since_mark(3)).await;
    let tally = traffic.stop().await;
    oracle!("exit status", status.code().unwrap(), 0);
    oracle!("left after, ms", left, <= DEADLINE_MS);
    oracle!("reads that failed", Tally::get(&tally.failed_reads), 0);
    oracle!("increments that failed", Tally::get(&tally.failed_writes), 0);
    oracle!("reads that were stale", Tally::get(&tally.stale), 0);
    ledger.is_exact(cluster.url(2)).await;
    let (p50, p99) = first_touches(&idle, cluster.url(1)).await;
    oracle!("first touch elsewhere, p50 in ms", p50, <= 50);
    oracle!("first touch elsewhere, p99 in ms", p99, <= 50);
}

fn draining() -> ClusterBuilder {
    Cluster::builder().nginx(true).env("UNDERSTUDY_OPS_DRAIN_DELAY_MS", DRAIN_DELAY_MS)
}

/// Ten thousand sessions at one node, or as many as 20 s allow: a development build on a busy machine makes fewer.
async fn many(base: &str) -> Vec<Account> {
    const WANTED: usize = 10_000;
    let (http, start) = (Client::new(), Instant::now());
    let made = crowd(64, WANTED, async |_| {
        if start.elapsed() > Duration::from_secs(20) {
            return None;
        }
        Some(Account::begin(http.stranger(), base).await)
    })
    .await;
    let accounts: Vec<Account> = made.into_iter().flatten().collect();
    let took = start.elapsed().as_millis();
    oracle::note(&format!("{} sessions made at one node in {took} ms", accounts.len()));
    oracle!("sessions that the node owns", accounts.len(), >= 1_000);
    accounts
}

/// How long the first request of 1,000 sessions takes elsewhere, in ms: p50 and p99 of five groups, the median of each,
/// so that one hiccup of a shared machine does not count.
async fn first_touches(accounts: &[Account], base: &str) -> (u128, u128) {
    let every = (accounts.len() / 1_000).max(1);
    let chosen: Vec<&Account> = accounts.iter().step_by(every).collect();
    // The first requests of a connection and of a script are slower; they are not what is measured.
    chosen[0].increment(base).await.1.unwrap().expect(200);
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for group in chosen[1..].chunks(chosen.len() / 5) {
        let mut times = crowd(2, group.len(), async |number| {
            let sent = Instant::now();
            let (came, answer) = group[number].read(base).await;
            assert!(came == Came::Well, "{answer:?}");
            sent.elapsed().as_millis()
        })
        .await;
        times.sort_unstable();
        p50.push(times[times.len() / 2]);
        p99.push(times[times.len() * 99 / 100]);
    }
    (median(p50), median(p99))
}

fn median(mut figures: Vec<u128>) -> u128 {
    figures.sort_unstable();
    figures[figures.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_request_and_logs_nobody_out() {
    let _turn = turn().await;
    let mut cluster = draining().start().await;
    let balancer = cluster.balancer();
    let ledger = Ledger::begin(&balancer, 9).await;
    for (number, account) in ledger.accounts.iter().enumerate() {
        let path = format!("/login?user=user-{number}");
        account.client.post(cluster.url(number % 3), &path).await.unwrap().expect(204);
    }
    let traffic = Traffic::start(&ledger, &[&balancer], STEADY);
    for node in 0..3 {
        ledger.mark().await;
        wait::until("traffic runs", LIMIT, async || ledger.all_written_since_mark(2)).await;
        cluster.nodes[node].terminate();
        assert!(cluster.nodes[node].wait_exit(LIMIT).await.success());
        let took = cluster.restart(node).await;
        oracle::note(&format!("node {node} ready again after {} ms", took.as_millis()));
    }
    ledger.mark().await;
    wait::until("traffic goes on", LIMIT, async || ledger.all_written_since_mark(2)).await;
    let tally = traffic.stop().await;
    oracle!("reads that failed", Tally::get(&tally.failed_reads), 0);
    oracle!("increments that failed", Tally::get(&tally.failed_writes), 0);
    // nginx does not ask for readiness: it finds out with a request, and does not repeat one that is a POST.
    let too_early = Tally::get(&tally.too_early_writes);
    oracle!("increments that nginx sent to a node which was still starting", too_early, <= 9);
    oracle!("reads that were stale", Tally::get(&tally.stale), 0);
    let mut missing = 0;
    for (number, account) in ledger.accounts.iter().enumerate() {
        let answer = account.client.get(cluster.url(number % 3), "/whoami").await.unwrap();
        missing += usize::from(!answer.text.contains(&format!("user-{number}")));
    }
    oracle!("users of 9 who were logged out", missing, 0);
    ledger.is_exact(&balancer).await;
}
