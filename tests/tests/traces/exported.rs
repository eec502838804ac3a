//! What a collector sees.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use reqwest::Method;
use serde_json::{Value, json};
use understudy_tests::{Client, Cluster, ClusterBuilder, Program, oracle, wait};

use super::collector::{Caller, Collector, LIMIT, Seen, caller};

fn two_nodes(collector: &Collector) -> ClusterBuilder {
    Cluster::builder().nodes(2).env("UNDERSTUDY_TRACES_ENDPOINT", collector.url())
}

/// POST within the trace of a caller.
async fn post(client: &Client, base: &str, path: &str, caller: &Caller) {
    let request = client.build(Method::POST, base, path).header("traceparent", &caller.header);
    client.send(request).await.unwrap().expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn o8_a_request_whose_session_another_node_owns_is_one_trace() {
    let collector = Collector::start().await;
    let cluster = two_nodes(&collector).start().await;
    let client = Client::new();
    client.post(cluster.url(0), "/incr?word=s3cret-query").await.unwrap().expect(200);
    let caller = caller(true);
    post(&client, cluster.url(1), "/incr?word=s3cret-query", &caller).await;
    let request = collector.span(&caller.trace, Some("node-b"), "POST /incr").await;
    let asked = collector.span(&caller.trace, Some("node-b"), "bus.request session.forward").await;
    let handled = collector.span(&caller.trace, Some("node-a"), "bus.handle session.forward").await;
    oracle!("parent of the request", request.parent, caller.span);
    oracle!("parent of what it asks the other node", asked.parent, request.id);
    oracle!("parent of what the other node does", handled.parent, asked.id);
    let kinds = [request.kind, asked.kind, handled.kind];
    assert_eq!(kinds, [SpanKind::Server, SpanKind::Client, SpanKind::Server]);
    oracle!("status", request.attributes["http.response.status_code"].as_str(), "200");
    oracle!("path", request.attributes["url.path"].as_str(), "/incr");
    let id = client.get(cluster.url(0), "/all").await.unwrap().expect(200).json::<Value>();
    oracle!("session", json!(request.attributes["session.id"]), id["id"]);
    tells_no_secret(&collector, &client);
}

/// Nothing of a query or a cookie is in any span.
fn tells_no_secret(collector: &Collector, client: &Client) {
    let cookies = client.cookies();
    let secrets: Vec<&str> = cookies.values().map(String::as_str).chain(["s3cret-query"]).collect();
    let told = |span: &Seen| {
        let text = format!("{span:?}");
        secrets.iter().any(|secret| text.contains(secret))
    };
    oracle!(
        "spans that tell a secret",
        collector.spans().iter().filter(|span| told(span)).count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn x6_what_a_session_holds_is_in_no_span() {
    const CANARY: &str = "canary-value-of-a-session";
    let collector = Collector::start().await;
    let builder = two_nodes(&collector).program(Program::Understudy);
    let key = "name:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let cluster = builder.env("UNDERSTUDY_SESSION_ENCRYPTION_KEYS", key).start().await;
    let client = Client::new();
    let path = "/api/session/values/note";
    client.put_json(cluster.url(0), path, CANARY).await.unwrap().expect(204);
    let caller = caller(true);
    let put = client.build(Method::PUT, cluster.url(1), path).json(CANARY);
    client.send(put.header("traceparent", &caller.header)).await.unwrap().expect(204);
    collector.span(&caller.trace, Some("node-a"), "bus.handle session.forward").await;
    let cookies = client.cookies();
    let told = |span: &Seen| {
        let text = format!("{span:?}");
        text.contains(CANARY) || cookies.values().any(|cookie| text.contains(cookie.as_str()))
    };
    let spans = collector.spans();
    oracle!("spans that tell it", spans.iter().filter(|span| told(span)).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn o8_a_broadcast_is_one_trace_with_a_span_of_each_node() {
    let collector = Collector::start().await;
    let cluster = two_nodes(&collector).start().await;
    let client = Client::new();
    for node in 0..2 {
        client.post(cluster.url(node), "/broadcast-listen").await.unwrap().expect(204);
    }
    let caller = caller(true);
    post(&client, cluster.url(0), "/broadcast", &caller).await;
    for node in ["node-a", "node-b"] {
        collector.span(&caller.trace, Some(node), "bus.handle fixture.who-are-you").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o8_a_job_continues_the_trace_of_the_request_that_asked_for_it() {
    let collector = Collector::start().await;
    let cluster = two_nodes(&collector)
        // So that the job runs elsewhere than the request.
        .node_env(0, "FIXTURE_WITHOUT", "fail")
        .env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", "an-operator-of-these-tests")
        .start()
        .await;
    cluster.postgres.query(
        "CREATE TABLE probe (job text, fire_ms bigint, epoch bigint, node text, run bigint, attempt integer, at_ms bigint)",
    );
    let operator = Client::new().bearing("an-operator-of-these-tests");
    let job = json!({
        "name": "task", "handler": "fail", "schedule": { "kind": "manual" }, "placement": "any",
        "overlap": { "policy": "allow", "max": 10 }, "params": { "succeeds_at": 2 },
        "retry": { "retries": 1, "delay_ms": 10 },
    });
    let made =
        operator.put_json(cluster.nodes[0].admin_url(), "/v1/jobs/task", &job).await.unwrap();
    assert!(matches!(made.status, 200 | 201), "{}", made.text);
    let caller = caller(true);
    post(&Client::new(), cluster.url(0), "/enqueue?job=task&count=1", &caller).await;
    let request = collector.span(&caller.trace, Some("node-a"), "POST /enqueue").await;
    wait::until("the run has ended", LIMIT, async || {
        let ended =
            "SELECT count(*) FROM us_job_run WHERE job = 'task' AND finished_ms IS NOT NULL";
        cluster.postgres.query(ended).trim() == "1"
    })
    .await;
    let runs = wait::until_some("both attempts are there", LIMIT, async || {
        let spans = collector.trace(&caller.trace).into_iter();
        let runs: Vec<_> = spans.filter(|span| span.name == "job.run task").collect();
        (runs.len() >= 2).then_some(runs)
    });
    let mut runs = runs.await.0;
    runs.sort_by_key(|run| run.attributes["attempt"].clone());
    for (number, run) in runs.iter().enumerate() {
        oracle!("parent of a run", run.parent, request.id);
        oracle!("its node", run.node, "node-b");
        oracle!("its attempt", run.attributes["attempt"], (number + 1).to_string());
        assert_eq!(run.kind, SpanKind::Consumer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_decision_of_the_caller_is_kept_and_nobody_else_is_traced_beyond_the_share() {
    const REQUESTS: usize = 50;
    for (share, of_all) in [("0", 0), ("1", REQUESTS)] {
        let collector = Collector::start().await;
        let builder = two_nodes(&collector).nodes(1).env("UNDERSTUDY_TRACES_SAMPLE", share);
        let cluster = builder.start().await;
        let (client, url) = (Client::new(), cluster.url(0));
        for _ in 0..REQUESTS {
            client.get(url, "/nothing").await.unwrap().expect(200);
        }
        let (unwanted, wanted) = (caller(false), caller(true));
        for caller in [&unwanted, &wanted] {
            post(&client, url, "/incr", caller).await;
        }
        collector.span(&wanted.trace, None, "POST /incr").await;
        oracle!(
            "spans of a trace that its caller does not record",
            collector.trace(&unwanted.trace).len(),
            0
        );
        let drawn = || collector.spans().iter().filter(|span| span.name == "GET /nothing").count();
        wait::until("all that were drawn are there", LIMIT, async || drawn() >= of_all).await;
        oracle!("requests drawn", drawn(), of_all);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_sends_the_rest() {
    let collector = Collector::start().await;
    let mut cluster = two_nodes(&collector).nodes(1).start().await;
    let caller = caller(true);
    post(&Client::new(), cluster.url(0), "/incr", &caller).await;
    cluster.nodes[0].terminate();
    let status = cluster.nodes[0].wait_exit(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}");
    oracle!("spans that came before its end", collector.trace(&caller.trace).len(), >= 1);
}
