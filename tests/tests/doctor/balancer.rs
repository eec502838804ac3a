//! Looking through the balancer: nginx with the configuration that is shipped, and with mistakes in it.

use serde_json::Value;
use understudy_tests::{Client, Cluster, Nginx, Node, oracle, wait};

use super::ground::{LIMIT, Stage, ask, check, told};

const SAMPLE: &str = include_str!("../../../deploy/nginx.conf");
const VIEWER: &str = "a-viewer-of-these-tests-0123456789abc";
const CODES: [&str; 7] = ["ready", "nodes", "page", "https", "headers", "body_limit", "websocket"];

async fn through(node: &Node, url: &str) -> Value {
    told(node, &format!("/v1/diag?through={url}")).await
}

/// Those of the balancer's checks that are not well.
fn unwell(examination: &Value) -> Vec<String> {
    let checks = CODES.iter().map(|code| check(examination, &format!("balancer_{code}")));
    let bad = checks.filter(|it| it["result"] != "ok");
    bad.map(|it| format!("{}: {} {}", it["code"], it["result"], it["text"])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn h8_the_shipped_configuration_passes_all_checks_and_mistakes_are_found() {
    let builder = Cluster::builder().nginx(true).env("UNDERSTUDY_ADMIN_VIEWER_TOKEN", VIEWER);
    let stage = Stage::behind_a_balancer(builder).await;
    let balancer = stage.cluster.balancer();
    let node = stage.node(0);
    let examination = told(node, "/v1/diag").await;
    for code in CODES {
        let check = check(&examination, &format!("balancer_{code}"));
        assert_eq!(check["result"], "skipped", "{check}");
    }
    let examination = through(node, &balancer).await;
    oracle!("checks through the balancer that are not well", unwell(&examination).join("\n"), "");
    let nodes = check(&examination, "balancer_nodes")["text"].as_str().unwrap();
    for name in ["node-a", "node-b", "node-c"] {
        assert!(nodes.contains(name), "{name} in {nodes}");
    }
    let elsewhere = told(node, &format!("/v1/diag?node=node-b&through={balancer}")).await;
    assert_eq!(elsewhere["node"], "node-b");
    oracle!("the same from another node", unwell(&elsewhere).join("\n"), "");
    // Its limit for bodies is lower than that of the nodes, and one node is missing.
    let ports: Vec<u16> = stage.cluster.nodes.iter().map(port).collect();
    let small = SAMPLE.replace("client_max_body_size 10m;", "client_max_body_size 1m;");
    let nginx = Nginx::with_config(&small, &ports[..2]).await;
    // Only nodes that are ready are missed, and on a busy machine one may not be for a moment.
    let (examination, _) = wait::until_some("the third node is missed", LIMIT, async || {
        let examination = through(node, &nginx.url()).await;
        let missed = check(&examination, "balancer_nodes")["result"] == "warning";
        missed.then_some(examination)
    })
    .await;
    let nodes = check(&examination, "balancer_nodes");
    assert!(nodes["text"].as_str().unwrap().ends_with("none from node-c"), "{nodes}");
    let body = check(&examination, "balancer_body_limit");
    assert_eq!(body["result"], "warning");
    assert!(body["text"].as_str().unwrap().contains("413"), "{body}");
    // It makes ordinary requests of those for a WebSocket.
    let ordinary = SAMPLE.replace("proxy_set_header Upgrade $http_upgrade;", "").replace(
        "proxy_set_header Connection $connection_upgrade;",
        "proxy_set_header Connection \"\";",
    );
    let nginx = Nginx::with_config(&ordinary, &ports).await;
    let examination = through(node, &nginx.url()).await;
    let websocket = check(&examination, "balancer_websocket");
    assert_eq!(websocket["result"], "warning", "{websocket}");
    // It tells nodes its own name for them in place of what browsers ask for.
    let nameless = SAMPLE
        .replace("proxy_set_header Host $http_host;", "proxy_set_header Host understudy;")
        .replace("proxy_set_header X-Forwarded-Host $http_host;", "");
    let nginx = Nginx::with_config(&nameless, &ports).await;
    let headers = through(node, &nginx.url()).await;
    let headers = check(&headers, "balancer_headers");
    assert_eq!(headers["result"], "warning", "{headers}");
    assert!(headers["text"].as_str().unwrap().contains("the host understudy"), "{headers}");
}

fn port(node: &Node) -> u16 {
    node.public_url().rsplit(':').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn h8_a_balancer_that_is_not_trusted_dead_or_another_is_found() {
    let builder = Cluster::builder()
        .nodes(2)
        .nginx(true)
        .env("UNDERSTUDY_ADMIN_VIEWER_TOKEN", VIEWER)
        .env("UNDERSTUDY_HTTP_TRUSTED_PROXIES", "10.9.9.9");
    let mut stage = Stage::behind_a_balancer(builder).await;
    let balancer = stage.cluster.balancer();
    let examination = through(stage.node(0), &balancer).await;
    let headers = check(&examination, "balancer_headers");
    assert_eq!(headers["result"], "warning", "{headers}");
    assert_eq!(headers["fix"], "add 127.0.0.1 to UNDERSTUDY_HTTP_TRUSTED_PROXIES");
    // Another service answers at the address that was given.
    let admin = stage.node(1).admin_url().to_owned();
    let examination = through(stage.node(0), &admin).await;
    assert_eq!(check(&examination, "balancer_nodes")["result"], "critical");
    stage.cluster.nginx = None;
    let examination = through(stage.node(0), &balancer).await;
    assert_eq!(check(&examination, "balancer_ready")["result"], "critical");
    assert_eq!(examination["worst"], "critical");
    // It makes a node send requests, so looking is not enough.
    let viewer = Client::new().bearing(VIEWER);
    let path = format!("/v1/diag?through={balancer}");
    viewer.get(stage.node(0).admin_url(), "/v1/diag").await.unwrap().expect(200);
    viewer.get(stage.node(0).admin_url(), &path).await.unwrap().expect(403);
    for bad in ["file:///etc/passwd", "ftp://h", "h", "http://u:p@h", "http://h/?a=b"] {
        let answer = ask(stage.node(0), &format!("/v1/diag?through={bad}")).await;
        assert_eq!(answer.expect(400).json::<Value>()["parameter"], "through", "{bad}");
    }
    // For strangers the doctor's path is not there.
    let stranger = Client::new();
    let url = stage.node(0).public_url();
    stranger.get(url, "/health/understudy-probe").await.unwrap().expect(404);
}
