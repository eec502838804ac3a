//! A node on its own, whose database is a file.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use understudy_tests::{Client, NodeSpec, Program, oracle, wait};

use super::stage::{LIMIT, OPERATOR, turn};

const EACH: Duration = Duration::from_millis(50);
/// So many starts are waited for in each life of the node.
const STARTS: usize = 3;
const SECOND: u64 = 1_000;

/// The due times at which the job has started, one per start.
fn starts(file: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // A line that the kill cut short is a start whose time is not known.
    let whole = text.lines().filter(|line| line.split(' ').count() == 3);
    whole.map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
}

async fn until_started(file: &Path, more_than: usize) {
    wait::poll("the job starts", LIMIT, EACH, async || {
        (starts(file).len() > more_than).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_its_own_starts_no_due_time_twice_whenever_it_is_killed() {
    const KILLS: usize = 3;
    let _turn = turn().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("starts");
    let spec = NodeSpec::new("alone")
        .program(Program::Fixture)
        .env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR)
        .env("UNDERSTUDY_JOBS_ALIVE_MS", "500")
        .env("UNDERSTUDY_JOBS_STALE_AFTER_MS", "1500");
    let mut node = spec.start();
    node.ready(LIMIT).await;
    let client = Client::new().bearing(OPERATOR);
    let job = json!({
        "handler": "append", "params": { "file": file }, "on_orphan": { "policy": "fail" },
        "overlap": { "policy": "allow", "max": 10 },
        "schedule": { "kind": "every", "every_ms": SECOND },
    });
    client.put_json(node.admin_url(), "/v1/jobs/book", &job).await.unwrap().expect(201);
    for kill in 0..=KILLS {
        until_started(&file, starts(&file).len() + STARTS).await;
        if kill < KILLS {
            node.kill9();
            node.start_again();
            node.ready(LIMIT).await;
        }
    }
    let answer = client.post_json(node.admin_url(), "/v1/jobs/book/disable", &json!({})).await;
    answer.unwrap().expect(200);
    let get = async |path: &str| -> Value {
        let request = client.build(Method::GET, node.admin_url(), path);
        client.send(request).await.unwrap().expect(200).json()
    };
    wait::poll("no run goes on", LIMIT, EACH, async || {
        let told = get("/v1/runs?job=book&state=running,queued,retrying").await;
        told["runs"].as_array()?.is_empty().then_some(())
    })
    .await;
    let started = starts(&file);
    let different: BTreeSet<u64> = started.iter().copied().collect();
    oracle!("starts in all lives", started.len(), >= (KILLS + 1) * STARTS);
    oracle!("due times that started twice", started.len() - different.len(), 0);
    let told = get("/v1/runs?job=book&limit=1000").await;
    let runs = told["runs"].as_array().unwrap();
    let fires: Vec<u64> = runs.iter().map(|run| run["fire_ms"].as_u64().unwrap()).collect();
    let known: BTreeSet<u64> = fires.iter().copied().collect();
    oracle!("due times with two runs", fires.len() - known.len(), 0);
    oracle!("starts without a run", different.difference(&known).count(), 0);
    let (first, last) = (*known.first().unwrap(), *known.last().unwrap());
    let mut unknown = 0;
    for due in (first..=last).step_by(1_000) {
        let told = get(&format!("/v1/jobs/book/explain?at={due}")).await;
        unknown += usize::from(told["verdict"] != "ran" && told["verdict"] != "decided");
    }
    oracle!("due times between the first and the last without a run or a decision", unknown, 0);
}
