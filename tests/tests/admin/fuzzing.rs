//! The API against requests made from its own description, by a generator of our own (`make schemathesis` has another
//! one do it).

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};
use understudy_tests::{oracle, wait};

use super::stage::{LIMIT, Operation, Stage};

/// Always the same requests.
const SEED: u64 = 4;
const REQUESTS: usize = 3_000;
/// Ends the node, or the test's own access to it.
const NOT_ASKED: [&str; 4] = ["nodes.restart", "cluster.restart", "events.watch", "tokens.revoke"];

const TEXTS: [&str; 14] = [
    "",
    "a",
    "alone",
    "0",
    "-1",
    "9223372036854775807",
    "99999999999999999999",
    "ä€😀",
    "a b",
    "../..",
    "%00",
    "a\u{0}b",
    "{}",
    "1e400",
];

fn value(random: &mut StdRng, depth: u32) -> Value {
    match random.random_range(0..if depth > 2 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => json!(random.random::<bool>()),
        2 => json!(random.random::<i64>()),
        3 => json!(random.random::<f64>() * 1e300),
        4 | 5 => json!(TEXTS[random.random_range(0..TEXTS.len())]),
        6 => (0..random.random_range(0..4)).map(|_| value(random, depth + 1)).collect(),
        _ => object(random, depth),
    }
}

fn object(random: &mut StdRng, depth: u32) -> Value {
    const MEMBERS: [&str; 16] = [
        "why",
        "name",
        "role",
        "schedule",
        "value",
        "mode",
        "from",
        "to",
        "params",
        "confirm",
        "count",
        "hold_ms",
        "cron",
        "expires_in_s",
        "node",
        "for_s",
    ];
    let members = (0..random.random_range(0..5)).map(|_| {
        let name = MEMBERS[random.random_range(0..MEMBERS.len())];
        (name.to_owned(), value(random, depth + 1))
    });
    Value::Object(members.collect())
}

fn path(random: &mut StdRng, operation: &Operation) -> String {
    let segments = operation.path.split('/').map(|segment| {
        if !segment.starts_with('{') {
            return segment.to_owned();
        }
        let text = TEXTS[random.random_range(1..TEXTS.len())];
        text.bytes().map(|byte| format!("%{byte:02X}")).collect()
    });
    let mut path = segments.collect::<Vec<_>>().join("/");
    if random.random_bool(0.3) {
        const NAMES: [&str; 8] =
            ["limit", "after", "before", "from", "at", "state", "count", "node"];
        let (name, text) = (
            NAMES[random.random_range(0..NAMES.len())],
            TEXTS[random.random_range(0..TEXTS.len())],
        );
        let text: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        path.push_str(&format!("?{name}={text}"));
    }
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_make_no_sense_never_break_the_node() {
    let stage = Stage::start().await;
    let mut random = StdRng::seed_from_u64(SEED);
    let mut operations = stage.operations().await;
    operations.retain(|operation| !NOT_ASKED.contains(&operation.id.as_str()));
    let (mut broken, mut unfit) = (Vec::new(), Vec::new());
    for number in 0..REQUESTS {
        let operation = &operations[number % operations.len()];
        let path = path(&mut random, operation);
        let mut request = stage.admin.build(operation.method.clone(), stage.url(), &path);
        if operation.method != Method::GET {
            request = request.json(&value(&mut random, 0));
        }
        let answer =
            stage.admin.send(request.timeout(Duration::from_secs(20))).await.expect("an answer");
        let told = || format!("{} {path}: {} {}", operation.method, answer.status, answer.text);
        if answer.status >= 500 && answer.status != 501 && answer.status != 503 {
            broken.push(told());
        }
        let is_problem = answer.header("content-type") == Some("application/problem+json");
        if answer.status >= 400 && !is_problem {
            unfit.push(told());
        }
    }
    oracle!("operations that were asked", operations.len(), >= 60);
    oracle!("answers with an error of the server", format!("{broken:?}"), "[]".to_owned());
    oracle!("refusals that are no problem document", format!("{unfit:?}"), "[]".to_owned());
    wait::until("the node is ready after all", LIMIT, async || {
        stage.get("/health/ready").await.status == 200
    })
    .await;
}
