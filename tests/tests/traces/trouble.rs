//! A collector that is away or silent.

use std::time::Duration;

use reqwest::Method;
use tokio::net::TcpListener;
use tokio::time::Instant;
use understudy_tests::{Client, Cluster, oracle, wait};

use super::collector::{LIMIT, caller};

const REQUESTS: usize = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_silent_costs_no_request_and_no_stop() {
    // Whoever connects to it waits for ever.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    for endpoint in ["http://127.0.0.1:9", silent.as_str()] {
        let builder = Cluster::builder().nodes(1).env("UNDERSTUDY_TRACES_ENDPOINT", endpoint);
        let mut cluster = builder.start().await;
        let client = Client::new();
        let mut slowest = Duration::ZERO;
        for number in 0..REQUESTS {
            let begin = Instant::now();
            let path = if number % 2 == 0 { "/nothing" } else { "/incr" };
            let request = client.build(Method::GET, cluster.url(0), path);
            let request = request.header("traceparent", caller(true).header);
            client.send(request).await.unwrap().expect(200);
            slowest = slowest.max(begin.elapsed());
        }
        oracle!("slowest request, ms", slowest.as_millis(), within 2_000);
        let node = &cluster.nodes[0];
        wait::until("lost spans are counted", LIMIT, async || {
            node.metric("understudy_trace_spans_dropped_total").await >= 1.0
        })
        .await;
        let lines = node.log().matches("spans are lost").count();
        oracle!("lines about it", lines, 1);
        let begin = Instant::now();
        cluster.nodes[0].terminate();
        let status = cluster.nodes[0].wait_exit(LIMIT).await;
        assert!(status.success(), "{status}");
        oracle!("time to stop, ms", begin.elapsed().as_millis(), within 15_000);
    }
}
