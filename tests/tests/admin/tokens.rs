//! Tokens that are made and revoked while a node runs.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use understudy_tests::{Client, oracle, wait};

use super::stage::{LIMIT, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_counts_from_when_it_is_made_until_it_is_revoked() {
    let stage = Stage::start().await;
    let (id, token) = stage.token("operator").await;
    let holder = Client::new().bearing(&token);
    let who: Value = holder.get(stage.url(), "/v1/whoami").await.unwrap().expect(200).json();
    oracle!("whose token", who["name"], json!("a operator"));
    oracle!("role", who["role"], json!("operator"));
    holder.get(stage.url(), "/v1/tokens").await.unwrap().expect(403);
    let listed: Value = stage.get("/v1/tokens").await.expect(200).json();
    oracle!("tokens that are listed", listed["tokens"].as_array().unwrap().len(), 1);
    assert!(!listed.to_string().contains(&token), "a list shows a token");
    stage.admin.delete(stage.url(), &format!("/v1/tokens/{id}")).await.unwrap().expect(204);
    // It was answered when the node knew.
    holder.get(stage.url(), "/v1/whoami").await.unwrap().expect(401);
    stage.admin.delete(stage.url(), &format!("/v1/tokens/{id}")).await.unwrap().expect(404);
    let log = stage.node.log();
    assert!(!log.contains(&token), "the log shows a token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_by_itself() {
    let stage = Stage::start().await;
    let body = json!({ "name": "short", "role": "viewer", "expires_in_s": 1 });
    let made: Value = stage.post("/v1/tokens", body).await.expect(201).json();
    let holder = Client::new().bearing(made["token"].as_str().unwrap());
    wait::until("the token counts no more", LIMIT, async || {
        holder.get(stage.url(), "/v1/whoami").await.unwrap().status == 401
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_new_token_is_told() {
    let stage = Stage::start().await;
    for (body, status, word) in [
        (json!({ "name": "a", "role": "king" }), 422, "`role`"),
        (json!({ "name": " ", "role": "viewer" }), 422, "`name`"),
        (json!({ "name": "a\nb", "role": "viewer" }), 422, "`name`"),
        (json!({ "name": "a", "role": "viewer", "expires_in_s": 0 }), 422, "`expires_in_s`"),
        (json!({ "name": "a" }), 400, "`role`"),
        (json!({ "name": "a", "role": "viewer", "secret": "x" }), 400, "`secret`"),
        (json!([]), 400, "object"),
    ] {
        let problem: Value = stage.post("/v1/tokens", body.clone()).await.expect(status).json();
        assert!(problem["detail"].as_str().unwrap().contains(word), "{body}: {problem}");
    }
    let listed: Value = stage.get("/v1/tokens").await.expect(200).json();
    oracle!("tokens made", listed["tokens"].as_array().unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_a_url_counts_for_nothing() {
    let stage = Stage::start().await;
    let (_, token) = stage.token("admin").await;
    for path in [format!("/v1/whoami?token={token}"), format!("/v1/whoami?access_token={token}")] {
        let request =
            Client::with_timeout(Duration::from_secs(5)).build(Method::GET, stage.url(), &path);
        let status = request.send().await.unwrap().status().as_u16();
        oracle!("status with the token in the URL", status, 401);
    }
}
