//! An action that is asked for again with the same key is not done again.

use reqwest::Method;
use serde_json::{Value, json};
use understudy_tests::{Answer, oracle};

use super::stage::Stage;

impl Stage {
    async fn with_key(&self, key: &str, path: &str, body: &Value) -> Answer {
        let request = self.admin.build(Method::POST, self.url(), path);
        let request = request.header("idempotency-key", key).json(body);
        self.admin.send(request).await.expect("an answer")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_with_a_key_is_done_once() {
    let stage = Stage::start().await;
    let why = json!({ "why": "first" });
    let first = stage.with_key("k-1", "/v1/scheduler/pause", &why).await.expect(200);
    stage.post("/v1/scheduler/resume", json!({})).await.expect(200);
    let again = stage.with_key("k-1", "/v1/scheduler/pause", &why).await.expect(200);
    oracle!("the answer of the first time", again.text, first.text);
    oracle!("it says so", again.header("idempotency-replayed").unwrap_or_default(), "true");
    let now: Value = stage.get("/v1/scheduler").await.expect(200).json();
    oracle!("paused a second time", now["paused"], json!(false));
    let other = stage.with_key("k-1", "/v1/scheduler/pause", &json!({ "why": "other" })).await;
    oracle!("code", other.expect(422).json::<Value>()["code"], json!("idempotency_key_reused"));
    // A key of another is another key, and so is one of another action.
    stage.with_key("k-2", "/v1/scheduler/pause", &why).await.expect(200);
    let now: Value = stage.get("/v1/scheduler").await.expect(200).json();
    oracle!("paused with another key", now["paused"], json!(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_be_one_is_refused() {
    let stage = Stage::start().await;
    let why = json!({ "why": "a test" });
    let long = "k".repeat(201);
    for key in ["", &long] {
        let refused = stage.with_key(key, "/v1/scheduler/pause", &why).await;
        oracle!("code", refused.expect(400).json::<Value>()["code"], json!("bad_idempotency_key"));
    }
    // What was refused can be asked for with the same key once it is right.
    stage.with_key("k", "/v1/scheduler/pause", &json!({})).await.expect(400);
    let scheduler: Value = stage.get("/v1/scheduler").await.expect(200).json();
    oracle!("paused by what was refused", scheduler["paused"], json!(false));
}
