//! Runs whose node dies, stands still, or is killed by them.

use std::time::Duration;

use serde_json::json;
use understudy_tests::{Cluster, ClusterBuilder, oracle, wait};

use super::stage::{LIMIT, Stage, options};

/// After this silence of its node a run is given up.
const STALE_MS: u64 = 4_000;
/// Silent runs are looked for every 5 s; what is found then begins within the rest, also where two cores bear two clusters.
const FOUND_WITHIN_MS: u64 = 10_000;
/// How often the database is asked.
const EACH: Duration = Duration::from_millis(100);

fn impatient(builder: ClusterBuilder) -> ClusterBuilder {
    options(builder)
        .env("UNDERSTUDY_JOBS_ALIVE_MS", "1000")
        .env("UNDERSTUDY_JOBS_STALE_AFTER_MS", &STALE_MS.to_string())
}

/// Of a run that is to be orphaned: who has it, and when its node last said that it lives.
struct Silenced {
    run: i64,
    node: usize,
    heartbeat_ms: u64,
}

impl Stage {
    /// To be asked after its node was silenced.
    fn silenced(&self, run: i64, node: usize) -> Silenced {
        let heartbeat_ms = self.count(&format!(
            "SELECT heartbeat_ms FROM us_job_run WHERE id = {run} AND attempt = 1 AND state = 'running'"
        ));
        Silenced { run, node, heartbeat_ms }
    }

    /// Waits for the second attempt, and demands that it came in time and elsewhere.
    async fn runs_again_elsewhere(&self, silenced: &Silenced) {
        let run = silenced.run;
        let node = self.until_begun(run, 2).await;
        let begun_ms =
            self.count(&format!("SELECT at_ms FROM probe WHERE run = {run} AND attempt = 2"));
        let after = begun_ms - silenced.heartbeat_ms;
        oracle!("second attempt begun after the last sign of life, ms", after, >= STALE_MS);
        oracle!("second attempt begun after the last sign of life, ms", after, within STALE_MS + FOUND_WITHIN_MS);
        oracle!(
            "second attempts on the node that was silent",
            usize::from(node == silenced.node),
            0
        );
    }

    async fn until_in(&self, run: i64, state: &str) {
        let sql = format!("SELECT state FROM us_job_run WHERE id = {run}");
        wait::poll(&format!("run {run} is {state}"), LIMIT, EACH, async || {
            (self.first(&sql)? == state).then_some(())
        })
        .await;
    }

