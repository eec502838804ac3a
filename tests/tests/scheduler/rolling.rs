//! Leaders go in peace: told to stop one after the other, or to let another lead, under jobs that go on.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use understudy_tests::{Client, Cluster, oracle, wait};

use super::stage::{LIMIT, OPERATOR, Stage, rounds, soon_orphaned};
use super::takeover::kill_the_leader;

/// How long nobody may lead when a leader goes in peace, but for one hand-over in a hundred.
const GAP_MS: u64 = 250;
/// The tick of the scheduler.
const TICK_MS: u64 = 1_000;
/// For so long a node that stepped down does not lead: time for another, and yet soon over.
const HOLD_MS: u64 = 300;

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_misses_no_second_and_cuts_no_run_short() {
    let mut stage = Stage::start().await;
    stage.with_patient_probe().await;
    stage
        .define(json!({
            "name": "slow", "handler": "slow", "params": { "ms": 3_000 },
            "schedule": { "kind": "every", "every_ms": 5_000 },
        }))
        .await;
    let mut gaps = Vec::new();
    for _ in 0..rounds(3, 20) {
        wait::poll(
            "the leader is at its slow job",
            LIMIT,
            Duration::from_millis(100),
            async || {
                let running =
                    "SELECT count(*) FROM us_job_run WHERE job = 'slow' AND state = 'running'";
                (stage.count(running) > 0).then_some(())
            },
        )
        .await;
        let first = stage.agreed().await.node;
        for number in (0..3).map(|after| (first + after) % 3) {
            gaps.extend(replace(&mut stage, number).await);
        }
    }
    let restarts = gaps.len();
    for number in restarts..rounds(20, 100).max(restarts + 1) {
        gaps.push(step_down(&stage, number % 3).await);
    }
    judge(&mut gaps, restarts);
    stage.settle("probe").await;
    no_second_was_missed(&stage);
    no_run_was_cut_short(&stage).await;
    the_first_due_time_of_a_cold_start_is_in_time(&mut stage).await;
}

/// Stops a node with SIGTERM and starts it again; gives how long nobody led, in ms, if it led.
async fn replace(stage: &mut Stage, number: usize) -> Option<u64> {
    let lead = stage.agreed().await;
    let asked_ms = stage.now_ms();
    stage.cluster.nodes[number].terminate();
    let gap = match lead.node == number {
        true => Some(gap_after(stage, lead.epoch, asked_ms).await),
        false => None,
    };
    let status = stage.cluster.nodes[number].wait_exit(LIMIT).await;
    assert!(status.code() == Some(0), "{}: {status}", stage.cluster.nodes[number].name());
    stage.cluster.restart(number).await;
    gap
}

/// Has the leader let another lead, as soon as another could; gives how long nobody led, in ms.
async fn step_down(stage: &Stage, asked: usize) -> u64 {
    let (path, body) = ("/v1/leader/step-down", json!({ "hold_ms": HOLD_MS }));
    let (epoch, asked_ms) = (stage.epoch(), stage.now_ms());
    let asked = stage.cluster.nodes[asked].admin_url();
    wait::poll("the leader steps down", LIMIT, Duration::from_millis(50), async || {
        let answer = stage.client.post_json(asked, path, &body).await.expect("an answer");
        // The two others may both have stepped down a moment ago, and not every node knows yet who leads.
        let code = (answer.status == 409).then(|| answer.json::<Value>()["code"].clone());
        let not_yet = code.is_some_and(|code| {
            ["no_other_node", "no_leader", "leader_changed"].iter().any(|known| code == *known)
        });
        (!not_yet).then(|| answer.expect(200))
    })
    .await;
    gap_after(stage, epoch, asked_ms).await
}

/// How long nobody led after a term, in ms. When its end was only noted by the next term, it counts from the request on.
async fn gap_after(stage: &Stage, epoch: u64, asked_ms: u64) -> u64 {
    let started_ms = stage.term_after(epoch).await;
    let ended_ms = stage.count(&format!(
        "SELECT CASE WHEN reason = 'superseded' THEN {asked_ms} ELSE ended_ms END \
         FROM us_leader_history WHERE epoch = {epoch}"
    ));
    started_ms.saturating_sub(ended_ms)
}

