//! Without a collector: one id in the log of all nodes, and nothing that leaves them.

use reqwest::Method;
use serde_json::Value;
use understudy_tests::{Client, Cluster, Node, oracle, wait};

use super::collector::{Collector, LIMIT, caller};

/// The lines of a node that belong to a trace, by the fields of the spans they stand in.
fn lines_of(node: &Node, trace: &str) -> usize {
    let belongs = |event: &Value| {
        let spans = event["spans"].as_array();
        spans.is_some_and(|spans| spans.iter().any(|span| span["trace_id"] == trace))
    };
    node.events().iter().filter(|event| belongs(event)).count()
}

fn threads(node: &Node) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", node.pid())).unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn o8_one_id_is_found_in_the_logs_of_two_nodes_when_nothing_is_exported() {
    let collector = Collector::start().await;
    let filter = "info,understudy_runtime::http=debug,fixture=debug";
    let cluster = Cluster::builder().nodes(2).env("UNDERSTUDY_LOG_FILTER", filter).start().await;
    let client = Client::new();
    for node in 0..2 {
        client.post(cluster.url(node), "/broadcast-listen").await.unwrap().expect(204);
    }
    let caller = caller(true);
    let request = client.build(Method::POST, cluster.url(0), "/broadcast");
    let request = request.header("traceparent", &caller.header);
    client.send(request).await.unwrap().expect(200);
    for node in &cluster.nodes {
        let what = format!("{} has a line of the trace", node.name());
        wait::until(&what, LIMIT, async || lines_of(node, &caller.trace) > 0).await;
        oracle!(
            "threads for traces",
            threads(node).iter().filter(|name| *name == "traces").count(),
            0
        );
        let metric = node.metric("understudy_trace_spans_sent_total").await;
        oracle!("spans sent", metric, 0.0);
    }
    oracle!("spans at a collector that nobody was told of", collector.spans().len(), 0);
}
