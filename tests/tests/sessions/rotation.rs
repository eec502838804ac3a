//! New keys and new secrets without a logout.

use std::time::Duration;

use understudy_tests::{Client, Cluster, crowd, oracle};

use super::stage::Stage;
use super::visitor::{begun, cookie, counter, logged_in, whoami};

const LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn d13_requests_under_way_survive_a_rotation(stage: &Stage) {
    const REQUESTS: usize = 20;
    let cluster = stage.share().await;
    let client = begun(cluster.url(0)).await;
    let old = client.fork();
    let statuses = crowd(REQUESTS + 1, REQUESTS + 1, async |number| {
        if number == REQUESTS / 2 {
            return client.post(cluster.url(1), "/rotate").await.unwrap().status;
        }
        old.post(cluster.url(number % 3), "/incr?sleep=3").await.unwrap().expect(200);
        204
    })
    .await;
    oracle!(
        "requests refused during a rotation",
        statuses.iter().filter(|it| **it != 204).count(),
        0
    );
    assert_ne!(cookie(&client).1, cookie(&old).1);
    oracle!("counter after them", counter(&client, cluster.url(2)).await.unwrap(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_a_new_key_logs_nobody_out() {
    let (old, new) = ("o".repeat(40), "n".repeat(40));
    let builder = Cluster::builder().nodes(2).env("UNDERSTUDY_SESSION_SECRET", &old);
    let mut cluster = builder.start().await;
    let users: Vec<Client> =
        crowd(8, 8, async |user| logged_in(cluster.url(user % 2), &format!("user-{user}")).await)
            .await;
    let before: Vec<String> = users.iter().map(|client| cookie(client).1).collect();
    // First every node learns the new key, then every node forgets the old one.
    for keys in [format!("{new},{old}"), new.clone()] {
        for index in 0..cluster.nodes.len() {
            roll(&mut cluster, index, &keys).await;
            oracle!("users logged out by a new key", missing(&cluster, &users).await, 0);
        }
    }
    let same = users.iter().zip(&before).filter(|(client, before)| cookie(client).1 == **before);
    oracle!("cookies that are still signed by the old key", same.count(), 0);
    let client = Client::new();
    client.set_cookie(&cookie(&users[0]).0, &before[0]);
    let known = whoami(&client, cluster.url(0)).await;
    oracle!("users known by a cookie of the forgotten key", usize::from(known.is_some()), 0);
}

/// Restarts one node with other keys, as an operator does.
async fn roll(cluster: &mut Cluster, index: usize, keys: &str) {
    let node = &mut cluster.nodes[index];
    node.terminate();
    assert!(node.wait_exit(LIMIT).await.success());
    node.set_env("UNDERSTUDY_SESSION_SECRET", keys);
    node.start_again();
    node.ready(LIMIT).await;
}

/// How many users some node does not know; each is asked at both, and so gets a new cookie if one is due.
async fn missing(cluster: &Cluster, users: &[Client]) -> usize {
    let mut missing = 0;
    for client in users {
        for node in &cluster.nodes {
            missing += usize::from(whoami(client, node.public_url()).await.is_none());
        }
    }
    missing
}
