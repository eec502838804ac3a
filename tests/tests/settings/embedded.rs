//! A node that is alone has the same, on its SQLite file.

use serde_json::{Value, json};
use understudy_tests::{Client, NodeSpec, oracle};

use super::stage::{ADMIN, LIMIT, admin, ask, put, told, turn};

#[tokio::test(flavor = "multi_thread")]
async fn o3_a_node_without_a_cluster_has_maintenance_that_survives_its_restart() {
    let _turn = turn().await;
    let spec = NodeSpec::new("alone")
        .program(understudy_tests::Program::Fixture)
        .env("UNDERSTUDY_ADMIN_TOKEN", ADMIN);
    let mut node = spec.start();
    node.ready(LIMIT).await;
    let on = json!({ "mode": "full", "message": "Not now", "why": "a try" });
    let answer: Value = put(&node, "/v1/maintenance", on).await.expect(200).json();
    assert_eq!((&answer["unreachable"], &answer["bypass"]), (&json!([]), &json!(false)));
    assert!(ask(&node, "/nothing").await.expect(503).text.contains("Not now"));
    node.start_again();
    node.ready(LIMIT).await;
    let answer = ask(&node, "/nothing").await;
    oracle!("status after the restart", answer.status, 503);
    let word: Value =
        admin().post(node.admin_url(), "/v1/maintenance/bypass").await.unwrap().expect(200).json();
    let client = Client::new();
    let request = client.build(reqwest::Method::GET, node.public_url(), "/nothing");
    let request = request.header("Understudy-Bypass", word["token"].as_str().unwrap());
    client.send(request).await.unwrap().expect(200);
    put(&node, "/v1/maintenance", json!({ "mode": "off", "why": "enough" })).await.expect(200);
    ask(&node, "/nothing").await.expect(200);
    assert_eq!(told(&node, "/v1/settings").await["revision"], 2);
}
