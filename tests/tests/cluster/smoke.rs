//! The short suite: what sessions need of Redis, once each.

use serde_json::Value;
use understudy_tests::{Client, Cluster, Redis, RedisBuilder, crowd, oracle, wait};

use super::ground::{LIMIT, cluster_of};

/// Two nodes on this Redis.
pub(super) async fn cluster(redis: RedisBuilder) -> Cluster {
    cluster_of(2).redis_with(redis).start().await
}

/// Two nodes on this Redis pass the suite.
pub(super) async fn passes(redis: RedisBuilder) -> Cluster {
    let mut cluster = cluster(redis).await;
    runs(&mut cluster).await;
    cluster
}

/// Creates, reads, writes at the owner and elsewhere, rotates, ends, and takes over from the dead.
pub(super) async fn runs(cluster: &mut Cluster) {
    let client = Client::new();
    client.post(cluster.url(0), "/incr").await.unwrap().expect(200);
    let answers = crowd(8, 40, async |number| {
        client.post(cluster.url(number % 2), "/incr").await.unwrap().status
    })
    .await;
    oracle!("increments of 40 that failed", answers.iter().filter(|it| **it != 200).count(), 0);
    oracle!("counter at the owner", counter(&client, cluster.url(0)).await, 41);
    oracle!("counter elsewhere", counter(&client, cluster.url(1)).await, 41);
    oracle!("writes that went to the owner", cluster.metric("session_forwards_total").await, >= 1.0);

    client.post(cluster.url(1), "/login?user=ann").await.unwrap().expect(204);
    assert_eq!(user(&client, cluster.url(0)).await, "ann");
    client.post(cluster.url(0), "/append?k=list&v=item").await.unwrap().expect(200);
    client.post(cluster.url(1), "/update").await.unwrap().expect(200);
    assert_eq!(counter(&client, cluster.url(1)).await, 42);

    let leaving = Client::new();
    leaving.post(cluster.url(0), "/login?user=bob").await.unwrap().expect(204);
    let thief = leaving.fork();
    leaving.post(cluster.url(1), "/logout").await.unwrap().expect(204);
    assert_eq!(user(&thief, cluster.url(0)).await, Value::Null);

    cluster.kill9(0);
    wait::until("the other node has taken over", LIMIT, async || {
        client.post(cluster.url(1), "/incr").await.unwrap().status == 200
    })
    .await;
    oracle!("counter after the owner died", counter(&client, cluster.url(1)).await, 43);
    cluster.restart(0).await;
    oracle!("counter at its next life", counter(&client, cluster.url(0)).await, 43);
    assert_eq!(user(&client, cluster.url(0)).await, "ann");
    has_our_keys_only(&cluster.redis);
}

fn has_our_keys_only(redis: &Redis) {
    let keys = redis.all_keys();
    let strange = keys.iter().filter(|key| !key.starts_with("us:understudy:")).count();
    oracle!(&format!("keys of {} without the prefix", keys.len()), strange, 0);
}

pub(super) async fn counter(client: &Client, base: &str) -> Value {
    client.get(base, "/read").await.unwrap().expect(200).json::<Value>()["value"].clone()
}

pub(super) async fn user(client: &Client, base: &str) -> Value {
    client.get(base, "/whoami").await.unwrap().expect(200).json::<Value>()["user"].clone()
}