fn judge(gaps: &mut [u64], restarts: usize) {
    oracle!("hand-overs by SIGTERM", restarts, >= rounds(3, 20));
    oracle::note(&format!("without a leader at each hand-over, ms: {gaps:?}"));
    gaps.sort_unstable();
    let part = |percent: usize| gaps[(gaps.len() * percent).div_ceil(100) - 1];
    oracle::note(&format!("of {} hand-overs, p50 without a leader, ms: {}", gaps.len(), part(50)));
    oracle!("without a leader at a hand-over, p99 in ms", part(99), within GAP_MS);
}

fn no_second_was_missed(stage: &Stage) {
    let missed = stage.count(
        "SELECT count(*) FROM generate_series((SELECT min(fire_ms) FROM us_job_run WHERE job = 'probe'), \
         (SELECT max(fire_ms) FROM us_job_run WHERE job = 'probe'), 1000) AS due(ms) \
         WHERE NOT EXISTS (SELECT 1 FROM us_job_run r WHERE r.job = 'probe' AND r.fire_ms = due.ms)",
    );
    oracle!("seconds without a run", missed, 0);
    let decisions = stage.count("SELECT count(*) FROM us_fire_decision WHERE job = 'probe'");
    oracle!("seconds that were decided against", decisions, 0);
    let latest =
        stage.count("SELECT max(started_ms - fire_ms) FROM us_job_run WHERE job = 'probe'");
    oracle::note(&format!("latest start after its due time, ms: {latest}"));
}

async fn no_run_was_cut_short(stage: &Stage) {
    let last = stage.count("SELECT max(id) FROM us_job_run WHERE job = 'slow'");
    wait::until("all slow runs have ended", LIMIT, async || {
        stage.count(&format!(
            "SELECT count(*) FROM us_job_run WHERE job = 'slow' AND id <= {last} AND finished_ms IS NULL"
        )) == 0
    })
    .await;
    let outlived = stage.count(&format!(
        "SELECT count(*) FROM us_job_run r JOIN us_leader_history h ON h.epoch = r.epoch \
         WHERE r.job = 'slow' AND r.id <= {last} AND h.reason = 'resigned' AND r.finished_ms > h.ended_ms"
    ));
    oracle!("runs under way while their leader was told to stop", outlived, >= 1);
    let cut = stage.count(&format!(
        "SELECT count(*) FROM us_job_run WHERE job = 'slow' AND id <= {last} \
         AND (state <> 'completed' OR attempt <> 1)"
    ));
    oracle!("slow runs that did not complete at once", cut, 0);
    let ended = stage.count(&format!(
        "SELECT count(DISTINCT run) FROM ended WHERE job = 'slow' AND run <= {last}"
    ));
    let runs = stage
        .count(&format!("SELECT count(*) FROM us_job_run WHERE job = 'slow' AND id <= {last}"));
    oracle!("slow runs that went to their end", ended, runs);
}

/// All nodes are started at once where none runs: whoever is ready first, the next due time starts within a tick.
async fn the_first_due_time_of_a_cold_start_is_in_time(stage: &mut Stage) {
    stage.cluster.nodes.iter().for_each(|node| node.terminate());
    for node in &mut stage.cluster.nodes {
        node.wait_exit(LIMIT).await;
    }
    stage.cluster.nodes.iter_mut().for_each(|node| node.start_again());
    let client = Client::with_timeout(Duration::from_secs(1));
    wait::until("a node is ready", LIMIT, async || {
        for node in &stage.cluster.nodes {
            let answer = client.get(node.public_url(), "/health/ready").await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                return true;
            }
        }
        false
    })
    .await;
    let due_ms = (stage.now_ms() / 1_000 + 1) * 1_000;
    let started = format!(
        "SELECT COALESCE(min(started_ms), 0) FROM us_job_run WHERE job = 'probe' AND fire_ms = {due_ms}"
    );
    let (started_ms, _) =
        wait::poll("it has started", LIMIT, Duration::from_millis(50), async || {
            Some(stage.count(&started)).filter(|started_ms| *started_ms > 0)
        })
        .await;
    let late = started_ms.saturating_sub(due_ms);
    oracle!("lateness of the first due time after a cold start, ms", late, within TICK_MS);
    stage.cluster.ready().await;
    stage.no_second_start("probe");
}

