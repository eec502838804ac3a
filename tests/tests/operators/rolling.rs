//! All nodes are restarted, one after the other, by a run of the cluster's own.

use std::time::Duration;

use serde_json::{Value, json};
use understudy_tests::servers::{HaProxy, free_port};
use understudy_tests::{Answer, Client, Cluster, Program, oracle, wait};

use super::ledger::Ledger;
use super::nodes::{ELIGIBLE, usual};
use super::stage::{LIMIT, OPERATOR, Stage, rounds, soon_orphaned};
use super::supervisor::{KILLED, Supervisor};
use super::traffic::{STEADY, Tally, Traffic};

const PATH: &str = "/v1/cluster/rolling-restart";
/// How long restarting three nodes may take.
const ALL: Duration = Duration::from_secs(180);
const SETTLE_MS: u64 = 1_500;

/// Orders a restart of all nodes through one of them.
async fn order(stage: &Stage, through: usize, limit_ms: u64) -> Answer {
    let body = json!({ "why": "a test", "settle_ms": SETTLE_MS, "limit_ms": limit_ms });
    let admin = stage.cluster.nodes[through].admin_url();
    stage.client.post_json(admin, PATH, &body).await.expect("an answer")
}

/// How far it is, as the first node says that answers.
async fn status(cluster: &Cluster) -> Option<Value> {
    let client = Client::with_timeout(Duration::from_secs(2)).bearing(OPERATOR);
    for node in cluster.nodes.iter().filter(|node| node.is_running()) {
        if let Ok(answer) = client.get(node.admin_url(), PATH).await
            && answer.status == 200
        {
            return Some(answer.json());
        }
    }
    None
}

async fn ended(cluster: &Cluster) -> Option<Value> {
    let told = status(cluster).await?;
    let state = told["state"].as_str().unwrap_or_default();
    matches!(state, "completed" | "failed" | "cancelled" | "lost" | "dead").then_some(told)
}

fn states(told: &Value) -> Vec<String> {
    let nodes = told["nodes"].as_array().expect("nodes");
    nodes.iter().map(|node| node["state"].as_str().unwrap_or_default().to_owned()).collect()
}

fn run_of(answer: &Answer) -> u64 {
    answer.json::<Value>()["run"].as_u64().expect("a run")
}

