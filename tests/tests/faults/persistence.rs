//! Sessions in Redis with a copy in the database: Redis is lost, the database is away, whoever brings sessions over dies.

use std::sync::Arc;
use std::time::Duration;

use understudy_tests::{Cluster, Data, Topology, crowd, oracle, wait};

use super::ledger::{Came, Ledger, turn};
use super::outage::tells_outage;
use super::traffic::{STEADY, Tally, Traffic};

const LIMIT: Duration = Duration::from_secs(30);
const SESSIONS: usize = 10;
/// What a saver that died holds is free after 5 s; then there are two rounds, and room for a busy machine.
const SAVED: Duration = Duration::from_secs(20);

async fn cluster(topology: Topology, persist: &str) -> Cluster {
    let builder = Cluster::builder().nodes(2).redis(topology);
    let builder = builder.env("UNDERSTUDY_SESSION_PERSIST", persist);
    builder.env("UNDERSTUDY_SESSION_PERSIST_INTERVAL_MS", "200").start().await
}

/// Logs everybody in, at the first node.
async fn logged_in(cluster: &Cluster) -> Arc<Ledger> {
    let ledger = Ledger::begin(cluster.url(0), SESSIONS).await;
    for account in &ledger.accounts {
        account.client.post(cluster.url(0), "/login?user=ann").await.unwrap().expect(204);
    }
    ledger
}

/// How many sessions are not known any more at the node at `base`, once they are answered.
async fn logged_out(ledger: &Ledger, base: &str) -> usize {
    let known = crowd(SESSIONS, SESSIONS, async |number| {
        let client = &ledger.accounts[number].client;
        let (answer, _) = wait::until_some("the session is answered", LIMIT, async || {
            client.get(base, "/whoami").await.ok().filter(|answer| answer.status == 200)
        })
        .await;
        answer.text.contains("ann")
    })
    .await;
    known.iter().filter(|known| !**known).count()
}

/// Waits until each session is written once more.
async fn written(ledger: &Ledger, base: &str) {
    crowd(ledger.accounts.len(), SESSIONS, async |number| {
        wait::until("it is written", LIMIT, async || {
            ledger.accounts[number].increment(base).await.0 == Came::Well
        })
        .await;
    })
    .await;
}

/// Whether the database has all that Redis has.
fn all_saved(cluster: &Cluster) -> bool {
    !cluster.redis.all_keys().iter().any(|key| key.ends_with("}:p"))
}

