//! A write that arrives at the store when another node owns the session.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use understudy_tests::{Cluster, Direction, Fault, crowd, oracle, wait};

use super::ledger::{Came, Ledger, turn};

const LIMIT: Duration = Duration::from_secs(20);
const SESSIONS: usize = 10;
/// A write may be on its way for a third of it, which is as long as a command may take.
const LEASE: Duration = Duration::from_secs(9);

#[tokio::test(flavor = "multi_thread")]
async fn s9_a_late_write_of_the_old_owner_is_fenced() {
    let _turn = turn().await;
    let builder = Cluster::builder()
        .nodes(2)
        .proxies()
        .env("UNDERSTUDY_CLUSTER_NODE_TTL_MS", "9000")
        .env("UNDERSTUDY_REDIS_COMMAND_TIMEOUT_MS", "3000")
        .env("UNDERSTUDY_SESSION_WAIT_MS", "20000");
    let cluster = builder.start().await;
    let (owner, other) = (cluster.url(0), cluster.url(1));
    let ledger = Ledger::begin(owner, SESSIONS).await;
    let network = &cluster.proxies[0].redis;
    let renewed = just_renewed(&cluster).await;
    network.cut(Fault::HalfOpen(Direction::Request)).await;
    // Late in the lease the owner still may write; what it sends arrives after the lease.
    wait::until("the lease is nearly over", LIMIT, async || {
        renewed.elapsed() > LEASE - Duration::from_millis(1_500)
    })
    .await;
    let late =
        crowd(SESSIONS, SESSIONS, async |number| ledger.accounts[number].increment(owner).await);
    let takeover = async {
        crowd(SESSIONS, SESSIONS, async |number| {
            wait::until("the other node has the session", LIMIT, async || {
                ledger.accounts[number].increment(other).await.0 == Came::Well
            })
            .await;
        })
        .await;
        let took = renewed.elapsed();
        network.heal().await;
        took
    };
    let (late, took) = tokio::join!(late, takeover);
    // Ten sessions, each asked for again after its answer: as long as that takes on a busy machine. How soon after a lease a
    // session is written is the business of `crash`.
    oracle!("taken over after the last renewal, ms", took.as_millis(), within LEASE.as_millis() + 1_000);
    let mut statuses: Vec<u16> = late.iter().map(|(_, it)| it.as_ref().unwrap().status).collect();
    statuses.sort_unstable();
    oracle::note(&format!("answers to the late writes: {statuses:?}"));
    let refused = statuses.iter().filter(|status| **status == 409).count();
    oracle!("late writes answered 409", refused, SESSIONS);
    let conflicts = cluster.nodes[0].metric("session_conflicts_total").await;
    // Each session had one write under way, and is lost once.
    oracle!("session_conflicts_total of the old owner", conflicts, SESSIONS as f64);
    let mut other_states = 0;
    for account in &ledger.accounts {
        let (_, read) = account.read(owner).await;
        other_states += usize::from(read.unwrap().expect(200).text != "{\"value\":2}");
    }
    oracle!("sessions whose state is not that of the new owner", other_states, 0);
    ledger.is_exact(other).await;
}

/// The same while the owner itself stands still: it finds the answers, or the end of its patience, when it wakes up.
#[tokio::test(flavor = "multi_thread")]
async fn s9_a_write_under_way_when_its_owner_stood_still_is_not_carried_out() {
    let _turn = turn().await;
    let cluster = Cluster::builder().nodes(2).proxies().start().await;
    let (owner, other) = (cluster.url(0), cluster.url(1));
    let ledger = Ledger::begin(owner, SESSIONS).await;
    let network = &cluster.proxies[0].redis;
    just_renewed(&cluster).await;
    network.cut(Fault::HalfOpen(Direction::Request)).await;
    let late: Vec<_> = (0..SESSIONS)
        .map(|number| {
            let (ledger, owner) = (Arc::clone(&ledger), owner.to_owned());
            tokio::spawn(async move { ledger.accounts[number].increment(&owner).await.1 })
        })
        .collect();
    writes_are_under_way(&ledger, owner).await;
    cluster.nodes[0].stop();
    crowd(SESSIONS, SESSIONS, async |number| {
        wait::until("the other node has the session", LIMIT, async || {
            ledger.accounts[number].increment(other).await.0 == Came::Well
        })
        .await;
    })
    .await;
    // What was sent reaches Redis now, where the other node owns everything; its sender still stands.
    network.heal().await;
    cluster.nodes[0].cont();
    let mut statuses = Vec::new();
    for answer in late {
        statuses.push(answer.await.unwrap().unwrap().status);
    }
    statuses.sort_unstable();
    oracle::note(&format!("answers to the late writes: {statuses:?}"));
    // 503 when its patience was over before it read the answer.
    let refused = statuses.iter().filter(|status| matches!(status, 409 | 503)).count();
    oracle!("late writes answered 409 or 503", refused, SESSIONS);
    let mut carried_out = 0;
    for account in &ledger.accounts {
        let (_, read) = account.read(other).await;
        carried_out += usize::from(read.unwrap().expect(200).text != "{\"value\":2}");
    }
    oracle!("late writes that were carried out", carried_out, 0);
    ledger.is_exact(other).await;
}

/// Waits until every session has a write under way: a read at the owner then waits for the answer of Redis.
async fn writes_are_under_way(ledger: &Ledger, owner: &str) {
    /// Many times what a read from memory takes, and well below the time that a command may take (500 ms).
    const UNANSWERED: Duration = Duration::from_millis(100);
    crowd(SESSIONS, SESSIONS, async |number| {
        let client = &ledger.accounts[number].client;
        wait::until("a read waits for a write", LIMIT, async || {
            tokio::time::timeout(UNANSWERED, client.get(owner, "/read")).await.is_err()
        })
        .await;
    })
    .await;
}

/// Waits until the first node renews its lease; returns about when.
async fn just_renewed(cluster: &Cluster) -> Instant {
    let deadline = || {
        let table = cluster.redis.all_keys().into_iter().find(|key| key.ends_with(":L")).unwrap();
        let fields = cluster.redis.cli(&["HGETALL", &table]);
        let lines: Vec<&str> = fields.lines().collect();
        let own = format!("n:{}#", cluster.nodes[0].name());
        lines.windows(2).find(|pair| pair[0].starts_with(&own)).unwrap()[1].to_owned()
    };
    let before = deadline();
    let pause = Duration::from_millis(20);
    wait::poll("the lease is renewed", LIMIT, pause, async || {
        (deadline() != before).then(Instant::now)
    })
    .await
    .0
}