/// The run, as it is stored: state, and what went wrong.
fn end_of(stage: &Stage, run: u64) -> String {
    let sql =
        format!("SELECT state || ': ' || COALESCE(error, '') FROM us_job_run WHERE id = {run}");
    stage.cluster.postgres.query(&sql).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn h9_a_rolling_restart_fails_no_request_loses_no_write_and_misses_no_due_time() {
    let mut stage = Stage::with(usual().nginx(true)).await;
    let balancer = stage.cluster.balancer();
    rolls(&mut stage, &balancer).await;
}

/// With `make upgrade` it is an upgrade too (O1): the nodes that are restarted were of an older version.
#[tokio::test(flavor = "multi_thread")]
async fn h9_behind_haproxy_too_a_rolling_restart_fails_and_loses_and_misses_nothing() {
    let port = free_port();
    let builder = usual()
        .program(Program::Older)
        .env("UNDERSTUDY_HTTP_EXTERNAL_URL", &HaProxy::url_at(port))
        .env("UNDERSTUDY_OPS_DRAIN_MODE", "active_lb");
    let mut stage = Stage::with(builder).await;
    let balancer = HaProxy::before(&stage.cluster, port).await;
    rolls(&mut stage, &balancer.url()).await;
}

/// Restarts all nodes under load through this balancer: nothing may fail, get lost or be missed.
async fn rolls(stage: &mut Stage, balancer: &str) {
    stage.with_patient_probe().await;
    let ledger = Ledger::begin(balancer, 9).await;
    let traffic = Traffic::start(&ledger, &[balancer], STEADY);
    for round in 1..=rounds(1, 3) {
        ledger.mark().await;
        wait::until("traffic runs", LIMIT, async || ledger.all_written_since_mark(2)).await;
        restart_all(stage, round).await;
    }
    ledger.mark().await;
    wait::until("traffic goes on", LIMIT, async || ledger.all_written_since_mark(2)).await;
    let tally = traffic.stop().await;
    oracle!("reads that failed", Tally::get(&tally.failed_reads), 0);
    oracle!("increments that failed", Tally::get(&tally.failed_writes), 0);
    oracle!("reads that were stale", Tally::get(&tally.stale), 0);
    ledger.is_exact(balancer).await;
    stage.settle("probe").await;
    no_second_was_missed(stage);
}

async fn restart_all(stage: &mut Stage, round: usize) {
    let leader = stage.agreed().await.node;
    let run = run_of(&order(stage, (leader + round) % 3, 120_000).await.expect(202));
    let refused = order(stage, leader, 120_000).await.expect(409).json::<Value>();
    oracle!("a second order", refused["code"].as_str().unwrap_or_default(), "already_running");
    assert_eq!(refused["run"], run, "{refused}");
    let mut supervisor = Supervisor::default();
    let what = ("all nodes are restarted", ALL);
    let told =
        supervisor.until(&mut stage.cluster, what, async |cluster| ended(cluster).await).await;
    oracle!("the run", end_of(stage, run), "completed:");
    oracle!("nodes that are back", states(&told).join(","), "back,back,back");
    let mut order: Vec<usize> = supervisor.ended.iter().map(|(node, _)| *node).collect();
    oracle!("the last one led", order.last().copied().unwrap_or(9), leader);
    order.sort_unstable();
    oracle!("nodes that ended", format!("{order:?}"), "[0, 1, 2]");
    let failed = supervisor.ended.iter().filter(|(_, status)| *status != 0).count();
    oracle!("nodes that did not end well", failed, 0);
    let row = stage.get(&format!("/v1/runs/{run}")).await.expect(200).json::<Value>();
    let attempts: Vec<&str> = row["attempts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|attempt| attempt["outcome"].as_str())
        .collect();
    oracle!("attempts before the last", attempts.join(","), "handed_back");
    let stages = row["progress"]["stages"].as_array().map_or(0, Vec::len);
    oracle!("stages of the run", stages, 3);
    stage.cluster.ready().await;
}

/// Every second since the first has a run, and none a decision.
fn no_second_was_missed(stage: &Stage) {
    let missed = stage.count(
        "SELECT count(*) FROM generate_series((SELECT min(fire_ms) FROM us_job_run WHERE job = 'probe'), \
         (SELECT max(fire_ms) FROM us_job_run WHERE job = 'probe'), 1000) AS due(ms) \
         WHERE NOT EXISTS (SELECT 1 FROM us_job_run r WHERE r.job = 'probe' AND r.fire_ms = due.ms)",
    );
    oracle!("seconds without a run", missed, 0);
    let decisions = stage.count("SELECT count(*) FROM us_fire_decision WHERE job = 'probe'");
    oracle!("seconds that were decided against", decisions, 0);
    let lost =
        stage.count("SELECT count(*) FROM us_job_run WHERE job = 'probe' AND state <> 'completed'");
    oracle!("runs that did not complete", lost, <= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn h9_a_rolling_restart_outlives_the_death_of_the_leader_it_runs_on() {
    let builder = usual().env("UNDERSTUDY_OPS_DRAIN_DELAY_MS", "0");
    let mut stage = Stage::with(soon_orphaned(builder)).await;
    let leader = stage.agreed().await.node;
    let run = run_of(&order(&stage, (leader + 1) % 3, 120_000).await.expect(202));
    let mut supervisor = Supervisor::default();
    let one_is_back = async |cluster: &Cluster| {
        let told = status(cluster).await?;
        states(&told).contains(&"back".to_owned()).then_some(())
    };
    supervisor.until(&mut stage.cluster, ("one node is back", ALL), one_is_back).await;
    let before = supervisor.ended.len();
    oracle!("nodes restarted before the leader is killed", before, >= 1);
    oracle!("nodes restarted before the leader is killed", before, <= 2);
    stage.cluster.kill9(leader);
    let what = ("the others are restarted", ALL);
    let told =
        supervisor.until(&mut stage.cluster, what, async |cluster| ended(cluster).await).await;
    oracle!("the run", end_of(&stage, run), "completed:");
    oracle!("nodes that are back", states(&told).join(","), "back,back,back");
    for node in 0..3 {
        let expected = if node == leader { vec![KILLED] } else { vec![0] };
        let statuses = supervisor.statuses(node);
        oracle!(&format!("ends of node {node}"), format!("{statuses:?}"), format!("{expected:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h9_a_rolling_restart_is_cancelled_and_stops_at_a_node_that_does_not_come_back() {
    // Only the first may lead, so the run stays there until the others are done.
    let builder = usual().env("UNDERSTUDY_OPS_DRAIN_DELAY_MS", "0");
    let builder = builder.node_env(1, ELIGIBLE, "false").node_env(2, ELIGIBLE, "false");
    let mut stage = Stage::with(builder).await;
    let leader = stage.agreed().await.node;
    let run = run_of(&order(&stage, leader, 120_000).await.expect(202));
    let mut supervisor = Supervisor::default();
    let one_ended =
        async |cluster: &Cluster| cluster.nodes.iter().any(|node| !node.is_running()).then_some(());
    // Looked at before the supervisor starts it again.
    wait::until("one node has ended", ALL, async || one_ended(&stage.cluster).await.is_some())
        .await;
    stage.post(&format!("/v1/runs/{run}/cancel"), json!({})).await.expect(202);
    let what = ("the run has ended", ALL);
    supervisor.until(&mut stage.cluster, what, async |cluster| ended(cluster).await).await;
    oracle!("the run", end_of(&stage, run), "cancelled: cancelled by operator");
    stage.cluster.ready().await;
    oracle!("nodes that ended", supervisor.ended.len(), 1);
    oracle!("nodes that run", running(&stage), 3);

    let leader = stage.agreed().await.node;
    let mut supervisor = Supervisor { spared: vec![0, 1, 2], ..Supervisor::default() };
    let run = run_of(&order(&stage, leader, 8_000).await.expect(202));
    supervisor.until(&mut stage.cluster, what, async |cluster| ended(cluster).await).await;
    let missing = stage.cluster.nodes.iter().position(|node| !node.is_running());
    let missing = missing.expect("one ended");
    let name = stage.cluster.nodes[missing].name().to_owned();
    let expected = format!(
        "failed: node {name} did not come back within 8 s (is gone); nothing further was restarted"
    );
    oracle!("the run", end_of(&stage, run), expected);
    oracle!("nodes that run", running(&stage), 2);
    let told = status(&stage.cluster).await.expect("an answer");
    let mut states = states(&told);
    states.sort_unstable();
    oracle!("how they are", states.join(","), "gone,waiting,waiting");
    stage.cluster.restart(missing).await;
    one_that_went_down_again_is_waited_for(&mut stage).await;
}

/// A node that has been restarted goes down again while the next one is on its way: the last one is not told before it is
/// back.
async fn one_that_went_down_again_is_waited_for(stage: &mut Stage) {
    oracle!("who leads", stage.agreed().await.node, 0);
    let run = run_of(&order(stage, 1, 120_000).await.expect(202));
    let mut supervisor = Supervisor { spared: vec![2], ..Supervisor::default() };
    let has_ended = async |cluster: &Cluster| (!cluster.nodes[2].is_running()).then_some(());
    supervisor.until(&mut stage.cluster, ("the second one has ended", ALL), has_ended).await;
    oracle!("nodes that were restarted", format!("{:?}", supervisor.ended), "[(1, 0)]");
    stage.cluster.kill9(1);
    let mut supervisor = Supervisor { spared: vec![1], ..Supervisor::default() };
    let path = format!("/v1/runs/{run}");
    let waits = async |cluster: &Cluster| {
        let client = Client::with_timeout(Duration::from_secs(2)).bearing(OPERATOR);
        let told = client.get(cluster.nodes[0].admin_url(), &path).await.ok()?;
        told.text.contains("is not told yet: node-b is not ready").then_some(())
    };
    supervisor.until(&mut stage.cluster, ("the last one has to wait", ALL), waits).await;
    oracle!("nodes that were restarted since", format!("{:?}", supervisor.ended), "[(2, 0)]");
    stage.post(&format!("/v1/runs/{run}/cancel"), json!({})).await.expect(202);
    let what = ("the run has ended", ALL);
    supervisor.until(&mut stage.cluster, what, async |cluster| ended(cluster).await).await;
    oracle!("the run", end_of(stage, run), "cancelled: cancelled by operator");
    let log = stage.get(&format!("/v1/runs/{run}/log?limit=1000")).await.expect(200).text;
    assert!(log.contains("is not told yet"), "{log}");
    let said = log.matches("nobody leads while").count();
    oracle!("times that it said that nobody leads, while it waited", said, 0);
    oracle!("nodes that run", running(stage), 2);
}

fn running(stage: &Stage) -> usize {
    stage.cluster.nodes.iter().filter(|node| node.is_running()).count()
}
