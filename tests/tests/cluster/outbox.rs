//! What transactions and other programs change, as the cache of three nodes sees it: a part of the test in `caches`.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use understudy::runtime::cache::BOUND;
use understudy_tests::{Client, Cluster, oracle, wait};

use super::caches::OPERATOR;
use super::ground::LIMIT;

/// How long it takes at most until others tell what was left behind.
const RELAY: Duration = Duration::from_secs(1);

async fn cents(cluster: &Cluster, node: usize) -> i64 {
    let url = cluster.url(node);
    let answer = Client::new().get(url, "/priced?article=k").await.unwrap().expect(200);
    answer.json::<Value>()["cents"].as_i64().expect("a number")
}

/// Waits until some nodes give a price; returns how many ms that took.
async fn given_by(cluster: &Cluster, nodes: &[usize], price: i64) -> u128 {
    let changed = Instant::now();
    for node in nodes {
        wait::until("the price is given", LIMIT, async || cents(cluster, *node).await == price)
            .await;
    }
    changed.elapsed().as_millis()
}

pub(super) async fn changed_by_transactions(cluster: &mut Cluster) {
    cluster.postgres.query(
        "CREATE TABLE price (article text PRIMARY KEY, cents bigint NOT NULL);
         INSERT INTO price VALUES ('k', 1)",
    );
    given_by(cluster, &[0, 1, 2], 1).await;
    killed_after_its_commit(cluster).await;
    written_and_told(cluster).await;
    changed_by_another_program(cluster).await;
}

async fn killed_after_its_commit(cluster: &mut Cluster) {
    let (client, url) = (Client::new(), cluster.url(0).to_owned());
    let mut answer = Box::pin(client.post(&url, "/priced?article=k&to=2&hangs=true"));
    let committed = wait::until("it is committed", LIMIT, async || {
        cluster.postgres.query("SELECT cents FROM price WHERE article = 'k'").trim() == "2"
    });
    tokio::select! {
        answer = &mut answer => panic!("it was to hang: {answer:?}"),
        _ = committed => {}
    }
    cluster.kill9(0);
    let took = given_by(cluster, &[1, 2], 2).await;
    drop(answer);
    let most = (BOUND + RELAY).as_millis();
    oracle!("ms until others gave what a writer had committed that was killed", took, within most);
    let waiting = async || cluster.postgres.query("SELECT count(*) FROM us_cache_outbox");
    wait::until("it was struck off", LIMIT, async || waiting().await.trim() == "0").await;
    cluster.restart(0).await;
}

async fn written_and_told(cluster: &Cluster) {
    given_by(cluster, &[0, 1, 2], 2).await;
    Client::new().post(cluster.url(1), "/priced?article=k&to=3").await.unwrap().expect(204);
    oracle!("what the writer gives", cents(cluster, 1).await, 3);
    let took = given_by(cluster, &[0, 2], 3).await;
    oracle!("ms until others gave what was committed and told", took, <= BOUND.as_millis());
}

async fn changed_by_another_program(cluster: &Cluster) {
    cluster.postgres.query(
        "CREATE TRIGGER price_changed AFTER INSERT OR UPDATE OR DELETE ON price
         FOR EACH ROW EXECUTE FUNCTION understudy_cache_changed('prices', 'article')",
    );
    let listens = async || {
        let mut listens = 0.0;
        for node in &cluster.nodes {
            listens += node.metric("understudy_cache_listening").await;
        }
        listens
    };
    wait::until("all nodes listen", LIMIT, async || listens().await > 2.5).await;
    cluster.postgres.query("UPDATE price SET cents = 4 WHERE article = 'k'");
    let took = given_by(cluster, &[0, 1, 2], 4).await;
    oracle!("ms until all gave what another program had changed", took, within 1_000);
    let cut_off = cluster.postgres.query(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE query LIKE 'LISTEN %' OR query = 'SELECT ''listens'''",
    );
    oracle!("listeners that were cut off", cut_off.trim(), "3");
    cluster.postgres.query("UPDATE price SET cents = 5 WHERE article = 'k'");
    let took = given_by(cluster, &[0, 1, 2], 5).await;
    let most = (BOUND + RELAY).as_millis();
    oracle!("ms until all gave it though nobody had listened", took, within most);
    let mut ready = 0;
    for node in 0..3 {
        let answer = Client::new().get(cluster.url(node), "/health/ready").await.unwrap();
        ready += usize::from(answer.status == 200);
    }
    oracle!("nodes that are ready without a listener", ready, 3);
    wait::until("all nodes listen again", LIMIT, async || listens().await > 2.5).await;
    let operator = Client::new().bearing(OPERATOR);
    let about = operator.get(cluster.nodes[0].admin_url(), "/v1/about").await.unwrap();
    let about: Value = about.expect(200).json();
    let cache = about["services"]
        .as_array()
        .and_then(|services| services.iter().find(|service| service["name"] == "cache").cloned());
    let cache = cache.expect("the cache is among its services");
    oracle!(
        "how the cache of a node is then",
        cache["health"].as_str().unwrap_or_default(),
        "ready"
    );
}