/// Kills the nodes and empties Redis, so that the database alone is left, and starts all again.
async fn only_the_database_is_left(cluster: &mut Cluster) {
    cluster.kill9(0);
    cluster.kill9(1);
    cluster.redis.kill();
    cluster.redis.restart(Data::Lost).await;
    cluster.restart(0).await;
    cluster.restart(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_with_write_through_a_lost_redis_logs_nobody_out_and_loses_nothing() {
    let _turn = turn().await;
    let mut cluster = cluster(Topology::Standalone, "write_through").await;
    let ledger = logged_in(&cluster).await;
    let bases = [cluster.url(0), cluster.url(1)];
    let traffic = Traffic::start(&ledger, &bases, STEADY);
    ledger.mark().await;
    wait::until("traffic runs", LIMIT, async || ledger.all_written_since_mark(2)).await;
    cluster.redis.cli(&["FLUSHALL"]);
    ledger.mark().await;
    wait::until("traffic goes on", LIMIT, async || ledger.all_written_since_mark(2)).await;
    let tally = traffic.stop().await;
    oracle!("reads that were stale", Tally::get(&tally.stale), 0);
    // The owner of most of them goes, and Redis with it.
    cluster.kill9(0);
    cluster.redis.cli(&["FLUSHALL"]);
    written(&ledger, cluster.url(1)).await;
    oracle!("logged out by a Redis that was emptied", logged_out(&ledger, cluster.url(1)).await, 0);
    ledger.is_exact(cluster.url(1)).await;
    let recovered = cluster.nodes[1].metric("session_recovered_total").await;
    oracle!("sessions that came back from the database", recovered, >= 1.0);
    oracle!(
        "sessions of which something was lost",
        cluster.nodes[1].metric("session_lost_total").await,
        0.0
    );
    only_the_database_is_left(&mut cluster).await;
    oracle!(
        "logged out when all but the database is lost",
        logged_out(&ledger, cluster.url(0)).await,
        0
    );
    ledger.is_exact(cluster.url(1)).await;
    ended_stays_ended(&cluster, &ledger).await;
    the_database_is_away(&mut cluster, &ledger).await;
}

/// A logout counts, whatever Redis forgets afterwards.
async fn ended_stays_ended(cluster: &Cluster, ledger: &Ledger) {
    let leaves = ledger.accounts[0].client.fork();
    let stays = leaves.fork();
    wait::until("it is logged out", LIMIT, async || {
        leaves.post(cluster.url(0), "/logout").await.is_ok_and(|answer| answer.status < 300)
    })
    .await;
    cluster.redis.cli(&["FLUSHALL"]);
    let mut alive = 0;
    for base in [cluster.url(0), cluster.url(1)] {
        let (answer, _) = wait::until_some("it is answered", LIMIT, async || {
            stays.get(base, "/whoami").await.ok().filter(|answer| answer.status < 500)
        })
        .await;
        alive += usize::from(answer.text.contains("ann"));
    }
    oracle!("nodes that know a session that was ended before Redis was lost", alive, 0);
}

/// With `write_through` no change is acknowledged that the database does not have.
async fn the_database_is_away(cluster: &mut Cluster, ledger: &Ledger) {
    let others = &ledger.accounts[1..];
    for account in others {
        wait::until("it is written", LIMIT, async || {
            account.increment(cluster.url(0)).await.0 == Came::Well
        })
        .await;
    }
    // Nothing is under way any more, and all is where its owner is.
    cluster.postgres.stop();
    let (mut read, mut wrong) = (0, 0);
    for account in others {
        // Its owner has it in memory.
        read += usize::from(account.read(cluster.url(0)).await.0 == Came::Well);
    }
    for account in others {
        let answer = account.increment(cluster.url(0)).await.1.unwrap();
        wrong += usize::from(!tells_outage(&answer));
    }
    oracle!("sessions read from memory while the database is away", read, others.len());
    oracle!("changes not answered 503 with Retry-After and the cookie kept", wrong, 0);
    cluster.postgres.restart().await;
    for account in others {
        wait::until("it is written again", LIMIT, async || {
            account.increment(cluster.url(1)).await.0 == Came::Well
        })
        .await;
    }
    wait::until("the database has all", SAVED, async || all_saved(cluster)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_with_write_behind_what_was_brought_over_outlives_redis() {
    let _turn = turn().await;
    let mut cluster = cluster(Topology::Cluster, "write_behind").await;
    let ledger = logged_in(&cluster).await;
    let bases = [cluster.url(0), cluster.url(1)];
    let traffic = Traffic::start(&ledger, &bases, STEADY);
    ledger.mark().await;
    wait::until("traffic runs", LIMIT, async || ledger.all_written_since_mark(2)).await;
    // Nobody waits for the database, and nobody notices that it is away.
    cluster.postgres.stop();
    ledger.mark().await;
    wait::until("traffic goes on", LIMIT, async || ledger.all_written_since_mark(3)).await;
    let waiting = cluster.redis.all_keys().iter().any(|key| key.ends_with("}:p"));
    oracle!("something waits for the database", usize::from(waiting), 1);
    cluster.postgres.restart().await;
    // One of those who bring it over dies in the middle of it.
    cluster.kill9(1);
    ledger.mark().await;
    wait::until("traffic goes on", LIMIT, async || ledger.all_written_since_mark(2)).await;
    let tally = traffic.stop().await;
    oracle!("reads that were stale", Tally::get(&tally.stale), 0);
    wait::until("the database has all", SAVED, async || all_saved(&cluster)).await;
    only_the_database_is_left(&mut cluster).await;
    oracle!(
        "logged out when all but the database is lost",
        logged_out(&ledger, cluster.url(1)).await,
        0
    );
    ledger.is_exact(cluster.url(0)).await;
    // What the last node has not brought over yet it does when it is stopped.
    cluster.kill9(1);
    written(&ledger, cluster.url(0)).await;
    cluster.nodes[0].terminate();
    let status = cluster.nodes[0].wait_exit(LIMIT).await;
    assert!(status.success(), "{status}");
    oracle!("left behind by a node that was stopped", usize::from(!all_saved(&cluster)), 0);
    cluster.redis.kill();
    cluster.redis.restart(Data::Lost).await;
    cluster.restart(0).await;
    cluster.restart(1).await;
    let left = logged_out(&ledger, cluster.url(1)).await;
    oracle!("logged out after the last node was stopped", left, 0);
    ledger.is_exact(cluster.url(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_a_change_that_a_replica_has_outlives_the_primary_and_the_owner() {
    let _turn = turn().await;
    let builder = Cluster::builder().nodes(2).redis(Topology::Sentinel);
    let mut cluster = builder.env("UNDERSTUDY_SESSION_DURABILITY", "replicated").start().await;
    let ledger = Ledger::begin(cluster.url(0), SESSIONS).await;
    let traffic = Traffic::start(&ledger, &[cluster.url(0)], STEADY);
    ledger.mark().await;
    wait::until("traffic runs", LIMIT, async || ledger.all_written_since_mark(5)).await;
    let old = cluster.redis.primary_port();
    cluster.redis.kill_primary();
    cluster.kill9(0);
    traffic.stop().await;
    cluster.redis.new_primary(old, LIMIT).await;
    for account in &ledger.accounts {
        wait::until("it is read", LIMIT, async || {
            account.read(cluster.url(1)).await.0 != Came::Failed
        })
        .await;
    }
    ledger.is_exact(cluster.url(1)).await;
    let lost = cluster.nodes[1].metric("session_lost_total").await;
    oracle!("sessions of which something was lost", lost, 0.0);
    // The new primary has no replica: nothing is acknowledged.
    let mut wrong = 0;
    for account in &ledger.accounts {
        let answer = account.increment(cluster.url(1)).await.1.unwrap();
        wrong += usize::from(!tells_outage(&answer));
    }
    oracle!("changes not answered 503 with Retry-After without a replica", wrong, 0);
    let refused = cluster.nodes[1].metric("session_unreplicated_total").await;
    oracle!("times that no replica was there in time", refused, >= 1.0);
}
