//! Requests of operators that make no sense: each is refused with what is wrong, and nothing breaks.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use understudy_tests::{Client, NodeSpec, Program, oracle};

use super::stage::{OPERATOR, turn};

/// A request: method, path, body, the status that is right, and what the refusal must name.
type Bad = (Method, &'static str, String, u16, &'static str);

/// A definition with one member that is wrong.
fn with(member: &str, value: &Value) -> String {
    let mut spec = json!({ "handler": "probe", "schedule": { "kind": "manual" } });
    spec[member] = value.clone();
    spec.to_string()
}

fn scheduled(schedule: &Value) -> String {
    with("schedule", schedule)
}

fn cron(expression: &str, zone: &str) -> String {
    scheduled(&json!({ "kind": "cron", "expression": expression, "time_zone": zone }))
}

/// Definitions that cannot be.
fn definitions() -> Vec<Bad> {
    let put = |body: String, status, named| (Method::PUT, "/v1/jobs/x", body, status, named);
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    vec![
        put(with("retires", &json!(3)), 400, "retires"),
        put(with("retry", &json!({ "times": 3 })), 400, "times"),
        put(with("placement", &json!("nowhere")), 400, "nowhere"),
        put(with("timeout_ms", &json!(-5)), 400, "-5"),
        put(with("timeout_ms", &json!(0)), 422, "timeout_ms"),
        put(with("timeout_ms", &json!(u64::MAX)), 422, "timeout_ms"),
        put(with("jitter_ms", &json!(u64::MAX)), 422, "jitter_ms"),
        put(with("priority", &json!(101)), 422, "priority"),
        put(with("handler", &json!("")), 422, "handler"),
        put(with("handler", &json!("a\u{0}b")), 422, "handler"),
        put(with("description", &json!("a\u{0}b")), 422, "description"),
        put(with("labels", &json!({ "a": "b\u{0}" })), 422, "labels"),
        put(with("then", &json!(["x"])), 422, "then"),
        put(with("then", &json!(["a b"])), 400, "job name"),
        put(with("max_concurrency", &json!(0)), 422, "max_concurrency"),
        put(with("concurrency_key", &json!("k")), 422, "concurrency_key"),
        put(with("params_schema", &json!({ "type": "no such type" })), 422, "params_schema"),
        put(with("name", &json!("y")), 422, "name"),
        put(with("system", &json!(true)), 422, "system"),
        put(scheduled(&json!({ "kind": "cron" })), 400, "expression"),
        put(scheduled(&json!({ "kind": "sometimes" })), 400, "sometimes"),
        put(scheduled(&json!({ "kind": "every", "every_ms": 0 })), 422, "schedule.every_ms"),
        put(scheduled(&json!({ "kind": "every", "every_ms": u64::MAX })), 422, "schedule.every_ms"),
        put(scheduled(&json!({ "kind": "once", "at_ms": 1 })), 422, "schedule.at_ms"),
        put(scheduled(&json!({ "kind": "once", "at_ms": i64::MAX })), 422, "schedule.at_ms"),
        put(cron("61 * * * *", "UTC"), 422, "schedule.expression"),
        put(cron("", "UTC"), 422, "schedule.expression"),
        put(cron("* * *", "UTC"), 422, "schedule.expression"),
        put(cron("0 0 30 2 *", "UTC"), 422, "schedule.expression"),
        put(cron(&"1,".repeat(5_000), "UTC"), 422, "schedule.expression"),
        put(cron("0 2 * * *", "Europe/Atlantis"), 422, "schedule.time_zone"),
        put(cron("0 2 * * *", "../../etc/passwd"), 422, "schedule.time_zone"),
        put("{".to_owned(), 400, "bad_json"),
        put(String::new(), 400, "bad_json"),
        put("[]".to_owned(), 400, "object"),
        put(deep, 400, "bad_json"),
        put(with("params", &json!("x".repeat(4 << 20))), 422, "params"),
        put(with("params", &json!("x".repeat(12 << 20))), 413, "too_large"),
        (Method::PUT, "/v1/jobs/a%20b", with("priority", &json!(1)), 422, "name"),
        (Method::PUT, "/v1/jobs/system.mine", with("priority", &json!(1)), 422, "name"),
    ]
}

