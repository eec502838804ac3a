//! What was answered is still there when the node comes back, however it went.

use std::time::Duration;

use serde_json::{Value, json};
use understudy_tests::servers::Scratch;
use understudy_tests::{Client, Node, oracle, wait};

use super::alone::{LIMIT, node, spec, started};

const COUNT: &str = "/api/session/values/counter/increment";

async fn count(client: &Client, node: &Node) -> Value {
    let answer = client.post_json(node.public_url(), COUNT, &json!({ "by": 1 })).await.unwrap();
    answer.expect(200).json::<Value>()["value"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_counter_is_there_after_a_restart_and_after_a_kill() {
    let mut node = node().await;
    let client = Client::new();
    for expected in 1..=5 {
        assert_eq!(count(&client, &node).await, expected);
    }
    node.terminate();
    oracle!("exit status after SIGTERM", node.wait_exit(LIMIT).await.code().unwrap(), 0);
    node.start_again();
    node.ready(LIMIT).await;
    oracle!("counter after a restart", count(&client, &node).await, 6);
    node.kill9();
    node.start_again();
    node.ready(LIMIT).await;
    oracle!("counter after kill -9", count(&client, &node).await, 7);
    // Not a power cut, but as near as a test gets: the kill comes between an answer and the next request.
    for round in 0..3 {
        let value = count(&client, &node).await;
        node.kill9();
        node.start_again();
        node.ready(LIMIT).await;
        let read = client.get(node.public_url(), "/api/session/values/counter").await.unwrap();
        assert_eq!(read.expect(200).json::<Value>()["value"], value, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_leaves_at_once_when_it_is_asked_to() {
    let mut node = node().await;
    let client = Client::new();
    count(&client, &node).await;
    let told = tokio::time::Instant::now();
    node.terminate();
    assert!(node.wait_exit(LIMIT).await.success());
    oracle!("gone after, ms", told.elapsed().as_millis(), within 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_data_is_turned_away_and_told_by_whom() {
    let data = Scratch::new("shared-data");
    let folder = data.join("data").display().to_string();
    let first = started(spec().env("UNDERSTUDY_DATA_DIR", &folder)).await;
    let client = Client::new();
    assert_eq!(count(&client, &first).await, 1);
    let mut second = spec().env("UNDERSTUDY_DATA_DIR", &folder).start();
    let status = second.wait_exit(LIMIT).await;
    oracle!("exit status of the second", status.code().unwrap(), 78);
    let told = second.log();
    assert!(told.contains(&first.pid().to_string()) && told.contains(&folder), "{told}");
    assert_eq!(count(&client, &first).await, 2, "the first goes on");
    // What held the folder was the process, not a file that a crash would leave behind.
    drop(first);
    second.start_again();
    second.ready(LIMIT).await;
    assert_eq!(count(&client, &second).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_on_both_ports_under_all_its_names() {
    let node = node().await;
    let client = Client::new();
    for (path, word) in [
        ("/health/live", "live"),
        ("/livez", "live"),
        ("/health/ready", "ready"),
        ("/readyz", "ready"),
        ("/health/startup", "started"),
        ("/startupz", "started"),
    ] {
        for base in [node.public_url(), node.admin_url()] {
            let answer = client.get(base, path).await.unwrap().expect(200);
            assert_eq!(answer.json::<Value>(), json!({ "status": word }), "{base}{path}");
        }
    }
    wait::until("it stays ready", Duration::from_secs(5), async || {
        client.get(node.public_url(), "/readyz").await.unwrap().status == 200
    })
    .await;
}
