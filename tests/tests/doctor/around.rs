//! What nodes see of each other and of their servers.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use understudy_tests::{Client, Cluster, oracle, wait};

use super::ground::{LIMIT, OPERATOR, Stage, ask, found, gone, problem, told};

#[tokio::test(flavor = "multi_thread")]
async fn h7_a_node_of_another_version_is_told_by_every_node() {
    let stage = Stage::of(2).await;
    let own = told(stage.node(0), "/v1/about").await["version"].as_str().unwrap().to_owned();
    let version = format!("\"version\":\"{own}\"");
    let changes = [(version.as_str(), "\"version\":\"9.9.9\"")];
    let found =
        stage.all_tell_while("version_skew", "9.9.9 (ghost)", || stage.haunt(&changes)).await;
    assert_eq!(found["severity"], "info", "an upgrade that is under way is no fault");
    assert!(
        found["text"].as_str().unwrap().contains(&format!("{own} (node-a, node-b)")),
        "{found}"
    );
    // When it falls silent it is missed.
    stage.all_tell("node_lost", "ghost").await;
    for node in &stage.cluster.nodes {
        gone(node, "version_skew").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h7_a_node_that_was_killed_is_missed_until_it_is_back() {
    let mut stage = Stage::of(3).await;
    let killed = Instant::now();
    stage.cluster.kill9(2);
    let lost = stage.all_tell("node_lost", "node-c").await;
    let since_ms = lost["since_ms"].as_u64().unwrap();
    let now_ms = told(stage.node(0), "/v1/problems").await["checked_ms"].as_u64().unwrap();
    let ago = now_ms.saturating_sub(since_ms);
    let at_most = killed.elapsed().as_millis() as u64 + 2_000;
    oracle!("told as begun before, ms", ago, <= at_most);
    found(stage.node(0), "lost_nodes", "warning").await;
    stage.cluster.restart(2).await;
    gone(stage.node(0), "node_lost").await;
    // One that says farewell is not missed.
    stage.node(2).terminate();
    assert!(stage.cluster.nodes[2].wait_exit(LIMIT).await.success());
    tokio::time::sleep(Duration::from_secs(5)).await; // longer than a silent node counts as alive
    let missed = usize::from(problem(stage.node(0), "node_lost", "").await.is_some());
    oracle!("problems about a node that left", missed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn h7_without_redis_every_node_still_tells_and_says_so() {
    let mut stage = Stage::of(2).await;
    stage.cluster.redis.kill();
    for node in &stage.cluster.nodes {
        let away = wait::poll("it tells of Redis", LIMIT, Duration::from_millis(100), async || {
            problem(node, "redis_away", node.name()).await
        });
        let (_, took) = away.await;
        oracle!("told after, ms", took.as_millis(), within 5_000);
        wait::until("it is told as not ready", LIMIT, async || {
            problem(node, "not_ready", "redis").await.is_some()
        })
        .await;
        let begun = Instant::now();
        ask(node, "/v1/problems").await.expect(200);
        oracle!("problems without Redis take, ms", begun.elapsed().as_millis(), within 2_500);
        let begun = Instant::now();
        let examination = told(node, "/v1/diag").await;
        oracle!("the doctor without Redis takes, ms", begun.elapsed().as_millis(), within 10_000);
        assert_eq!(examination["worst"], "critical");
    }
    stage.cluster.redis.restart(understudy_tests::Data::Lost).await;
    for node in &stage.cluster.nodes {
        gone(node, "redis_away").await;
        gone(node, "not_ready").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h7_problems_are_counted_and_logged_once() {
    let stage =
        Stage::with(Cluster::builder().nodes(2).env("UNDERSTUDY_SESSION_WAIT_MS", "1500")).await;
    let found = stage.all_tell("config_warning", "UNDERSTUDY_SESSION_WAIT_MS").await;
    oracle!("nodes that tell it", found["nodes"].as_array().unwrap().len(), 2);
    super::ground::found(stage.node(0), "options", "warning").await;
    let client = Client::new().bearing(OPERATOR);
    let text = client.get(stage.node(0).admin_url(), "/metrics").await.unwrap().expect(200).text;
    let line = "understudy_problems{code=\"config_warning\",severity=\"warning\"} 1";
    assert!(text.contains(line), "{line} in\n{text}");
    tokio::time::sleep(Duration::from_secs(3)).await; // as long as three more looks take
    let told: Vec<Value> = stage.node(0).events();
    let lines = told.iter().filter(|it| it["fields"]["code"] == "config_warning").count();
    oracle!("lines in the log about it", lines, 1);
    let about = super::ground::told(stage.node(0), "/v1/about").await;
    assert!(about["warnings"].to_string().contains("UNDERSTUDY_SESSION_WAIT_MS"), "{about}");
}
