//! Wrong values, each refused with the name of what is wrong.

use serde_json::{Value, json};
use understudy_tests::{Cluster, oracle};

use super::stage::{Stage, admin};

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_value_is_refused_with_its_name() {
    let stage = Stage::with(Cluster::builder().nodes(1)).await;
    let (settings, maintenance) = ("/v1/settings/log_filter", "/v1/maintenance");
    let cases = wrong_values(settings, maintenance);
    let mut unnamed = Vec::new();
    for (path, body, status, field) in &cases {
        let answer = stage.put(0, path, body.clone()).await;
        let problem: Value = answer.json();
        let named = problem["field"] == *field
            && problem["detail"].as_str().is_some_and(|text| text.contains(&format!("`{field}`")));
        if answer.status != *status || !named {
            unnamed.push(format!("{path} {body}: {} {}", answer.status, answer.text));
        }
    }
    assert!(unnamed.is_empty(), "{unnamed:#?}");
    oracle!(
        "wrong values that were refused with their name",
        cases.len() - unnamed.len(),
        cases.len()
    );
    assert_eq!(stage.told(0, "/v1/settings").await["revision"], 0, "none of them was taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_the_wrong_place_says_where_the_right_one_is() {
    let stage = Stage::with(Cluster::builder().nodes(1)).await;
    let url = stage.node(0).admin_url();
    let body = json!({ "value": "full", "why": "x" });
    for (path, status, code, text) in [
        ("/v1/settings/log_filters", 404, "unknown_setting", "`log_filter`"),
        ("/v1/settings/maintenance", 409, "other_resource", "PUT /v1/maintenance"),
    ] {
        for answer in
            [stage.put(0, path, body.clone()).await, admin().delete(url, path).await.unwrap()]
        {
            let problem: Value = answer.expect(status).json();
            assert_eq!(problem["code"], code, "{problem}");
            assert!(problem["detail"].as_str().unwrap().contains(text), "{problem}");
        }
    }
    let (path, body) = ("/v1/settings/log_filter", json!({ "value": "debug", "why": "x" }));
    let put = |revision: &str| {
        let client = admin();
        let request = client.build(reqwest::Method::PUT, url, path).json(&body);
        let request = request.header("if-match", revision);
        async move { client.send(request).await.unwrap() }
    };
    put("x").await.expect(400);
    put("3").await.expect(412);
    put("0").await.expect(200);
    let problem: Value = put("0").await.expect(412).json();
    assert_eq!((&problem["code"], &problem["revision"]), (&"revision_changed".into(), &1.into()));
    put("\"1\"").await.expect(200);
    let request = admin().build(reqwest::Method::PUT, url, path).body("{}");
    admin().send(request).await.unwrap().expect(415);
    for (path, query) in [("/v1/settings", "?x=1"), ("/v1/maintenance", "?node=a")] {
        admin().get(url, &format!("{path}{query}")).await.unwrap().expect(400);
    }
}

/// Path, body, status and the field that is named.
fn wrong_values(
    settings: &'static str,
    maintenance: &'static str,
) -> Vec<(&'static str, Value, u16, &'static str)> {
    let long = "x".repeat(1_001);
    vec![
        (settings, json!({ "why": "x" }), 400, "value"),
        (settings, json!({ "value": 1, "why": "x" }), 400, "value"),
        (settings, json!({ "value": "", "why": "x" }), 422, "value"),
        (settings, json!({ "value": "debgu", "why": "x" }), 422, "value"),
        (settings, json!({ "value": "info,a=b=c", "why": "x" }), 422, "value"),
        (settings, json!({ "value": "debug" }), 400, "why"),
        (settings, json!({ "value": "debug", "why": "" }), 422, "why"),
        (settings, json!({ "value": "debug", "why": long }), 422, "why"),
        (settings, json!({ "value": "debug", "why": "a\nb" }), 422, "why"),
        (settings, json!({ "value": "debug", "why": "x", "for_s": 0 }), 422, "for_s"),
        (settings, json!({ "value": "debug", "why": "x", "for_s": -1 }), 422, "for_s"),
        (settings, json!({ "value": "debug", "why": "x", "for_s": 1e99 }), 422, "for_s"),
        (settings, json!({ "value": "debug", "why": "x", "for_s": "60" }), 400, "for_s"),
        (settings, json!({ "value": "debug", "why": "x", "fors": 1 }), 400, "fors"),
        ("/v1/settings/log_tail", json!({ "value": "yes", "why": "x" }), 422, "value"),
        // It must have an end.
        ("/v1/settings/log_tail", json!({ "value": "on", "why": "x" }), 422, "for_s"),
        (
            "/v1/settings/log_tail",
            json!({ "value": "on", "why": "x", "for_s": 86_401 }),
            422,
            "for_s",
        ),
        (maintenance, json!({ "why": "x" }), 400, "mode"),
        (maintenance, json!({ "mode": "on", "why": "x" }), 422, "mode"),
        (maintenance, json!({ "mode": true, "why": "x" }), 400, "mode"),
        (maintenance, json!({ "mode": "full" }), 400, "why"),
        (maintenance, json!({ "mode": "full", "why": "x", "message": "" }), 422, "message"),
        (maintenance, json!({ "mode": "full", "why": "x", "message": long }), 422, "message"),
        (
            maintenance,
            json!({ "mode": "full", "why": "x", "message": "a\u{1b}[2J" }),
            422,
            "message",
        ),
        (
            maintenance,
            json!({ "mode": "full", "why": "x", "retry_after_s": 0 }),
            422,
            "retry_after_s",
        ),
        (
            maintenance,
            json!({ "mode": "full", "why": "x", "retry_after_s": 86_401 }),
            422,
            "retry_after_s",
        ),
        (maintenance, json!({ "mode": "full", "why": "x", "node": "a b" }), 422, "node"),
        (maintenance, json!({ "mode": "full", "why": "x", "node": "node-z" }), 404, "node"),
        (maintenance, json!({ "mode": "off", "why": "x", "message": "m" }), 422, "message"),
        (maintenance, json!({ "mode": "off", "why": "x", "for_s": 5 }), 422, "for_s"),
    ]
}
