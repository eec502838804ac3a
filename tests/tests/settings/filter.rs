//! The log filter: changed on one node, in force on all, and back by itself.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use understudy_tests::{Client, Node, oracle, wait};

use super::stage::{LIMIT, OPERATOR, Stage, admin, ask, value};

const PATH: &str = "/v1/settings/log_filter";
const DEBUG: &str = "info,understudy_runtime=debug";

/// Asks a node once, and counts the lines that it writes of it at `debug`.
async fn lines_of_a_request(node: &Node) -> usize {
    let answered = |node: &Node| {
        let events = node.events();
        let line = |event: &&serde_json::Value| {
            event["level"] == "DEBUG" && event["fields"]["http.path"] == "/nothing"
        };
        events.iter().filter(line).count()
    };
    let before = answered(node);
    ask(node, "/nothing").await.expect(200);
    answered(node) - before
}

async fn lines_of_all(stage: &Stage) -> Vec<usize> {
    let mut lines = Vec::new();
    for node in &stage.cluster.nodes {
        lines.push(lines_of_a_request(node).await);
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_a_log_filter_put_on_one_node_changes_all_and_goes_back() {
    let stage = Stage::start().await;
    assert_eq!(lines_of_all(&stage).await, [0, 0, 0]);
    let body = json!({ "value": DEBUG, "why": "what happens here?" });
    let answer = stage.put(0, PATH, body).await.expect(200);
    let lines = lines_of_all(&stage).await;
    oracle!(
        "nodes that write more once it is answered",
        lines.iter().filter(|one| **one == 1).count(),
        3
    );
    let changed: serde_json::Value = answer.json();
    assert_eq!(changed["unreachable"], json!([]), "{changed}");
    for node in &stage.cluster.nodes {
        let shown = value(node, "log_filter").await;
        assert_eq!(
            (&shown["value"], &shown["default"], &shown["by"], &shown["why"]),
            (&json!(DEBUG), &json!("info"), &json!("admin"), &json!("what happens here?"))
        );
    }
    admin().delete(stage.node(1).admin_url(), PATH).await.unwrap().expect(200);
    assert_eq!(lines_of_all(&stage).await, [0, 0, 0], "taken back on another node");
    let began = Instant::now();
    let body = json!({ "value": DEBUG, "why": "for a moment", "for_s": 3 });
    stage.put(2, PATH, body).await.expect(200);
    assert_eq!(lines_of_all(&stage).await, [1, 1, 1]);
    let mut back = Vec::new();
    for node in &stage.cluster.nodes {
        wait::until("it is back", LIMIT, async || {
            value(node, "log_filter").await["value"] == "info"
        })
        .await;
        back.push(began.elapsed());
    }
    assert!(back[0] >= Duration::from_millis(2_900), "{back:?}");
    oracle!("ms until all were back after 3 s", back[2].as_millis(), within 5_000);
    assert_eq!(lines_of_all(&stage).await, [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_a_node_that_does_not_answer_is_named_and_learns_of_it() {
    let timeout = "UNDERSTUDY_CLUSTER_BROADCAST_TIMEOUT_MS";
    let stage = Stage::with(understudy_tests::Cluster::builder().env(timeout, "1000")).await;
    stage.node(2).stop();
    let body = json!({ "value": DEBUG, "why": "one sleeps" });
    let answer: serde_json::Value = stage.put(0, PATH, body).await.expect(200).json();
    stage.node(2).cont();
    assert_eq!(answer["unreachable"], json!(["node-c"]), "{answer}");
    let took = wait::until("the one that slept knows", LIMIT, async || {
        value(stage.node(2), "log_filter").await["value"] == DEBUG
    })
    .await;
    oracle!("ms until the one that slept knew", took.as_millis(), within 6_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_only_an_admin_may_change_it_and_all_is_written_down() {
    let stage = Stage::with(understudy_tests::Cluster::builder().nodes(1)).await;
    let admin_url = stage.node(0).admin_url();
    let operator = Client::new().bearing(OPERATOR);
    let body = json!({ "value": DEBUG, "why": "I would like to" });
    let refused = operator.put_json(admin_url, PATH, &body).await.unwrap().expect(403);
    assert_eq!(refused.json::<serde_json::Value>()["needed_role"], "admin");
    operator.delete(admin_url, PATH).await.unwrap().expect(403);
    stage.put(0, PATH, body).await.expect(200);
    wait::until("it is written down", LIMIT, async || {
        let audit = stage.told(0, "/v1/audit?action=settings.set").await;
        let entries = audit["entries"].as_array().expect("a list").clone();
        let outcomes: Vec<_> = entries.iter().map(|entry| entry["outcome"].clone()).collect();
        outcomes == [json!("done"), json!("refused")]
            && entries[0]["note"] == format!("log_filter: info -> {DEBUG}; I would like to")
    })
    .await;
}
