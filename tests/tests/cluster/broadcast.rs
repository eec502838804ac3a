//! A question to all nodes, of which one does not answer.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use understudy_tests::{Client, Cluster, NodeSpec, Program, oracle};

use super::ground::{cluster_of, started};

const TIMEOUT: Duration = Duration::from_millis(1_500);

/// Three nodes that answer, and wait this long for others.
async fn three_that_answer() -> Cluster {
    let timeout = TIMEOUT.as_millis().to_string();
    let env = "UNDERSTUDY_CLUSTER_BROADCAST_TIMEOUT_MS";
    let cluster = cluster_of(3).env(env, &timeout).start().await;
    for node in &cluster.nodes {
        Client::new().post(node.public_url(), "/broadcast-listen").await.unwrap().expect(204);
    }
    cluster
}

async fn ask(base: &str, query: &str) -> Value {
    let path = format!("/broadcast{query}");
    Client::new().post(base, &path).await.unwrap().expect(200).json()
}

/// The nodes in one part of a result.
fn nodes(result: &Value, part: &str) -> Vec<String> {
    let answers = result[part].as_array().expect("a list").iter();
    answers.map(|answer| answer["node"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn j18_a_stopped_node_is_named_and_the_others_answer() {
    let cluster = three_that_answer().await;
    let all = ask(cluster.url(0), "").await;
    assert_eq!(nodes(&all, "ok"), ["node-a", "node-b", "node-c"], "{all}");
    assert_eq!(all["all_ok"], true, "{all}");
    for (node, answer) in cluster.nodes.iter().zip(all["ok"].as_array().unwrap()) {
        assert_eq!(answer["pid"], node.pid(), "each answers for itself");
    }
    cluster.nodes[2].stop();
    let begin = Instant::now();
    let partial = ask(cluster.url(0), "").await;
    let took = begin.elapsed();
    cluster.nodes[2].cont();
    oracle!("nodes that answered", nodes(&partial, "ok").len(), 2);
    oracle!("nodes that timed out", nodes(&partial, "failed").len(), 1);
    assert_eq!(nodes(&partial, "failed"), ["node-c"], "{partial}");
    assert_eq!(partial["failed"][0]["error"], "the node did not answer in time", "{partial}");
    assert_eq!(partial["all_ok"], false, "{partial}");
    assert!(took >= TIMEOUT, "{took:?}");
    oracle!("ms over the time-out", (took - TIMEOUT).as_millis(), within 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn j18_a_node_that_was_killed_is_named_while_it_is_listed() {
    let mut cluster = three_that_answer().await;
    cluster.kill9(1);
    let partial = ask(cluster.url(0), "").await;
    assert_eq!(nodes(&partial, "ok"), ["node-a", "node-c"], "{partial}");
    assert_eq!(nodes(&partial, "failed"), ["node-b"], "{partial}");
}

#[tokio::test(flavor = "multi_thread")]
async fn j18_only_the_nodes_of_the_target_are_asked_and_one_may_be_without_a_handler() {
    let mut cluster = three_that_answer().await;
    let one = ask(cluster.url(0), "?only=node-b").await;
    assert_eq!((nodes(&one, "ok"), nodes(&one, "failed")), (vec!["node-b".to_owned()], vec![]));
    let none = ask(cluster.url(0), "?only=nobody").await;
    assert_eq!((nodes(&none, "ok").len(), nodes(&none, "failed").len()), (0, 0), "{none}");
    cluster.restart(1).await;
    let partial = ask(cluster.url(0), "?only=node-b").await;
    let error = &partial["failed"][0]["error"];
    assert_eq!(error, "the node does not know this message", "{partial}");
}

#[tokio::test(flavor = "multi_thread")]
async fn j18_a_node_without_a_cluster_asks_itself() {
    let node = started(NodeSpec::new("alone").program(Program::Fixture)).await;
    Client::new().post(node.public_url(), "/broadcast-listen").await.unwrap().expect(204);
    let all = ask(node.public_url(), "").await;
    assert_eq!((nodes(&all, "ok"), &all["all_ok"]), (vec!["alone".to_owned()], &Value::Bool(true)));
}
