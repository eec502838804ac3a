//! What operators and their tools read.

use serde_json::Value;
use understudy_tests::{Client, oracle};

use super::ground::{cluster_of, told};

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_what_prometheus_reads_and_name_what_sessions_do() {
    let cluster = cluster_of(2).start().await;
    let client = Client::new();
    client.post(cluster.url(0), "/incr").await.unwrap().expect(200);
    client.post(cluster.url(1), "/incr").await.unwrap().expect(200);
    client.get(cluster.url(1), "/read").await.unwrap().expect(200);
    let answer =
        Client::new().get(cluster.nodes[1].admin_url(), "/metrics").await.unwrap().expect(200);
    let kind = answer.header("content-type").unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let wrong: Vec<&str> = answer.text.lines().filter(|line| !is_sample(line)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    oracle!("lines that nobody could read", wrong.len(), 0);
    for name in [
        "session_actor_loads_total",
        "session_reads_total",
        "session_forwards_total",
        "sessions_created_total",
        "sessions_resident",
        "understudy_node_ready",
    ] {
        assert!(answer.text.contains(&format!("# TYPE {name} ")), "{name} in\n{}", answer.text);
    }
    oracle!("nodes that are ready", cluster.metric("understudy_node_ready").await, 2.0);
}

/// A comment, or `name{label="value",...} number`.
fn is_sample(line: &str) -> bool {
    if line.is_empty() || line.starts_with("# HELP ") || line.starts_with("# TYPE ") {
        return true;
    }
    let Some((series, number)) = line.rsplit_once(' ') else { return false };
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let is_name = |text: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        !text.is_empty()
            && text.chars().all(good)
            && !text.starts_with(|c: char| c.is_ascii_digit())
    };
    let is_number = number.parse::<f64>().is_ok() || number == "+Inf";
    is_name(name) && labels.ends_with('}') && is_number
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_tells_who_it_is_and_what_it_runs_with() {
    let cluster = cluster_of(1).env("UNDERSTUDY_SESSION_IDLE_S", "1234").start().await;
    let node = &cluster.nodes[0];
    let about = told(node, "/v1/about").await;
    assert_eq!(about["cluster"], "understudy");
    assert_eq!(about["pid"], node.pid());
    assert_eq!((&about["phase"], &about["ready"]), (&"running".into(), &true.into()), "{about}");
    assert_eq!(about["reasons"], Value::Array(Vec::new()));
    let services = about["services"].as_array().unwrap();
    assert!(services.iter().any(|it| it["health"] == "ready"), "{about}");
    let config = told(node, "/v1/config").await;
    let options = config["options"].as_object().unwrap();
    assert_eq!(options["UNDERSTUDY_SESSION_IDLE_S"], "1234");
    assert_eq!(options["UNDERSTUDY_SESSION_SECRET"], "******");
    assert!(options.len() > 50, "every option there is");
}
