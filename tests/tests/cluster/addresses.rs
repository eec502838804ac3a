//! Who the client is behind a balancer, and what a node calls itself.

use std::net::{IpAddr, Ipv4Addr};

use reqwest::Method;
use serde_json::Value;
use understudy_tests::{Client, Node, oracle, wait};

use super::ground::{LIMIT, cluster_of, started, told};

const SHOP: &str = "https://shop.example";

/// Asks from an address of this machine, with a story about another one; returns the client as the node's log tells it.
async fn client_in_log(nodes: &[Node], base: &str, from: Ipv4Addr, path: &str) -> String {
    let client = reqwest::Client::builder().local_address(IpAddr::V4(from)).no_proxy().build();
    let request = client.unwrap().get(format!("{base}{path}"));
    let answer = request.header("x-forwarded-for", "6.6.6.6").send().await.unwrap();
    assert_eq!(answer.status(), 404);
    let (client, _) = wait::until_some("the request is in a log", LIMIT, async || {
        let events = nodes.iter().flat_map(Node::events);
        let line = events.into_iter().find(|event| event["fields"]["http.path"] == path)?;
        line["fields"]["client.addr"].as_str().map(str::to_owned)
    })
    .await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn t5_the_client_is_told_by_trusted_proxies_only() {
    let cluster = cluster_of(2)
        .nginx(true)
        .env("UNDERSTUDY_LOG_FILTER", "info,understudy_runtime::http=debug")
        .start()
        .await;
    let visitor = Ipv4Addr::new(127, 0, 0, 3);
    for round in 0..4 {
        let path = format!("/behind/{round}");
        let client = client_in_log(&cluster.nodes, &cluster.balancer(), visitor, &path).await;
        assert_eq!(client, visitor.to_string(), "nginx is trusted, its visitor is not");
    }
    let path = "/past-the-balancer";
    let client = client_in_log(&cluster.nodes, cluster.url(0), visitor, path).await;
    assert_eq!(client, visitor.to_string(), "a stranger is not believed");
    // Only 127.0.0.1 may tell a story: it is what the harness trusts.
    let path = "/as-a-proxy";
    let client = client_in_log(&cluster.nodes, cluster.url(1), Ipv4Addr::LOCALHOST, path).await;
    assert_eq!(client, "6.6.6.6");
}

#[tokio::test(flavor = "multi_thread")]
async fn t6_every_node_calls_itself_what_browsers_call_the_cluster() {
    let mut cluster = cluster_of(2).env("UNDERSTUDY_HTTP_EXTERNAL_URL", SHOP).start().await;
    for base in [cluster.url(0), cluster.url(1)] {
        let client = Client::new();
        let moved = client.build(Method::POST, base, "/moved");
        let moved = moved.header("host", "evil.test").header("x-forwarded-host", "evil.test");
        let moved = client.send(moved).await.unwrap().expect(303);
        assert_eq!(moved.header("location"), Some("https://shop.example/read"));
        let begun = client.post(base, "/incr").await.unwrap().expect(200);
        let cookie = begun.set_cookies().join("\n");
        assert!(cookie.starts_with("__Host-usid=") && cookie.contains("; Secure"), "{cookie}");
        assert!(begun.header("strict-transport-security").is_some(), "{begun:?}");
        for (origin, status) in [(SHOP, 200), (base, 403)] {
            let post = client.build(Method::POST, base, "/incr").header("origin", origin);
            assert_eq!(client.send(post).await.unwrap().status, status, "{origin}");
        }
    }
    let other =
        cluster.spec("other").await.env("UNDERSTUDY_HTTP_EXTERNAL_URL", "https://other.example");
    let other = started(other).await;
    let print = async |node| told(node, "/v1/config").await["fingerprint"].clone();
    assert_eq!(print(&cluster.nodes[0]).await, print(&cluster.nodes[1]).await);
    assert_ne!(print(&cluster.nodes[0]).await, print(&other).await, "a part of the fingerprint");
}

#[tokio::test(flavor = "multi_thread")]
async fn g9_nodes_that_differ_in_what_belongs_to_them_have_one_fingerprint() {
    let mut cluster = cluster_of(1).start().await;
    let url = cluster.url(0).to_owned();
    let same = cluster.spec("same").await;
    let same = same
        .env("UNDERSTUDY_HTTP_EXTERNAL_URL", &url)
        .env("UNDERSTUDY_HTTP_WORKERS", "1")
        .env("UNDERSTUDY_NODE_LABELS", "zone=a,disk=ssd")
        .env("UNDERSTUDY_LOG_FORMAT", "text");
    let other = cluster.spec("other").await.env("UNDERSTUDY_HTTP_EXTERNAL_URL", &url);
    let other = other.env("UNDERSTUDY_SESSION_IDLE_S", "1234");
    let (same, other) = tokio::join!(started(same), started(other));
    let print = async |node| told(node, "/v1/config").await["fingerprint"].clone();
    let first = print(&cluster.nodes[0]).await;
    assert_eq!(print(&same).await, first);
    assert_ne!(print(&other).await, first);
    // Each node knows of the others' fingerprints.
    let hashes = async || {
        let list = told(&same, "/v1/nodes").await;
        let nodes = list["nodes"].as_array().cloned().unwrap_or_default();
        let equal = |it: &&Value| it["record"]["config_hash"] == first;
        (nodes.len(), nodes.iter().filter(equal).count())
    };
    wait::until("all are listed", LIMIT, async || hashes().await.0 == 3).await;
    oracle!("nodes of three with the first one's fingerprint", hashes().await.1, 2);
}
