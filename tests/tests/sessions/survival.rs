//! Logins outlive nodes.

use std::time::Duration;

use understudy_tests::{Cluster, oracle, wait};

use super::stage::Stage;
use super::visitor::{counter, logged_in, whoami};

/// The lease, and half a second.
const TAKEOVER_MS: u128 = 3_500;

pub(super) async fn s1_a_login_outlives_its_node(stage: &Stage) {
    let mut cluster = stage.alone().await;
    outlives(&mut cluster).await;
    cluster.restart(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_a_login_in_the_database_outlives_its_node() {
    let builder = Cluster::builder().nodes(2).env("UNDERSTUDY_SESSION_STORE", "database");
    let mut cluster = builder.start().await;
    outlives(&mut cluster).await;
    let keys = cluster.redis.all_keys();
    let sessions = keys.iter().filter(|key| key.contains(":s:")).count();
    oracle!("sessions in Redis when the database keeps them", sessions, 0);
}

/// Kills node 0, which owns the session of a user, and asks the others at once.
async fn outlives(cluster: &mut Cluster) {
    let client = logged_in(cluster.url(0), "ann").await;
    client.post(cluster.url(0), "/incr").await.unwrap().expect(200);
    cluster.kill9(0);
    let others = cluster.nodes.len() - 1;
    let mut known = 0;
    for node in &cluster.nodes[1..] {
        known += usize::from(whoami(&client, node.public_url()).await.as_deref() == Some("ann"));
    }
    oracle!("other nodes that know the user at once", known, others);
    let took = wait::until("another node counts on", Duration::from_secs(10), async || {
        client.post(cluster.url(1), "/incr").await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    oracle!("first write after the kill, ms", took.as_millis(), within TAKEOVER_MS);
    oracle!("counter after it", counter(&client, cluster.url(1)).await.unwrap(), 2);
}