/// Looks at a node that has the job `here`.
fn looks() -> Vec<Bad> {
    let get = |path, status, named| (Method::GET, path, String::new(), status, named);
    vec![
        get("/v1/jobs/nobody", 404, "unknown_job"),
        get("/v1/jobs?limit=0", 400, "limit"),
        get("/v1/jobs?limt=3", 400, "limt"),
        get("/v1/jobs?system=perhaps", 400, "system"),
        get("/v1/runs?state=finished", 400, "state"),
        get("/v1/runs?state=completed,finished", 400, "state"),
        get("/v1/runs?stale=-1", 400, "stale"),
        get("/v1/runs?from=yesterday", 400, "from"),
        get("/v1/runs?before=x", 400, "before"),
        get("/v1/runs?job=a%20b", 400, "job"),
        get("/v1/runs?job=a&job=b", 400, "job"),
        get("/v1/runs/9223372036854775807", 404, "unknown_run"),
        get("/v1/runs/9223372036854775808", 404, "unknown_run"),
        get("/v1/runs/abc", 404, "unknown_run"),
        get("/v1/runs/1/log?after=1", 400, "after"),
        get("/v1/jobs/here/explain?at=noon", 400, "at"),
        get("/v1/jobs/here/explain?at=-1", 400, "at"),
        get("/v1/jobs/here/preview?count=1001", 400, "count"),
        get("/v1/jobs-due?within_ms=-1", 400, "within_ms"),
    ]
}

fn post(path: &'static str, body: &Value, status: u16, named: &'static str) -> Bad {
    (Method::POST, path, body.to_string(), status, named)
}

/// Changes on a node that has the job `here`, which takes a text `day`.
fn changes() -> Vec<Bad> {
    vec![
        post("/v1/jobs/nobody/run", &json!({}), 404, "unknown_job"),
        post("/v1/jobs/nobody/pause", &json!({ "why": "x" }), 404, "unknown_job"),
        post("/v1/jobs/here/pause", &json!({}), 400, "why"),
        post("/v1/jobs/here/pause", &json!({ "why": " " }), 400, "why"),
        post("/v1/jobs/here/pause", &json!({ "why": "a\u{0}" }), 400, "why"),
        post("/v1/jobs/here/run", &json!({ "parameters": {} }), 400, "parameters"),
        post("/v1/jobs/here/run", &json!({ "params": { "day": 3 } }), 422, "/day"),
        post("/v1/jobs/here/run", &json!({ "not_before_ms": "soon" }), 400, "RFC 3339"),
        post("/v1/jobs/every/run", &json!({}), 409, "runs_everywhere"),
        // As if the one who orders it could say who does, and leave out every check.
        post(
            "/v1/jobs/system.rolling-restart/run",
            &json!({ "params": {
                "by": "somebody else", "why": "x", "nodes": [], "settle_ms": 0, "limit_ms": 1_000,
            } }),
            409,
            "POST /v1/cluster/rolling-restart",
        ),
        post(
            "/v1/jobs/preview",
            &json!({ "schedule": { "kind": "cron", "expression": "x" } }),
            422,
            "schedule.expression",
        ),
        post(
            "/v1/jobs/preview",
            &json!({ "schedule": { "kind": "manual" }, "count": 0 }),
            422,
            "count",
        ),
        post("/v1/scheduler/pause", &json!({}), 400, "why"),
        (
            Method::PUT,
            "/v1/scheduler/jobs-enabled",
            json!({ "value": "a,,b" }).to_string(),
            422,
            "value",
        ),
        (
            Method::PUT,
            "/v1/scheduler/jobs-enabled",
            json!({ "values": "all" }).to_string(),
            400,
            "values",
        ),
        post("/v1/nodes/a%20b/maintenance", &json!({ "why": "x" }), 404, "unknown_node"),
        post("/v1/leader/step-down", &json!({ "hold_ms": 999_999_999_999_u64 }), 422, "hold_ms"),
        post("/v1/runs/1/cancel", &json!({ "now": true }), 400, "now"),
        (Method::DELETE, "/v1/jobs/nobody", String::new(), 404, "unknown_job"),
        (Method::DELETE, "/v1/jobs/system.history", String::new(), 409, "job_not_yours"),
    ]
}

