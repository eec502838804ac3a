//! The node without Rust code: the same promises through its session API.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};
use understudy_tests::{Client, Cluster, Program, crowd, oracle};

/// What /api/session/values answers.
#[derive(Debug, Deserialize)]
struct Values {
    values: serde_json::Map<String, Value>,
    version: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn t3_the_session_api_loses_no_update_without_stickiness() {
    let cluster = Cluster::builder().program(Program::Understudy).nginx(true).start().await;
    let (client, url) = (Client::new(), cluster.balancer());
    client.put_json(&url, "/api/session/values/begun", &true).await.unwrap().expect(204);
    count(&client, &url).await;
    put(&client, &url).await;
    let page = client.get(&url, "/").await.unwrap().expect(200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"), "{page:?}");
    client.delete(&url, "/api/session").await.unwrap().expect(204);
    oracle!("cookies after the logout", client.cookies().len(), 0);
}

async fn count(client: &Client, url: &str) {
    const INCREMENTS: usize = 2_000;
    let path = "/api/session/values/n/increment";
    let answers = crowd(64, INCREMENTS, async |_| {
        client.post_json(url, path, &json!({ "by": 1 })).await.unwrap()
    })
    .await;
    let refused = answers.iter().filter(|answer| answer.status != 200).count();
    oracle!("answers to 2000 increments that are not 200", refused, 0);
    let nodes: BTreeSet<&str> = answers.iter().filter_map(|answer| answer.node()).collect();
    oracle!("nodes that served them", nodes.len(), 3);
    let counter = client.get(url, "/api/session/values/n").await.unwrap().expect(200);
    oracle!("counter", counter.json::<Value>()["value"], 2_000);
}

async fn put(client: &Client, url: &str) {
    const KEYS: usize = 500;
    let before = values(client, url).await.version;
    let answers = crowd(KEYS, KEYS, async |key| {
        let path = format!("/api/session/values/key-{key}");
        client.put_json(url, &path, &json!({ "number": key })).await.unwrap().status
    })
    .await;
    let refused = answers.iter().filter(|status| **status != 204).count();
    oracle!("answers to 500 PUTs that are not 204", refused, 0);
    let after = values(client, url).await;
    let kept = (0..KEYS)
        .filter(|key| after.values.get(&format!("key-{key}")) == Some(&json!({ "number": key })));
    oracle!("keys of 500 that are there", kept.count(), KEYS);
    let scripts = usize::try_from(after.version - before).unwrap();
    oracle!("scripts that wrote 500 keys", scripts, <= KEYS - 1);
}

async fn values(client: &Client, url: &str) -> Values {
    client.get(url, "/api/session/values").await.unwrap().expect(200).json()
}
