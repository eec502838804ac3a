//! A node is gone from one moment to the next.

use std::time::Duration;

use understudy_tests::{Cluster, oracle, wait};

use super::ledger::{Ledger, turn};
use super::traffic::{STEADY, Tally, Traffic};

/// The lease, and half a second.
const TAKEOVER_MS: u128 = 3_500;
const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_owner_costs_no_read_and_no_acknowledged_write() {
    let _turn = turn().await;
    let mut cluster = Cluster::builder().start().await;
    let ledger = Ledger::begin(cluster.url(0), 12).await;
    let traffic = Traffic::start(&ledger, &[cluster.url(1), cluster.url(2)], STEADY);
    ledger.mark().await;
    wait::until("traffic runs", LIMIT, async || ledger.all_written_since_mark(3)).await;
    traffic.tally().forget_slowest();
    cluster.kill9(0);
    let killed = ledger.mark().await;
    wait::until("some session is written", LIMIT, async || ledger.written_since_mark(1) > 0).await;
    let first = killed.elapsed().as_millis();
    wait::until("all are written", LIMIT, async || ledger.all_written_since_mark(1)).await;
    let last = killed.elapsed().as_millis();
    let tally = traffic.stop().await;
    oracle!("first session written again after the kill, ms", first, within TAKEOVER_MS);
    oracle!("last of 12 sessions written again after the kill, ms", last, within TAKEOVER_MS);
    oracle!("slowest read after the kill, ms", tally.slowest_read_ms(), within 1_000);
    oracle!("reads that failed", Tally::get(&tally.failed_reads), 0);
    oracle!("reads that were stale", Tally::get(&tally.stale), 0);
    oracle!("increments that were refused", Tally::get(&tally.failed_writes), 0);
    ledger.is_exact(cluster.url(2)).await;
}