/// Due times of the past that nobody can be given.
fn backfills() -> Vec<Bad> {
    vec![
        post("/v1/jobs/here/backfill", &json!({ "from": 0 }), 400, "to"),
        post("/v1/jobs/here/backfill", &json!({ "from": 9, "to": 3 }), 422, "invalid_range"),
        post(
            "/v1/jobs/here/backfill",
            &json!({ "from": 0, "to": 4_102_444_800_000_i64 }),
            422,
            "future",
        ),
        post("/v1/jobs/every/backfill", &json!({ "from": 0, "to": 1 }), 409, "runs_everywhere"),
        post(
            "/v1/jobs/often/backfill",
            &json!({ "from": 0, "to": 1_700_000_000_000_i64 }),
            422,
            "shorter",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_make_no_sense_are_refused_with_what_is_wrong() {
    let _turn = turn().await;
    let spec = NodeSpec::new("alone").program(Program::Fixture);
    let mut node = spec.env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR).start();
    node.ready(Duration::from_secs(60)).await;
    let (client, admin) = (Client::new().bearing(OPERATOR), node.admin_url());
    let typed = json!({ "type": "object", "properties": { "day": { "type": "string" } } });
    let far = json!({ "kind": "every", "every_ms": 315_360_000_000_u64 });
    let often = json!({ "kind": "every", "every_ms": 1_000 });
    for (name, schedule, placement) in
        [("here", &far, "leader"), ("every", &far, "every"), ("often", &often, "leader")]
    {
        let spec = json!({
            "handler": "append", "schedule": schedule, "placement": placement,
            "params": {}, "params_schema": typed,
        });
        let path = format!("/v1/jobs/{name}");
        client.put_json(admin, &path, &spec).await.unwrap().expect(201);
        client.post_json(admin, &format!("{path}/disable"), &json!({})).await.unwrap().expect(200);
    }
    let (mut asked, mut wrong, mut broken) = (0, Vec::new(), 0);
    for (method, path, body, status, named) in
        definitions().into_iter().chain(looks()).chain(changes()).chain(backfills())
    {
        let request = client.build(method.clone(), admin, path);
        let request = match method {
            Method::GET | Method::DELETE => request,
            _ => request.header("content-type", "application/json").body(body.clone()),
        };
        let answer = client.send(request).await.unwrap();
        asked += 1;
        broken += usize::from(answer.status >= 500);
        if answer.status != status || !answer.text.contains(named) {
            let body: String = body.chars().take(200).collect();
            wrong.push(format!("{method} {path} {body}: {} {}", answer.status, answer.text));
        }
    }
    headers(&client, admin).await;
    for one in &wrong {
        oracle::note(one);
    }
    oracle!(&format!("of {asked} requests, those answered 5xx"), broken, 0);
    oracle!(&format!("of {asked} requests, those not refused as they should be"), wrong.len(), 0);
    let left = client.get(admin, "/v1/jobs").await.unwrap().expect(200).json::<Value>();
    oracle!("jobs in the end", left["jobs"].as_array().unwrap().len(), 3);
}

/// What is wrong with headers: media type, revision, idempotency key, token.
async fn headers(client: &Client, admin: &str) {
    let body = with("priority", &json!(1));
    let put = || client.build(Method::PUT, admin, "/v1/jobs/here").body(body.clone());
    let run = || client.build(Method::POST, admin, "/v1/jobs/here/run");
    let json = "application/json";
    for (what, request, status) in [
        ("media type", put().header("content-type", "text/plain"), 415),
        ("revision", put().header("content-type", json).header("if-match", "\"77\""), 412),
        ("not there", put().header("content-type", json).header("if-none-match", "*"), 412),
        ("no revision", put().header("content-type", json).header("if-match", "x"), 400),
        ("key", run().header("idempotency-key", "a b"), 400),
        ("long key", run().header("idempotency-key", "k".repeat(201)), 400),
    ] {
        let answer = client.send(request).await.unwrap();
        oracle!(&format!("status for a wrong header: {what}"), answer.status, status);
    }
    let denied = Client::new().post_json(admin, "/v1/jobs/here/run", &json!({})).await.unwrap();
    oracle!("status without a token", denied.status, 401);
}