/// With the lease as long as it is when nobody says anything.
const DEFAULT_TTL_MS: u64 = 5_000;
const GRACE: &str = "UNDERSTUDY_JOBS_SHUTDOWN_GRACE_MS";

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_finishes_its_runs_or_hands_them_back() {
    let builder = Cluster::builder()
        .nodes(2)
        .env("UNDERSTUDY_OPS_DRAIN_DELAY_MS", "0")
        .env("UNDERSTUDY_ADMIN_OPERATOR_TOKEN", OPERATOR)
        .env(GRACE, "2000");
    let mut stage = Stage::with(soon_orphaned(builder)).await;
    stage.with_patient_probe().await;
    let first = stage.agreed().await.node;
    let handed_back = start_long(&stage, first, "long-1").await;
    let (code, took) = terminate(&mut stage, first).await;
    oracle!("grace 2 s: exit code", code, 0);
    oracle!("grace 2 s: the run was waited for, ms", took, >= 2_000);
    stage.cluster.nodes[first].set_env(GRACE, "10000");
    stage.cluster.restart(first).await;
    step_down(&stage, first).await;
    let completed = start_long(&stage, first, "long-2").await;
    let (code, took) = terminate(&mut stage, first).await;
    oracle!("grace 10 s: exit code", code, 0);
    oracle::note(&format!("a node with a run of 5 s left after {took} ms"));
    let name = stage.cluster.nodes[first].name().to_owned();
    oracle!(
        "grace 10 s: end of the run",
        end_of(&stage, completed).await,
        format!("completed|1|{name}")
    );
    let other = stage.cluster.nodes[1 - first].name().to_owned();
    oracle!(
        "grace 2 s: end of the run",
        end_of(&stage, handed_back).await,
        format!("completed|2|{other}")
    );
    let attempts =
        format!("SELECT attempt, outcome FROM us_run_attempt WHERE run_id = {handed_back}");
    let attempts = stage.cluster.postgres.query(&attempts);
    oracle!("grace 2 s: attempts before", attempts.trim(), "1|handed_back");
    stage.cluster.restart(first).await;
    let (_, gap) = kill_the_leader(&mut stage).await;
    oracle!("from kill -9 to the next term with the default lease, ms", gap, within DEFAULT_TTL_MS + 500);
    stage.settle("probe").await;
}

/// Has the leader run a job of 5 s; gives the number of the run once it is under way on this node.
async fn start_long(stage: &Stage, leader: usize, job: &str) -> u64 {
    wait::until("it leads", LIMIT, async || stage.leads().await == Some(leader)).await;
    let at_ms = stage.now_ms() + 500;
    stage
        .define(json!({
            "name": job, "handler": "slow", "params": { "ms": 5_000 },
            "schedule": { "kind": "once", "at_ms": at_ms },
        }))
        .await;
    let name = stage.cluster.nodes[leader].name();
    let noted = format!(
        "SELECT COALESCE(min(run), 0) FROM probe WHERE job = '{job}' AND node LIKE '{name}#%'"
    );
    wait::poll("the run is under way", LIMIT, Duration::from_millis(50), async || {
        Some(stage.count(&noted)).filter(|run| *run > 0)
    })
    .await
    .0
}

/// Stops a node with SIGTERM; gives its exit code, and how long that took in ms.
async fn terminate(stage: &mut Stage, number: usize) -> (i32, u128) {
    let told = Instant::now();
    stage.cluster.nodes[number].terminate();
    let status = stage.cluster.nodes[number].wait_exit(LIMIT).await;
    (status.code().unwrap_or(-1), told.elapsed().as_millis())
}

/// In which state, at which attempt and on which node a run ended.
async fn end_of(stage: &Stage, run: u64) -> String {
    let sql = format!(
        "SELECT state, attempt, split_part(node, '#', 1) FROM us_job_run WHERE id = {run} AND finished_ms IS NOT NULL"
    );
    let ended = async || {
        Some(stage.cluster.postgres.query(&sql).trim().to_owned()).filter(|it| !it.is_empty())
    };
    wait::poll("the run has ended", LIMIT, Duration::from_millis(50), ended).await.0
}
