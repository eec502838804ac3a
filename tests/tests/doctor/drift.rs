//! Options that differ between nodes.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use understudy_tests::{Client, Cluster, oracle, wait};

use super::ground::{LIMIT, OPERATOR, Stage, ask, check, found, gone, refused, told};

const SECRET: &str = "a-secret-of-these-tests-0123456789abcdef";
const CANARY: &str = "canary-of-these-tests-0123456789-abcdef";

#[tokio::test(flavor = "multi_thread")]
async fn g1_every_node_names_the_options_that_differ_and_shows_no_secret() {
    let builder = Cluster::builder()
        .env("UNDERSTUDY_SESSION_SECRET", SECRET)
        .node_env(2, "UNDERSTUDY_SESSION_SECRET", &format!("{SECRET},{CANARY}"))
        .node_env(2, "UNDERSTUDY_SESSION_IDLE_S", "900");
    let stage = Stage::with(builder).await;
    let part = "UNDERSTUDY_SESSION_IDLE_S (node-a, node-b | node-c)";
    stage.all_tell("config_drift", part).await;
    stage.all_in_the_same_words("config_drift", || ()).await;
    let problem = stage.all_tell("config_drift", part).await;
    assert!(problem["text"].as_str().unwrap().contains("UNDERSTUDY_SESSION_SECRET"), "{problem}");
    assert_eq!(problem["node"], Value::Null);
    for node in &stage.cluster.nodes {
        let drift = told(node, "/v1/config/drift").await;
        assert_eq!((&drift["drift"], &drift["unreachable"]), (&true.into(), &Value::Array(vec![])));
        let differing = drift["differences"].as_array().unwrap();
        let names: Vec<&str> = differing.iter().map(|it| it["option"].as_str().unwrap()).collect();
        // How often a session is written down for nothing is worked out from how long it lives.
        let expected =
            ["IDLE_S", "SECRET", "TOUCH_S"].map(|end| format!("UNDERSTUDY_SESSION_{end}"));
        oracle!("options that differ", format!("{names:?}"), format!("{expected:?}"));
        assert_eq!(differing[0]["values"]["node-a"], "1800");
        assert_eq!(differing[0]["values"]["node-c"], "900");
        let secrets = differing[1]["values"].as_object().unwrap();
        let distinct: BTreeSet<&str> = secrets.values().map(|it| it.as_str().unwrap()).collect();
        assert_eq!(distinct.len(), 2, "{drift}");
        assert!(distinct.iter().all(|it| it.starts_with("****** ") && it.len() == 15), "{drift}");
        let hashes = drift["fingerprints"].as_object().unwrap().values();
        let hashes: BTreeSet<&str> = hashes.map(|it| it.as_str().unwrap()).collect();
        assert_eq!(hashes.len(), 2, "{drift}");
    }
    let everything = format!(
        "{}{}",
        told(stage.node(0), "/v1/problems").await,
        told(stage.node(0), "/v1/config/drift").await
    );
    oracle!(
        "places that tell a secret",
        everything.matches(CANARY).count() + everything.matches(SECRET).count(),
        0
    );
    let found = found(stage.node(1), "config_drift", "warning").await;
    assert!(found["text"].as_str().unwrap().contains("UNDERSTUDY_SESSION_IDLE_S"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_a_node_that_does_not_answer_is_named_and_drift_ends_with_its_cause() {
    let builder = Cluster::builder()
        .nodes(2)
        .env("UNDERSTUDY_CLUSTER_NODE_TTL_MS", "6000")
        .node_env(1, "UNDERSTUDY_SESSION_IDLE_S", "900");
    let mut stage = Stage::with(builder).await;
    stage.all_tell("config_drift", "UNDERSTUDY_SESSION_IDLE_S (node-a | node-b)").await;
    stage.node(1).stop();
    let drift = told(stage.node(0), "/v1/config/drift").await;
    oracle!("nodes that did not answer", drift["unreachable"].to_string(), "[\"node-b\"]");
    let problems = told(stage.node(0), "/v1/problems").await;
    assert_eq!(problems["unreachable"], serde_json::json!(["node-b"]), "{problems}");
    let answer = ask(stage.node(0), "/v1/config?node=node-b").await.expect(503);
    assert_eq!(answer.json::<Value>()["code"], "node_unreachable");
    stage.node(1).cont();
    stage.cluster.nodes[1].set_env("UNDERSTUDY_SESSION_IDLE_S", "1800");
    stage.cluster.restart(1).await;
    gone(stage.node(0), "config_drift").await;
    assert_eq!(told(stage.node(1), "/v1/config/drift").await["drift"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn g1_with_refuse_a_node_with_other_options_ends_with_78_and_names_them() {
    let builder = Cluster::builder().nodes(2).env("UNDERSTUDY_CLUSTER_CONFIG_DRIFT", "refuse");
    let mut stage = Stage::with(builder).await;
    let like = stage.spec("node-c").await.env("UNDERSTUDY_CLUSTER_CONFIG_DRIFT", "refuse");
    let other = like.clone().env("UNDERSTUDY_SESSION_IDLE_S", "4321");
    let other = other.env("UNDERSTUDY_SESSION_TOUCH_S", "123");
    let (status, said) = refused(other).await;
    oracle!("exit status of a node with other options", status, 78);
    for part in [
        "UNDERSTUDY_CLUSTER_CONFIG_DRIFT",
        "UNDERSTUDY_SESSION_IDLE_S",
        "UNDERSTUDY_SESSION_TOUCH_S",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let last = said.lines().last().unwrap_or_default();
    assert!(!last.contains("4321") && !last.contains("123"), "no values: {last}");
    let problem = stage.all_tell("refused_node", "refused as node-c").await;
    assert!(problem["text"].as_str().unwrap().contains("UNDERSTUDY_SESSION_IDLE_S"), "{problem}");
    oracle!("traces of the refused node", stage.cluster.traces_of("node-c").len(), 0);
    // With the options of the others it may come.
    let mut node = like.start();
    node.ready(LIMIT).await;
    stage.cluster.nodes.push(node);
    assert_eq!(told(stage.node(2), "/v1/config/drift").await["drift"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_the_options_of_any_node_are_told_by_any_node_with_where_they_come_from() {
    let builder = Cluster::builder().nodes(2).node_env(1, "UNDERSTUDY_NODE_LABELS", "zone=b");
    let stage = Stage::with(builder).await;
    let here = told(stage.node(0), "/v1/config?node=node-b").await;
    let there = told(stage.node(1), "/v1/config").await;
    assert_eq!(here, there);
    assert_eq!(here["node"], "node-b");
    assert_eq!(here["options"]["UNDERSTUDY_NODE_LABELS"], "zone=b");
    for (option, source) in [
        ("NODE_LABELS", "environment"),
        ("SESSION_IDLE_S", "default"),
        ("SESSION_TOUCH_S", "derived"),
        ("SESSION_SECRET", "environment"),
    ] {
        assert_eq!(here["sources"][format!("UNDERSTUDY_{option}")], source, "{option}");
    }
    let local: Vec<&str> =
        here["node_local"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert!(local.contains(&"UNDERSTUDY_NODE_ID") && !local.contains(&"UNDERSTUDY_SESSION_IDLE_S"));
    let answer = ask(stage.node(0), "/v1/config?node=nobody").await.expect(404);
    assert_eq!(answer.json::<Value>()["code"], "unknown_node");
    let answer = ask(stage.node(0), "/v1/config?nod=x").await.expect(400);
    assert_eq!(answer.json::<Value>()["parameter"], "nod");
    // A viewer may look; nobody needs more for it.
    let viewer = Client::new().bearing("wrong");
    viewer.get(stage.node(0).admin_url(), "/v1/config/drift").await.unwrap().expect(401);
    let nobody = Client::new();
    nobody.get(stage.node(0).admin_url(), "/v1/problems").await.unwrap().expect(401);
    let examination = told(stage.node(0), "/v1/diag?node=node-b").await;
    assert_eq!(examination["node"], "node-b");
    assert_eq!(check(&examination, "config_drift")["result"], "ok");
    let client = Client::new().bearing(OPERATOR);
    wait::until("health is not asked for a token", Duration::from_secs(5), async || {
        client.stranger().get(stage.node(0).admin_url(), "/health/ready").await.unwrap().status
            == 200
    })
    .await;
}
