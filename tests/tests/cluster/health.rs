//! What balancers and orchestrators are told when a server is away.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use understudy_tests::{Client, Fault, Node, oracle, wait};

use super::ground::{LIMIT, cluster_of};

const LIVE: [&str; 2] = ["/health/live", "/livez"];
const READY: [&str; 2] = ["/health/ready", "/readyz"];
const STARTUP: [&str; 2] = ["/health/startup", "/startupz"];

/// A node asks once a second, waits 800 ms for an answer, and believes the second failure: 2.8 s at worst.
const SAID_MS: u128 = 3_000;

async fn status(base: &str, path: &str) -> u16 {
    Client::new().get(base, path).await.map_or(0, |answer| answer.status)
}

/// Whether both ports say this under both names.
async fn say(node: &Node, paths: [&str; 2], expected: u16) -> bool {
    for base in [node.public_url(), node.admin_url()] {
        for path in paths {
            if status(base, path).await != expected {
                return false;
            }
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn h1_without_its_database_a_node_is_alive_and_not_ready() {
    let mut cluster = cluster_of(2).nginx(true).start().await;
    let (client, balancer) = (Client::new(), cluster.balancer());
    client.post(&balancer, "/incr").await.unwrap().expect(200);
    cluster.postgres.stop();
    let stopped = Instant::now();
    for node in &cluster.nodes {
        wait::until("it is not ready", LIMIT, async || {
            status(node.public_url(), "/health/ready").await == 503
        })
        .await;
    }
    oracle!("ready says 503 after, ms", stopped.elapsed().as_millis(), within SAID_MS);
    for node in &cluster.nodes {
        assert!(say(node, LIVE, 200).await && say(node, STARTUP, 200).await);
        assert!(say(node, READY, 503).await);
        let public = Client::new().get(node.public_url(), "/readyz").await.unwrap();
        assert_eq!(public.text, "{\"status\":\"not_ready\"}", "strangers are told no reason");
        let admin = Client::new().get(node.admin_url(), "/readyz").await.unwrap();
        let reasons: Value = admin.json::<Value>()["reasons"].clone();
        assert_eq!(reasons[0]["code"], "database", "{reasons}");
    }
    // Sessions are in Redis: who is on the site stays on it.
    let mut failed = 0;
    for _ in 0..20 {
        failed += usize::from(client.post(&balancer, "/incr").await.unwrap().status != 200);
    }
    oracle!("requests of 20 that failed without the database", failed, 0);
    cluster.postgres.restart().await;
    let back = Instant::now();
    for node in &cluster.nodes {
        wait::until("it is ready again", LIMIT, async || say(node, READY, 200).await).await;
    }
    oracle!("ready again after, ms", back.elapsed().as_millis(), within 6_000);
    client.get(&balancer, "/read").await.unwrap().expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn h1_one_node_that_is_cut_off_is_told_apart_from_the_others() {
    let cluster = cluster_of(2).proxies().nginx(true).start().await;
    let (client, balancer) = (Client::new(), cluster.balancer());
    client.post(&balancer, "/incr").await.unwrap().expect(200);
    for fault in [Fault::Refuse, Fault::Silent] {
        cluster.proxies[0].postgres.cut(fault).await;
        let cut = Instant::now();
        wait::until("the node says so", LIMIT, async || {
            status(cluster.url(0), "/readyz").await == 503
        })
        .await;
        oracle!(&format!("{fault:?}: said so after, ms"), cut.elapsed().as_millis(), within SAID_MS);
        assert_eq!(status(cluster.url(0), "/livez").await, 200);
        assert_eq!(status(cluster.url(1), "/readyz").await, 200);
        let mut failed = 0;
        for _ in 0..20 {
            failed += usize::from(client.get(&balancer, "/read").await.unwrap().status != 200);
        }
        oracle!("requests of 20 that failed", failed, 0);
        cluster.proxies[0].postgres.heal().await;
        wait::until("it is ready again", LIMIT, async || {
            status(cluster.url(0), "/readyz").await == 200
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h1_a_node_that_waits_for_its_servers_says_for_what() {
    let mut cluster = cluster_of(1).start().await;
    let url = cluster.url(0).to_owned();
    let spec = cluster.spec("early").await.env("UNDERSTUDY_HTTP_EXTERNAL_URL", &url);
    cluster.redis.kill();
    let early = spec.start();
    let reasons = async || {
        let answer = Client::new().get(early.admin_url(), "/health/startup").await.ok()?;
        let code = answer.json::<Value>()["reasons"][0]["code"].clone();
        // Right after it listens it just starts.
        (answer.status == 503 && code != "starting").then_some(code)
    };
    let (code, _) = wait::until_some("it waits for something", LIMIT, reasons).await;
    oracle!("it waits for", code.as_str().unwrap_or_default(), "redis");
    for (paths, expected) in [(LIVE, 200), (READY, 503)] {
        for path in paths {
            assert_eq!(status(early.admin_url(), path).await, expected, "{path}");
        }
    }
    // Users are refused, so that a balancer may send them elsewhere whatever they want.
    assert_eq!(status(early.public_url(), "/livez").await, 0);
    cluster.redis.restart(understudy_tests::Data::Lost).await;
    wait::until("it is ready", LIMIT, async || say(&early, READY, 200).await).await;
    wait::until("so is the other", Duration::from_secs(30), async || {
        status(cluster.url(0), "/readyz").await == 200
    })
    .await;
}
