//! A write that arrives at the store when another node owns the session.

use std::time::Duration;

use understudy_tests::{Cluster, Direction, Fault, oracle, wait};

use super::ledger::{Came, Ledger, turn};

const LIMIT: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn s9_a_late_write_of_the_old_owner_is_fenced() {
    let _turn = turn().await;
    // Patient enough to learn what became of a write that was on its way for longer than the lease.
    let builder = Cluster::builder().nodes(2).proxies();
    let cluster = builder.env("UNDERSTUDY_REDIS_COMMAND_TIMEOUT_MS", "10000").start().await;
    let (owner, other) = (cluster.url(0), cluster.url(1));
    let ledger = Ledger::begin(owner, 1).await;
    let account = &ledger.accounts[0];
    let network = &cluster.proxies[0].redis;
    network.cut(Fault::HalfOpen(Direction::Request)).await;
    let (late, ()) = tokio::join!(account.increment(owner), async {
        let took = wait::until("the other node has the session", LIMIT, async || {
            account.increment(other).await.0 == Came::Well
        })
        .await;
        oracle!("takeover, ms", took.as_millis(), <= 3_500);
        network.heal().await;
    });
    let (came, answer) = late;
    let status = answer.unwrap().status;
    oracle!("late writes that were acknowledged", usize::from(came == Came::Well), 0);
    oracle!("status of the late write", status, 409);
    let conflicts = cluster.nodes[0].metric("session_conflicts_total").await;
    oracle!("session_conflicts_total of the old owner", conflicts, >= 1.0);
    let seen = account.read(owner).await.1.unwrap().expect(200).text;
    oracle!("state at the old owner is that of the new one", seen, "{\"value\":2}");
    ledger.is_exact(other).await;
}
