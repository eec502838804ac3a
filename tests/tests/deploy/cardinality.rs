//! However many different things clients send, the number of series stays what the program makes it.

use std::time::Duration;

use understudy_tests::{Client, Cluster, crowd, oracle, wait};

use super::ledger::turn;

const LIMIT: Duration = Duration::from_secs(60);
const MANY: usize = 10_000;
/// What a Prometheus with many nodes bears without thinking.
const SERIES: usize = 2_000;

async fn series(cluster: &Cluster) -> usize {
    let answer =
        Client::new().get(cluster.nodes[0].admin_url(), "/metrics").await.unwrap().expect(200);
    answer.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn h5_10000_different_paths_methods_and_sessions_leave_the_series_bounded() {
    let _turn = turn().await;
    let cluster = Cluster::builder().nodes(1).start().await;
    let (client, url) = (Client::new(), cluster.url(0));
    for path in ["/incr", "/read", "/nothing", "/whoami"] {
        client.get(url, path).await.unwrap();
    }
    let node = &cluster.nodes[0];
    let requests = async || node.metric("understudy_http_requests_total").await;
    wait::until("the first are counted", LIMIT, async || requests().await >= 4.0).await;
    let before = series(&cluster).await;
    let failed = crowd(64, MANY, async |number| {
        let method = reqwest::Method::from_bytes(format!("M{number}").as_bytes()).unwrap();
        let odd = client.build(method, url, &format!("/p{number}/q?r={number}"));
        let strange = client.send(odd.header("X-Request-Id", number.to_string())).await.is_err();
        let plain = client.get(url, &format!("/{number}")).await.is_err();
        let begun = client.stranger().post(url, "/incr").await;
        usize::from(strange || plain || begun.is_err() || begun.unwrap().status != 200)
    })
    .await;
    oracle!("requests of 30,000 without an answer", failed.into_iter().sum::<usize>(), 0);
    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    let all = 3.0 * MANY as f64;
    wait::until("all are counted", LIMIT, async || requests().await >= all).await;
    let after = series(&cluster).await;
    oracle!("sessions that were made", node.metric("sessions_created_total").await, >= 10_000.0);
    oracle!("series before", before, <= SERIES);
    oracle!("series after", after, <= SERIES);
    // New methods, classes of status and routes that were not asked for before; nothing that clients choose.
    oracle!("series more than before", after - before, <= 100);
}
