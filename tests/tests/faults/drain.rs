//! Nodes are asked to leave, one or all in turn, and nobody notices.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;
use understudy_tests::{Client, Cluster, crowd, oracle, rounds, wait};

use super::ledger::{Account, Came, Ledger, turn};
use super::traffic::{Pace, STEADY, Tally, Traffic};

const LIMIT: Duration = Duration::from_secs(60);
/// Drain delay of the harness, and the time that requests and sessions may take.
const DEADLINE_MS: u128 = 32_500;

#[tokio::test(flavor = "multi_thread")]
async fn o2_sigterm_of_a_node_with_10000_sessions_fails_no_request() {
    let _turn = turn().await;
    let mut cluster = Cluster::builder()
        .nginx(true)
        // All are in memory when the node is told to stop, however long it took to make them.
        .env("UNDERSTUDY_SESSION_PASSIVATE_AFTER_MS", "3600000")
        .env("UNDERSTUDY_SESSION_ACTORS_MAX", "1000000")
        .start()
        .await;
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
    // Given back, not run out: whoever needs one of its sessions waits for no lease.
    let traces = cluster.traces_of(cluster.nodes[0].name());
    let (p50, p99) = first_touches(&idle, cluster.url(1)).await;
    ledger.mark().await;
    wait::until("traffic goes on", LIMIT, async || ledger.all_written_since_mark(3)).await;
    let tally = traffic.stop().await;
    oracle!("exit status", status.code().unwrap(), 0);
    oracle!("left after, ms", left, within DEADLINE_MS);
    oracle!("leases and list entries that it left behind", traces.len(), 0);
    oracle!("reads that failed", Tally::get(&tally.failed_reads), 0);
    oracle!("increments that failed", Tally::get(&tally.failed_writes), 0);
    oracle!("reads that were stale", Tally::get(&tally.stale), 0);
    ledger.is_exact(cluster.url(2)).await;
    oracle!("first touch elsewhere under load, p50 in ms", p50, within 50);
    // Far below a lease: nobody waits for one to end. The figure itself is of the benchmarks.
    oracle!("first touch elsewhere under load, p99 in ms", p99, within 500);
}

/// Ten thousand sessions at one node; a hundred thousand in a soak run.
async fn many(base: &str) -> Vec<Account> {
    let (http, start) = (Client::new(), Instant::now());
    let made =
        crowd(64, rounds(10_000, 100_000), async |_| Account::begin(http.stranger(), base).await)
            .await;
    let took = start.elapsed().as_millis();
    oracle::note(&format!("{} sessions made at one node in {took} ms", made.len()));
    made
}

/// How long the first request of 1,000 sessions takes elsewhere, in ms: p50 and p99.
async fn first_touches(accounts: &[Account], base: &str) -> (u128, u128) {
    let chosen: Vec<&Account> = accounts.iter().step_by(accounts.len() / 1_000).collect();
    let mut times = crowd(2, chosen.len(), async |number| {
        let sent = Instant::now();
        let (came, answer) = chosen[number].read(base).await;
        assert!(came == Came::Well, "{answer:?}");
        sent.elapsed().as_millis()
    })
    .await;
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_request_and_logs_nobody_out() {
    let _turn = turn().await;
    let mut cluster = Cluster::builder().nginx(true).start().await;
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
    oracle!("reads that were stale", Tally::get(&tally.stale), 0);
    let mut missing = 0;
    for (number, account) in ledger.accounts.iter().enumerate() {
        let answer = account.client.get(cluster.url(number % 3), "/whoami").await.unwrap();
        missing += usize::from(!answer.text.contains(&format!("user-{number}")));
    }
    oracle!("users of 9 who were logged out", missing, 0);
    ledger.is_exact(&balancer).await;
}

/// Every byte between the owner and Redis takes so long that operations are under way whenever the owner stops.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_with_operations_under_way_loses_and_repeats_none() {
    const BUSY: Pace =
        Pace { read_every: Duration::from_millis(100), write_every: Duration::from_millis(40) };
    let _turn = turn().await;
    let builder = Cluster::builder().proxies().env("UNDERSTUDY_OPS_DRAIN_DELAY_MS", "0");
    let mut cluster = builder.start().await;
    let ledger = Ledger::begin(cluster.url(0), 12).await;
    let (second, third) = (cluster.url(1).to_owned(), cluster.url(2).to_owned());
    let traffic = Traffic::start(&ledger, &[&second, &third], BUSY);
    cluster.proxies[0].redis.delay(Duration::from_millis(80));
    ledger.mark().await;
    wait::until("traffic runs", LIMIT, async || ledger.all_written_since_mark(3)).await;
    cluster.nodes[0].terminate();
    assert!(cluster.nodes[0].wait_exit(LIMIT).await.success());
    ledger.mark().await;
    wait::until("traffic goes on", LIMIT, async || ledger.all_written_since_mark(3)).await;
    let tally = traffic.stop().await;
    oracle!("reads that failed", Tally::get(&tally.failed_reads), 0);
    oracle!("increments that failed", Tally::get(&tally.failed_writes), 0);
    oracle!("reads that were stale", Tally::get(&tally.stale), 0);
    ledger.is_exact(&second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_ends_holds_up_nobody_elsewhere() {
    let _turn = turn().await;
    let builder = Cluster::builder()
        .env("UNDERSTUDY_OPS_DRAIN_DELAY_MS", "0")
        .env("UNDERSTUDY_OPS_DRAIN_TIMEOUT_MS", "2000");
    let mut cluster = builder.start().await;
    let ledger = Ledger::begin(cluster.url(0), 6).await;
    let (second, third) = (cluster.url(1).to_owned(), cluster.url(2).to_owned());
    let traffic = Traffic::start(&ledger, &[&second, &third], STEADY);
    ledger.mark().await;
    wait::until("traffic runs", LIMIT, async || ledger.all_written_since_mark(3)).await;
    let address = cluster.url(0).trim_start_matches("http://").to_owned();
    let mut stuck = TcpStream::connect(&address).await.unwrap();
    let request = format!("GET /sleep?ms=50000 HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stuck.write_all(request.as_bytes()).await.unwrap();
    // Connections are taken in their order, so after this answer that request is under way, or is about to be.
    Client::new().get(cluster.url(0), "/nothing").await.unwrap().expect(200);
    traffic.tally().forget_slowest();
    let told = Instant::now();
    cluster.nodes[0].terminate();
    let status = cluster.nodes[0].wait_exit(LIMIT).await;
    oracle!("it was waited for, ms", told.elapsed().as_millis(), >= 2_000);
    ledger.mark().await;
    wait::until("traffic goes on", LIMIT, async || ledger.all_written_since_mark(3)).await;
    oracle!("exit status", status.code().unwrap(), 0);
    let slowest = traffic.tally().slowest_write_ms();
    let tally = traffic.stop().await;
    oracle!("slowest increment elsewhere while it left, ms", slowest, within 1_000);
    oracle!("reads that failed", Tally::get(&tally.failed_reads), 0);
    oracle!("increments that failed", Tally::get(&tally.failed_writes), 0);
    ledger.is_exact(&second).await;
}
