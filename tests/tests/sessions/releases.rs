//! Two releases of an application in one cluster, each with its own idea of what stands in a session.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use understudy_tests::{Client, Cluster, Node, oracle};

use super::visitor::{cookie, value};

const LIMIT: Duration = Duration::from_secs(30);
const RELEASE: &str = "FIXTURE_RELEASE";

/// Somebody with a basket.
#[derive(Default)]
struct Shopper {
    client: Client,
    bought: usize,
}

/// What went wrong.
#[derive(Default)]
struct Tally {
    errors: usize,
    lost: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn d15_two_releases_share_sessions_there_and_back() {
    // One of them packs large values, and the other does not.
    let packs = "UNDERSTUDY_SESSION_COMPRESS_ABOVE_BYTES";
    let builder = Cluster::builder().nodes(2).node_env(0, packs, "200");
    let mut cluster = builder.start().await;
    let mut shoppers: Vec<Shopper> = (0..4).map(|_| Shopper::default()).collect();
    let mut tally = Tally::default();
    for release in ["1+2", "2", "1+2", "1"] {
        for index in 0..2 {
            let other = cluster.url(1 - index).to_owned();
            let meanwhile = shop(&other, &mut shoppers, &mut tally);
            tokio::join!(roll(&mut cluster.nodes[index], release), meanwhile);
            for base in [cluster.url(0), cluster.url(1)] {
                shop(base, &mut shoppers, &mut tally).await;
            }
        }
        oracle!(&format!("errors until all nodes run {release}"), tally.errors, 0);
        oracle!(&format!("items lost until all nodes run {release}"), tally.lost, 0);
    }
    let bought: usize = shoppers.iter().map(|shopper| shopper.bought).sum();
    oracle!("items that were bought", bought, 4 * 4 * 2 * 3);
    one_node_packs(&cluster).await;
    a_release_too_far(&mut cluster, &mut shoppers).await;
    one_state(&cluster).await;
}

/// Restarts a node with another release.
async fn roll(node: &mut Node, release: &str) {
    node.terminate();
    assert!(node.wait_exit(LIMIT).await.success());
    node.set_env(RELEASE, release);
    node.start_again();
    node.ready(LIMIT).await;
}

/// Has everybody put one more thing into their basket, and look whether all of it is there.
async fn shop(base: &str, shoppers: &mut [Shopper], tally: &mut Tally) {
    for shopper in shoppers {
        let item = format!("{}-{}", shopper.bought, "x".repeat(60));
        let added = shopper.client.post(base, &format!("/basket?item={item}")).await.unwrap();
        if added.status != 204 {
            tally.errors += 1;
            oracle::note(&format!("{added:?}"));
            continue;
        }
        shopper.bought += 1;
        match items(&shopper.client, base).await {
            Some(items) => tally.lost += shopper.bought.saturating_sub(items),
            None => tally.errors += 1,
        }
    }
}

/// How many different things are in the basket; `None` when the node does not say.
async fn items(client: &Client, base: &str) -> Option<usize> {
    let answer = client.get(base, "/basket").await.unwrap();
    if answer.status != 200 {
        oracle::note(&format!("{answer:?}"));
        return None;
    }
    let items: Vec<String> = serde_json::from_value(value(&answer)).unwrap();
    Some(items.into_iter().collect::<BTreeSet<String>>().len())
}

/// The key of a session in Redis.
fn key(cluster: &Cluster, client: &Client) -> String {
    let (_, value) = cookie(client);
    let (locator, _) = value.split_once('.').unwrap();
    let keys = cluster.redis.all_keys();
    keys.into_iter().find(|key| key.ends_with(locator)).expect("the session has a key")
}

/// Both releases are the first again. A basket of the node that packs is read at the one that does not.
async fn one_node_packs(cluster: &Cluster) {
    let mut shoppers = [Shopper::default()];
    let mut tally = Tally::default();
    for _ in 0..8 {
        shop(cluster.url(0), &mut shoppers, &mut tally).await;
    }
    let [Shopper { client, .. }] = &shoppers;
    let key = key(cluster, client);
    let cli = |words: &[&str]| cluster.redis.cli(words).trim().to_owned();
    assert_eq!(cli(&["HGET", &key, "k"]), "+z", "it is packed");
    let bytes: usize = cli(&["HSTRLEN", &key, "a:basket"]).parse().unwrap();
    oracle!("bytes in Redis for 8 items of 64 bytes each", bytes, <= 200);
    assert_eq!(items(client, cluster.url(1)).await, Some(8));
    oracle!("errors at the node that packs", tally.errors + tally.lost, 0);
}

/// A node begins to write what the other cannot read: that one says so, and leaves it alone.
async fn a_release_too_far(cluster: &mut Cluster, shoppers: &mut [Shopper]) {
    let mut tally = Tally::default();
    roll(&mut cluster.nodes[0], "2").await;
    shop(cluster.url(0), shoppers, &mut tally).await;
    oracle!("errors at the new release", tally.errors + tally.lost, 0);
    let [Shopper { client, bought }, ..] = &*shoppers else { panic!("there are shoppers") };
    let key = key(cluster, client);
    for owner_is_there in [true, false] {
        if !owner_is_there {
            cluster.nodes[0].terminate();
            assert!(cluster.nodes[0].wait_exit(LIMIT).await.success());
        }
        let before = cluster.redis.cli(&["HGET", &key, "a:basket"]);
        let old = cluster.url(1);
        let answers = [
            client.get(old, "/basket").await.unwrap(),
            client.get(old, "/all").await.unwrap(),
            client.post(old, "/basket?item=y").await.unwrap(),
            client.post(old, "/set?k=basket&v=y").await.unwrap(),
            client.post(old, "/append?k=basket&v=y").await.unwrap(),
        ];
        for answer in answers {
            assert_eq!(answer.status, 503, "{answer:?}");
            let problem: Value = answer.json();
            assert_eq!(problem["code"], "session_newer_schema", "{answer:?}");
            assert_eq!(problem["attribute"], "basket");
            assert_eq!(problem["stored"], 2);
            assert_eq!(problem["known"], 1);
        }
        let after = cluster.redis.cli(&["HGET", &key, "a:basket"]);
        assert_eq!(after, before, "byte for byte");
        // The rest of the session is none the worse for it; the node without packing writes all of it its own way.
        client.post(old, "/set?k=other&v=y").await.unwrap().expect(204);
    }
    let refusals = cluster.nodes[1].metric("session_refusals_total").await;
    oracle!("refusals counted", refusals, >= 10.0);
    cluster.restart(0).await;
    oracle!("items in the newer basket", items(client, cluster.url(0)).await.unwrap(), *bought);
}

/// One value as the state of the session, on both nodes.
async fn one_state(cluster: &Cluster) {
    let client = Client::new();
    for count in 1..=4 {
        let answer = client.post(cluster.url(count % 2), "/visits").await.unwrap().expect(200);
        assert_eq!(value(&answer), count);
    }
    let answer = client.get(cluster.url(0), "/visits").await.unwrap().expect(200);
    assert_eq!(value(&answer), 4);
}
