//! Whatever somebody changed, or was refused, is written down.

use serde_json::{Value, json};
use understudy_tests::{Client, oracle, wait};

use super::stage::{LIMIT, Stage};

impl Stage {
    /// Waits until the audit log has so many entries of an action; gives them, the newest first.
    async fn audited(&self, action: &str, number: usize) -> Vec<Value> {
        let path = format!("/v1/audit?action={action}");
        let (entries, _) = wait::until_some("it is written down", LIMIT, async || {
            let body: Value = self.get(&path).await.expect(200).json();
            let entries = body["entries"].as_array().expect("entries").clone();
            (entries.len() >= number).then_some(entries)
        })
        .await;
        entries
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h10_changes_and_refusals_are_written_down() {
    let stage = Stage::start().await;
    let (_, token) = stage.token("viewer").await;
    let viewer = Client::new().bearing(&token);
    let why = json!({ "why": "a test" });
    stage.post("/v1/scheduler/pause", why.clone()).await.expect(200);
    viewer.post_json(stage.url(), "/v1/scheduler/pause", &why).await.unwrap().expect(403);
    Client::new().post_json(stage.url(), "/v1/scheduler/pause", &why).await.unwrap().expect(401);
    stage.post("/v1/scheduler/pause", json!({})).await.expect(400);
    let entries = stage.audited("scheduler.pause", 4).await;
    let told = |entry: &Value| format!("{} {} {}", entry["by"], entry["outcome"], entry["status"]);
    let mut all: Vec<String> = entries.iter().map(told).collect();
    all.sort_unstable();
    let expected = [
        r#""a viewer" "refused" 403"#,
        r#""admin" "done" 200"#,
        r#""admin" "failed" 400"#,
        r#"null "refused" 401"#,
    ];
    oracle!("what is written down", format!("{all:?}"), format!("{expected:?}"));
    for entry in &entries {
        assert!(entry["address"].as_str().is_some_and(|address| address == "127.0.0.1"), "{entry}");
        assert!(entry["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{entry}");
    }
    let all = stage.get("/v1/audit").await.expect(200);
    assert!(!all.text.contains(&token), "the audit log shows a token");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_read_page_by_page_and_by_what_is_looked_for() {
    let stage = Stage::start().await;
    for _ in 0..5 {
        stage.post("/v1/scheduler/pause", json!({ "why": "a test" })).await.expect(200);
        stage.post("/v1/scheduler/resume", json!({})).await.expect(200);
    }
    stage.audited("scheduler.pause", 5).await;
    stage.audited("scheduler.resume", 5).await;
    let (mut seen, mut before) = (Vec::new(), String::new());
    loop {
        let page: Value = stage.get(&format!("/v1/audit?limit=3{before}")).await.expect(200).json();
        seen.extend(
            page["entries"].as_array().unwrap().iter().map(|entry| entry["id"].as_i64().unwrap()),
        );
        let Some(next) = page["next"].as_i64() else { break };
        before = format!("&before={next}");
    }
    oracle!("entries on all pages", seen.len(), 10);
    assert!(seen.is_sorted_by(|one, other| one > other), "they are not the newest first: {seen:?}");
    let nobody: Value = stage.get("/v1/audit?by=nobody").await.expect(200).json();
    oracle!("entries of nobody", nobody["entries"].as_array().unwrap().len(), 0);
    let refused: Value = stage.get("/v1/audit?outcome=lost").await.expect(400).json();
    assert!(refused["detail"].as_str().unwrap().contains("`outcome`"), "{refused}");
}
