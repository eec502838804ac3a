//! How often something may be done, over all nodes together, and from where.

use reqwest::Method;
use understudy_tests::{Client, Cluster, crowd, oracle};

use super::ground::cluster_of;

/// Asks this often, through all nodes by turns; returns how many were served and how many got 429.
async fn ask(cluster: &Cluster, who: &str, times: usize) -> (usize, usize) {
    let client = Client::new();
    let path = format!("/limited?who={who}");
    let answers = crowd(16, times, async |number| {
        let answer = client.get(cluster.url(number % cluster.nodes.len()), &path).await.unwrap();
        if answer.status == 429 {
            let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=360).contains(&after), "one comes back each 360 s: {after}");
            assert!(answer.text.contains("rate_limited"), "{}", answer.text);
        }
        answer.status
    })
    .await;
    let of = |status| answers.iter().filter(|answer| **answer == status).count();
    (of(200), of(429))
}

#[tokio::test(flavor = "multi_thread")]
async fn x5_a_limit_counts_on_all_nodes_together_and_on_each_alone_without_redis() {
    let mut cluster = cluster_of(3).start().await;
    for who in ["mary", "john"] {
        let (served, refused) = ask(&cluster, who, 60).await;
        oracle!("served, of 60 on three nodes", served, 10);
        oracle!("refused", refused, 50);
    }
    cluster.redis.kill();
    let (served, refused) = ask(&cluster, "mary", 60).await;
    oracle!("served without Redis: ten by each node", served, 30);
    oracle!("refused without Redis", refused, 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn x5_a_page_of_another_site_may_read_nothing() {
    let cluster = cluster_of(1).start().await;
    let client = Client::new();
    for (method, path) in [(Method::OPTIONS, "/read"), (Method::GET, "/read")] {
        let request = client
            .build(method.clone(), cluster.url(0), path)
            .header("origin", "https://elsewhere.example")
            .header("access-control-request-method", "POST");
        let answer = client.send(request).await.unwrap();
        let allowed =
            answer.headers.keys().filter(|name| name.as_str().starts_with("access-control"));
        oracle!(&format!("headers of {method} that let others read"), allowed.count(), 0);
    }
}
