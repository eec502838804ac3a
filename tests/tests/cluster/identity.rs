//! One living process to a name.

use tokio::time::Instant;
use understudy_tests::{Postgres, Redis, oracle, wait};

use super::ground::{LIMIT, cluster_of, listed, member, refused, started, told};

/// The node's time to live, a tenth of it until the name is tried again, and what two starts may differ by.
const TAKES_OVER_MS: u128 = 5_000;

#[tokio::test(flavor = "multi_thread")]
async fn t9_a_second_process_of_a_name_is_turned_away_and_told_who_has_it() {
    let (redis, postgres) = tokio::join!(Redis::standalone(), Postgres::start());
    let first = started(member("node-a", &redis, &postgres)).await;
    let (status, said) = refused(member("node-a", &redis, &postgres)).await;
    oracle!("exit status of the second", status, 78);
    let record = told(&first, "/v1/nodes").await["nodes"][0]["record"].clone();
    let host = record["host"].as_str().unwrap().to_owned();
    for part in ["UNDERSTUDY_NODE_ID", "node-a", &host, &first.pid().to_string(), "since 20"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    // The first has noticed nothing.
    assert_eq!(record["pid"], first.pid());
    assert_eq!(record["state"], "ready");
    let client = understudy_tests::Client::new();
    client.post(first.public_url(), "/incr").await.unwrap().expect(200);
    client.get(first.public_url(), "/readyz").await.unwrap().expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn t9_a_name_is_free_again_after_its_node_left_or_died() {
    let mut cluster = cluster_of(2).start().await;
    let before = told(&cluster.nodes[0], "/v1/nodes").await;
    cluster.nodes[1].terminate();
    assert!(cluster.nodes[1].wait_exit(LIMIT).await.success());
    oracle!("places of a node that left", cluster.traces_of("node-b").len(), 0);
    wait::until("the other sees it leave", LIMIT, async || {
        listed(&cluster.nodes[0]).await == ["node-a"]
    })
    .await;
    // Nobody holds its name: this is what a start takes.
    let start = cluster.restart(1).await;
    wait::until("the other sees it come", LIMIT, async || {
        listed(&cluster.nodes[0]).await == ["node-a", "node-b"]
    })
    .await;
    let killed = Instant::now();
    cluster.kill9(1);
    cluster.restart(1).await;
    let waited = killed.elapsed().saturating_sub(start).as_millis();
    oracle!("up again after kill -9, beyond what a start takes, ms", waited, within TAKES_OVER_MS);
    let after = told(&cluster.nodes[0], "/v1/nodes").await;
    let id = |list: &serde_json::Value, at: usize| list["nodes"][at]["record"]["id"].clone();
    assert_eq!(id(&before, 0), id(&after, 0));
    assert_ne!(id(&before, 1), id(&after, 1), "each life has an id of its own");
}
