//! Redis goes away for longer than anybody likes to wait.

use std::time::Duration;

use tokio::time::Instant;
use understudy_tests::{Client, Cluster, Data, oracle, wait};

use super::ground::LIMIT;

/// Long enough for the pauses between attempts to have reached their longest.
const AWAY: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn k5_nodes_outlive_a_long_absence_of_redis() {
    // The second one is to stay in service for those who need no session.
    let builder = Cluster::builder().nodes(2);
    let builder = builder.node_env(1, "UNDERSTUDY_OPS_READY_REQUIRES", "database");
    let mut cluster = builder.start().await;
    let client = Client::new();
    client.post(cluster.url(0), "/incr").await.unwrap().expect(200);
    let pids: Vec<u32> = cluster.nodes.iter().map(|node| node.pid()).collect();
    cluster.redis.kill();
    let since = Instant::now();
    wait::until("who requires Redis is not ready", Duration::from_secs(5), async || {
        statuses(&cluster, "/readyz").await == [503, 200]
    })
    .await;
    let (mut dead, mut wrong, mut slowest) = (0, 0, Duration::ZERO);
    wait::until("it was away for long", AWAY * 2, async || {
        dead += usize::from(statuses(&cluster, "/livez").await != [200, 200]);
        wrong += usize::from(statuses(&cluster, "/readyz").await != [503, 200]);
        let asked = Instant::now();
        let answer = client.post(cluster.url(0), "/incr").await.unwrap();
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        slowest = slowest.max(asked.elapsed());
        since.elapsed() >= AWAY
    })
    .await;
    oracle!("times that a node was not alive", dead, 0);
    oracle!("times that who requires Redis was ready, or who does not was not", wrong, 0);
    oracle!("slowest answer without Redis, ms", slowest.as_millis(), within 1_000);
    cluster.redis.restart(Data::Lost).await;
    let back = Instant::now();
    wait::until("all are ready", LIMIT, async || statuses(&cluster, "/readyz").await == [200, 200])
        .await;
    oracle!("ready after Redis came back, ms", back.elapsed().as_millis(), within 6_000);
    let after: Vec<u32> = cluster.nodes.iter().map(|node| node.pid()).collect();
    assert_eq!(pids, after, "no node was restarted");
    wait::until("sessions are written", LIMIT, async || {
        client.post(cluster.url(1), "/incr").await.unwrap().status == 200
    })
    .await;
}

async fn statuses(cluster: &Cluster, path: &str) -> Vec<u16> {
    let mut statuses = Vec::new();
    for node in &cluster.nodes {
        statuses.push(Client::new().get(node.public_url(), path).await.unwrap().status);
    }
    statuses
}
