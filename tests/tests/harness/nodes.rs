//! Nodes as processes: started, killed, stopped, asked to leave; their errors fail a test.

use std::time::Duration;

use understudy_tests::{
    Client, Cluster, Node, NodeSpec, Program, Topology, on_every_topology, oracle, wait,
};

const LIMIT: Duration = Duration::from_secs(30);

/// What /incr and /read answer.
#[derive(Debug, serde::Deserialize)]
struct Count {
    value: Option<i64>,
}

async fn count(client: &Client, base: &str, path: &str) -> Option<i64> {
    client.get(base, path).await.unwrap().expect(200).json::<Count>().value
}

async fn started(spec: NodeSpec) -> Node {
    let mut node = spec.program(Program::Fixture).start();
    node.ready(LIMIT).await;
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_its_own_keeps_its_sessions_over_a_kill() {
    let mut node = started(NodeSpec::new("alone")).await;
    let client = Client::new();
    let url = node.public_url().to_owned();
    assert_eq!(count(&client, &url, "/read").await, None);
    assert!(client.cookies().is_empty(), "reading begins no session");
    assert_eq!(count(&client, &url, "/incr").await, Some(1));
    assert_eq!(client.cookies().len(), 1);
    node.kill9();
    assert!(client.get(&url, "/nothing").await.is_err());
    node.start_again();
    let took = node.ready(LIMIT).await;
    oracle!("restart of a node on its own, ms", took.as_millis(), within 10_000);
    assert_eq!(count(&client, &url, "/incr").await, Some(2));
    let answer = client.get(&url, "/nothing").await.unwrap().expect(200);
    assert_eq!(answer.node(), Some("alone"));
    assert!(node.usage().resident_bytes > 0);
    assert!(!node.events().is_empty(), "its log is JSON: {}", node.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_asked_to_leave_ends_well() {
    let mut node = started(NodeSpec::new("leaving")).await;
    node.terminate();
    let status = node.wait_exit(LIMIT).await;
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_option_ends_a_node_with_78_and_its_name() {
    let mut node = NodeSpec::new("wrong").env("UNDERSTUDY_SESSION_IDLE_S", "soon").start();
    let status = node.wait_exit(LIMIT).await;
    assert_eq!(status.code(), Some(78));
    assert!(node.log().contains("UNDERSTUDY_SESSION_IDLE_S"), "{}", node.log());
}

async fn a_node_whose_handler_panicked(spec: NodeSpec) -> Node {
    let node = started(spec).await;
    drop(Client::new().get(node.public_url(), "/panic").await);
    wait::until("the panic is in the log", LIMIT, async || node.log().contains("panicked")).await;
    Client::new().get(node.public_url(), "/nothing").await.unwrap().expect(200);
    node
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "the test does not allow, the first:")]
async fn an_error_in_the_log_of_a_node_fails_the_test() {
    drop(a_node_whose_handler_panicked(NodeSpec::new("panicking")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_error_does_not() {
    let spec = NodeSpec::new("panicking").allow_error("panicked");
    drop(a_node_whose_handler_panicked(spec).await);
}

on_every_topology!(a_cluster_counts_over_the_loss_of_nodes);

async fn a_cluster_counts_over_the_loss_of_nodes(topology: Topology) {
    let mut cluster = Cluster::builder().nodes(2).redis(topology).nginx(true).start().await;
    let client = Client::new();
    let mut last = 0;
    for _ in 0..10 {
        last = counted(&client, &cluster.balancer(), last).await;
    }
    assert!(last >= 10);
    cluster.kill9(0);
    let start = tokio::time::Instant::now();
    last = counted(&client, cluster.url(1), last).await;
    let took = start.elapsed().as_millis();
    oracle!("takeover after a kill, ms", took, within 15_000);
    cluster.restart(0).await;
    counted(&client, cluster.url(0), last).await;
}

/// Counts until the answer is 200; no acknowledged count may be missing from it. A 503 is asked again
/// as a browser would: on a machine that is busy with other things a node may lose its lease.
async fn counted(client: &Client, base: &str, before: i64) -> i64 {
    let (answer, _) = wait::until_some("an increment succeeds", LIMIT, async || {
        client.post(base, "/incr").await.ok().filter(|answer| answer.status == 200)
    })
    .await;
    let value = answer.json::<Count>().value.unwrap();
    assert!(value > before, "{value} after {before} was acknowledged");
    value
}