    /// Each attempt up to the last began once, and the last is the only one that wrote its end.
    fn each_attempt_once(&self, run: i64, attempts: u64) {
        let starts = format!("SELECT count(*) FROM probe WHERE run = {run}");
        oracle!("starts of the run", self.count(&starts), attempts);
        let different = format!("SELECT count(DISTINCT attempt) FROM probe WHERE run = {run}");
        oracle!("different attempts of the run", self.count(&different), attempts);
        let early =
            format!("SELECT count(*) FROM ended WHERE run = {run} AND attempt < {attempts}");
        oracle!("ends that an attempt wrote which was given up", self.count(&early), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn j6_an_orphan_runs_again_elsewhere_and_its_first_attempt_changes_nothing() {
    // One run per node, so that the three runs of this test are on three nodes.
    let builder = impatient(Cluster::builder()).env("UNDERSTUDY_JOBS_CONCURRENCY", "1");
    let mut stage = Stage::with(builder).await;
    // Three times as long as a silence may be, and its node lives.
    stage.manual("silent", "slow", json!({ "params": { "ms": 3 * STALE_MS } })).await;
    stage.manual("long", "slow", json!({ "params": { "ms": 20_000 } })).await;
    stage.manual("guarded", "guarded", json!({ "params": { "ms": STALE_MS } })).await;
    let silent = stage.run("silent").await;
    let long = stage.run("long").await;
    stage.until_begun(silent, 1).await;

    let node = stage.until_begun(long, 1).await;
    stage.cluster.kill9(node);
    let killed = stage.silenced(long, node);
    stage.runs_again_elsewhere(&killed).await;
    stage.cluster.restart(killed.node).await;

    let guarded = stage.run("guarded").await;
    let node = stage.until_begun(guarded, 1).await;
    stage.cluster.nodes[node].stop();
    let stopped = stage.silenced(guarded, node);
    stage.runs_again_elsewhere(&stopped).await;
    stage.cluster.nodes[stopped.node].cont();
    let thawed = &stage.cluster.nodes[stopped.node];
    wait::poll("the thawed attempt is refused", LIMIT, EACH, async || {
        (thawed.metric("fenced_completions_total").await > 0.0).then_some(())
    })
    .await;
    let refused = thawed.metric("fenced_completions_total").await;
    oracle!("ends of the thawed node's attempts that were refused", refused, >= 1.0);

    for (run, attempts) in [(silent, 1), (guarded, 2), (long, 2)] {
        stage.until_in(run, "completed").await;
        stage.each_attempt_once(run, attempts);
        let ends = stage.count(&format!("SELECT count(*) FROM ended WHERE run = {run}"));
        oracle!("ends that were written", ends, 1);
    }
    let lost = format!(
        "SELECT count(*) FROM us_run_attempt WHERE outcome = 'lost' AND run_id IN ({silent}, {guarded}, {long})"
    );
    oracle!("attempts that are noted as lost", stage.count(&lost), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn j7_a_job_that_kills_its_node_ends_dead_and_one_that_may_not_be_repeated_ends_lost() {
    let mut stage = Stage::with(impatient(Cluster::builder().nodes(2))).await;
    let once = json!({ "on_orphan": { "policy": "fail" } });
    let again = json!({ "on_orphan": { "policy": "retry", "max": 1 } });
    stage.manual("once", "abort", once).await;
    stage.manual("again", "abort", again).await;
    // Both wait before the first takes a node along, which may be the one that is asked.
    stage.post("/v1/scheduler/pause", json!({ "why": "a test" })).await.expect(200);
    let (once, again) = (stage.run("once").await, stage.run("again").await);
    let node = stage.cluster.nodes[0].admin_url();
    let resumed = stage.client.post_json(node, "/v1/scheduler/resume", &json!({})).await;
    drop(resumed); // its answer may go with the node
    let unended = format!(
        "SELECT count(*) FROM us_job_run WHERE id IN ({once}, {again}) AND finished_ms IS NULL"
    );
    let mut died = 0;
    while stage.count(&unended) > 0 {
        let nodes = &stage.cluster.nodes;
        let (dead, _) = wait::poll("a node dies, or all is over", LIMIT, EACH, async || {
            let dead = nodes.iter().position(|node| !node.is_running());
            (dead.is_some() || stage.count(&unended) == 0).then_some(dead)
        })
        .await;
        if let Some(dead) = dead {
            died += 1;
            stage.cluster.restart(dead).await;
        }
    }
    oracle!("nodes that died", died, <= 3);
    stage.until_in(once, "lost").await;
    stage.until_in(again, "dead").await;
    // One of them may have been taken along before it could note its start.
    stage.no_second_start("once");
    stage.no_second_start("again");
    for (run, attempts) in [(once, 1), (again, 2)] {
        let count = format!("SELECT count(*) FROM us_run_attempt WHERE run_id = {run}");
        oracle!("attempts that took their node along", stage.count(&count), attempts);
        let errors = stage.get(&format!("/v1/runs/{run}/errors")).await.expect(200);
        assert!(errors.text.contains("was silent"), "{errors:?}");
    }
    stage.manual("after", "probe", json!({})).await;
    let after = stage.run("after").await;
    stage.until_state(after, &["completed"]).await;
    let rest = stage.cluster.nodes.iter().filter(|node| !node.is_running()).count();
    oracle!("nodes that are dead in the end", rest, 0);
}

/// What is left when the answer to a claim or to taking is lost after its commit: the database says that a node runs it,
/// and the node has never heard of it.
fn start_that_was_not_heard_of(stage: &Stage, run: i64, node: &str, placement: &str) {
    let now = "CAST(extract(epoch from clock_timestamp()) * 1000 AS bigint)";
    stage.cluster.postgres.query(&format!(
        "UPDATE us_job_run SET state = 'running', node = '{node}', placement = '{placement}', epoch = 0, \
         started_ms = {now} - 60000, heartbeat_ms = {now} + 60000 WHERE id = {run} AND state = 'queued'"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_its_node_has_not_heard_of_begins_once_or_is_left_to_the_leader() {
    let stage = Stage::with(impatient(options(Cluster::builder()))).await;
    stage.manual("unheard", "probe", json!({ "overlap": { "policy": "allow", "max": 10 } })).await;
    // Nobody takes anything, so that what begins is what was not heard of.
    stage.post("/v1/scheduler/pause", json!({ "why": "a test" })).await.expect(200);
    let (here, left) = (stage.run("unheard").await, stage.run("unheard").await);
    let id = |number: usize| {
        let name = stage.cluster.nodes[number].name();
        let sql = format!("SELECT node FROM us_scheduler_node WHERE node LIKE '{name}#%'");
        stage.first(&sql).unwrap()
    };
    let leader = stage.leader().await;
    let other = id((leader + 1) % 3);
    start_that_was_not_heard_of(&stage, here, &other, "any");
    start_that_was_not_heard_of(&stage, left, &other, "leader");
    let row = stage.until_state(here, &["completed"]).await;
    oracle!("node that began late", row["node"], json!(other));
    oracle!("attempts of what began late", row["attempt"], json!(1));
    // A run that belongs to the leader is not for a node that does not lead.
    let row = stage.until_state(left, &["queued"]).await;
    oracle!("attempts of what was left", row["attempt"], json!(1));
    stage.post("/v1/scheduler/resume", json!({})).await.expect(200);
    let row = stage.until_state(left, &["completed"]).await;
    oracle!("node that ran what was left", row["node"], json!(id(leader)));
    oracle!("starts of both", stage.starts("unheard"), 2);
    stage.no_second_start("unheard");
}
