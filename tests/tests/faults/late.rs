//! A write that arrives at the store when another node owns the session.

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
    oracle!("taken over after the last renewal, ms", took.as_millis(), <= LEASE.as_millis() + 500);
    let mut statuses: Vec<u16> = late.iter().map(|(_, it)| it.as_ref().unwrap().status).collect();
    statuses.sort_unstable();
    oracle::note(&format!("answers to the late writes: {statuses:?}"));
    let refused = statuses.iter().filter(|status| **status == 409).count();
    oracle!("late writes answered 409", refused, SESSIONS);
    let conflicts = cluster.nodes[0].metric("session_conflicts_total").await;
    oracle!("session_conflicts_total of the old owner", conflicts, >= 1.0);
    let mut other_states = 0;
    for account in &ledger.accounts {
        let (_, read) = account.read(owner).await;
        other_states += usize::from(read.unwrap().expect(200).text != "{\"value\":2}");
    }
    oracle!("sessions whose state is not that of the new owner", other_states, 0);
    ledger.is_exact(other).await;
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
