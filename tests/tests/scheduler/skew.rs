//! Programs of two versions in one cluster: who runs what only one of them can, and whose definition counts.

use std::time::Duration;

use serde_json::{Value, json};
use understudy_tests::{Cluster, ClusterBuilder, Node, oracle, wait};

use super::stage::{LIMIT, Stage, options};

const EACH: Duration = Duration::from_millis(100);
/// So many due times must come while both versions are there.
const FIRES: u64 = 5;

/// Two nodes, of which only the first may lead.
fn two_versions() -> ClusterBuilder {
    options(Cluster::builder().nodes(2))
        .env("UNDERSTUDY_JOBS_ALIVE_MS", "500")
        .env("UNDERSTUDY_JOBS_STALE_AFTER_MS", "2000")
        .node_env(1, "UNDERSTUDY_LEADER_ELIGIBLE", "false")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_the_handler_leaves_each_run_to_the_node_that_has_it() {
    let mut stage = Stage::with(two_versions().node_env(0, "FIXTURE_WITHOUT", "probe")).await;
    oracle!("number of the node that leads", stage.leader().await, 0);
    stage.with_patient_probe().await;
    let every = json!({ "kind": "every", "every_ms": 1_000 });
    stage.define(json!({ "name": "plain", "handler": "probe", "schedule": every })).await;
    for job in ["probe", "plain"] {
        let ran =
            format!("SELECT count(*) FROM us_job_run WHERE job = '{job}' AND state = 'completed'");
        stage.until_count("some fires have run", &ran, |runs| runs >= FIRES).await;
    }
    let elsewhere = "SELECT count(*) FROM probe WHERE node NOT LIKE 'node-b#%'";
    oracle!("starts on a node that lacks the handler", stage.count(elsewhere), 0);
    let missing = "SELECT count(*) FROM us_fire_decision WHERE outcome = 'no_handler'";
    oracle!("fires that found no handler while a node has it", stage.count(missing), 0);

    stage.cluster.kill9(1);
    let waiting = without_handler(&stage).await;
    let brief = too_late(&stage).await;
    stage.cluster.restart(1).await;
    for run in waiting {
        let row = stage.until_state(run, &["completed"]).await;
        assert!(row["node"].as_str().unwrap().starts_with("node-b#"), "{row}");
    }
    stage.goes_on().await;
    oracle!("starts of the run whose grace was over", stage.starts("brief"), 0);
    assert_eq!(stage.row(brief).await["state"], "skipped");
    stage.no_second_start("plain");
    stage.settle("probe").await;
}

/// Due times that find no handler say so, whatever they do about overlaps, and their runs wait; gives those.
async fn without_handler(stage: &Stage) -> Vec<i64> {
    for job in ["probe", "plain"] {
        let first = format!(
            "SELECT from_ms FROM us_fire_decision WHERE job = '{job}' AND outcome = 'no_handler' ORDER BY id LIMIT 1"
        );
        let what = format!("a fire of `{job}` finds no handler");
        let (fire_ms, _) = wait::poll(&what, LIMIT, EACH, async || stage.first(&first)).await;
        let told = stage.get(&format!("/v1/jobs/{job}/explain?at={fire_ms}")).await.expect(200);
        assert!(told.text.contains("no living node has the handler"), "{told:?}");
    }
    let waiting = "SELECT id FROM us_job_run WHERE handler = 'probe' AND state = 'queued'";
    let waiting = stage.cluster.postgres.query(waiting);
    let waiting: Vec<i64> = waiting.lines().map(|id| id.parse().unwrap()).collect();
    oracle!("runs that wait for a node with the handler", waiting.len(), >= 2);
    waiting
}

/// A run whose grace is over before a node with the handler comes is dropped, and says why; gives its number.
async fn too_late(stage: &Stage) -> i64 {
    let at_ms = stage.now_ms() + 1_000;
    stage
        .define(json!({
            "name": "brief", "handler": "probe", "misfire_grace_ms": 500,
            "schedule": { "kind": "once", "at_ms": at_ms },
        }))
        .await;
    let dropped = "SELECT id FROM us_job_run WHERE job = 'brief' AND state = 'skipped'";
    let dropped =
        wait::poll("the run is dropped", LIMIT, EACH, async || stage.first(dropped)).await;
    let run: i64 = dropped.0.parse().unwrap();
    let row = stage.row(run).await;
    assert_eq!(row["error"], "no living node had its handler and labels within its grace", "{row}");
    run
}

impl Stage {
    /// What both nodes say of the program's job.
    async fn described(&self) -> String {
        let mut told = Vec::new();
        for node in &self.cluster.nodes {
            told.push(self.describes(node).await);
        }
        told.dedup();
        assert_eq!(told.len(), 1, "the nodes differ: {told:?}");
        told.remove(0)
    }

    async fn describes(&self, node: &Node) -> String {
        let answer = self.client.get(node.admin_url(), "/v1/jobs/versioned").await.unwrap();
        let spec = answer.expect(200).json::<Value>()["spec"].take();
        spec["description"].as_str().unwrap_or_default().to_owned()
    }

    async fn roll_to(&mut self, node: usize, version: &str) {
        self.cluster.nodes[node].set_env("FIXTURE_JOB_VERSION", version);
        self.roll(node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn j14_the_definition_of_the_newer_program_stays_while_a_node_has_it_and_an_edit_stays_longer()
 {
    let mut stage = Stage::with(two_versions().env("FIXTURE_JOB_VERSION", "1")).await;
    oracle!("first, on both nodes", stage.described().await, "version 1");
    stage.roll_to(1, "2").await;
    oracle!("after the update of one node", stage.described().await, "version 2");
    stage.roll(0).await;
    oracle!("after the start of the older program", stage.described().await, "version 2");
    let log = stage.cluster.nodes[0].log();
    assert!(log.contains("a newer definition of a job"), "nothing is said of it");

    let manual = json!({ "kind": "manual" });
    let edit = json!({ "name": "versioned", "schedule": manual, "description": "edited" });
    oracle!("whether the edit is known as one", stage.define(edit).await["edited"], json!(true));
    stage.roll(1).await;
    oracle!("after the start of the newer program", stage.described().await, "edited");
    stage.roll(0).await;
    oracle!("after the start of the older program", stage.described().await, "edited");
    let reverted = stage.post("/v1/jobs/versioned/revert", json!({})).await.expect(200);
    oracle!(
        "whether it is still known as edited",
        reverted.json::<Value>()["edited"],
        json!(false)
    );
    oracle!("after the edit was taken back", stage.described().await, "version 2");

    stage.roll_to(1, "1").await;
    oracle!("after all went back", stage.described().await, "version 1");
    let owned = stage.ask(
        &stage.cluster.nodes[0],
        "DELETE".parse().unwrap(),
        "/v1/jobs/versioned",
        &Value::Null,
    );
    oracle!("status of removing a job of the program", owned.await.status, 409);
}
