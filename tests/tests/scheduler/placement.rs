//! On which nodes runs start, how many at once, and which jobs are on.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use understudy_tests::{Cluster, oracle, wait};

use super::stage::{LIMIT, Stage, options};

/// So many due times of each node are looked at.
const TICKS: u64 = 4;
/// A due time may be claimed this much before it comes.
const EARLY_MS: u64 = 50;

#[tokio::test(flavor = "multi_thread")]
async fn j1_a_job_of_the_leader_runs_once_a_tick_and_one_of_every_node_once_a_tick_and_node() {
    let labels = "zone=north,purpose=analytics";
    let builder = options(Cluster::builder()).node_env(2, "UNDERSTUDY_NODE_LABELS", labels);
    let stage = Stage::with(builder).await;
    for (name, placement) in [("tick", "leader"), ("each", "every")] {
        stage
            .define(json!({
                "name": name, "handler": "probe", "placement": placement,
                "schedule": { "kind": "every", "every_ms": 1_000 },
            }))
            .await;
    }
    let least = "SELECT COALESCE(min(ticks), 0) FROM (SELECT count(*) AS ticks FROM probe \
                 GROUP BY job, CASE WHEN job = 'each' THEN node END) counted";
    let scopes = "SELECT count(DISTINCT (job, CASE WHEN job = 'each' THEN node END)) FROM probe";
    stage.until_count("the leader and each node have run something", scopes, |n| n == 4).await;
    stage.until_count("all have run often enough", least, |ticks| ticks >= TICKS).await;
    once_per_tick(&stage);
    switched(&stage).await;
    once_per_tick(&stage);
    by_label(&stage).await;
}

fn once_per_tick(stage: &Stage) {
    let ticks = stage.count("SELECT count(DISTINCT fire_ms) FROM probe WHERE job = 'tick'");
    oracle!("ticks of the leader's job", ticks, >= TICKS);
    stage.no_second_start("tick");
    let nodes = stage.count("SELECT count(DISTINCT node) FROM probe WHERE job = 'each'");
    oracle!("nodes that run the job of every node", nodes, 3);
    for scope in ["job", "job, node"] {
        let job = if scope == "job" { "tick" } else { "each" };
        let twice = stage.count(&format!(
            "SELECT count(*) FROM (SELECT 1 FROM probe WHERE job = '{job}' \
             GROUP BY {scope}, fire_ms HAVING count(*) <> 1) twice"
        ));
        oracle!("ticks that did not start exactly once", twice, 0);
    }
    // Per scope, each second between the first and the last run is a run or a decision.
    let unknown = stage.count(
        "SELECT count(*) FROM (SELECT job, scope, min(fire_ms) AS a, max(fire_ms) AS b FROM us_job_run \
           WHERE job IN ('tick', 'each') GROUP BY job, scope) s, \
         generate_series(s.a, s.b, 1000) AS due(ms) WHERE \
         NOT EXISTS (SELECT 1 FROM us_job_run r WHERE r.job = s.job AND r.scope = s.scope AND r.fire_ms = due.ms) \
         AND NOT EXISTS (SELECT 1 FROM us_fire_decision d WHERE d.job = s.job AND d.scope = s.scope \
           AND due.ms BETWEEN d.from_ms AND d.to_ms)",
    );
    oracle!("ticks without a run or a decision", unknown, 0);
}

/// Which jobs are on is said once for the whole cluster, and counts from then on.
async fn switched(stage: &Stage) {
    let none = enable(stage, "none").await;
    let refused = format!(
        "SELECT count(DISTINCT (job, scope)) FROM us_fire_decision WHERE outcome = 'disabled' AND from_ms > {none}"
    );
    stage.until_count("all four are refused", &refused, |scopes| scopes == 4).await;
    let only_tick = enable(stage, "tick").await;
    let between = format!("fire_ms > {} AND fire_ms <= {only_tick}", none + EARLY_MS);
    let started = stage.count(&format!("SELECT count(*) FROM probe WHERE {between}"));
    oracle!("starts while no job was on", started, 0);

    let goes_on = |job: &str, from: u64| {
        format!("SELECT count(*) FROM probe WHERE job = '{job}' AND fire_ms > {from}")
    };
    stage.until_count("the one that is on starts", &goes_on("tick", only_tick), |n| n >= 2).await;
    let all = enable(stage, "all").await;
    let started = stage.count(&format!(
        "SELECT count(*) FROM probe WHERE job = 'each' AND fire_ms > {only_tick} AND fire_ms <= {all}"
    ));
    oracle!("starts of the job that was not on the list", started, 0);
    stage.until_count("all start", &goes_on("each", all), |n| n >= 3).await;
}

/// Says it to another node than the leader; gives the time at which it counted.
async fn enable(stage: &Stage, value: &str) -> u64 {
    let other = (stage.leader().await + 1) % 3;
    let (node, path) = (&stage.cluster.nodes[other], "/v1/scheduler/jobs-enabled");
    let answer = stage.ask(node, Method::PUT, path, &json!({ "value": value })).await.expect(200);
    assert_eq!(answer.json::<Value>()["value"], value);
    stage.now_ms()
}

/// A job that asks for a label runs where it is.
async fn by_label(stage: &Stage) {
    let labels = json!({
        "labels": { "purpose": "analytics" }, "placement": "any",
        "overlap": { "policy": "allow", "max": 10 },
    });
    stage.manual("labelled", "probe", labels).await;
    let mut runs = Vec::new();
    for _ in 0..6 {
        runs.push(stage.run("labelled").await);
    }
    for run in runs {
        stage.until_state(run, &["completed"]).await;
    }
    let elsewhere =
        "SELECT count(*) FROM probe WHERE job = 'labelled' AND node NOT LIKE 'node-c#%'";
    oracle!("t12: starts on a node without the label", stage.count(elsewhere), 0);
    let nowhere = json!({ "labels": { "purpose": "billing" }, "placement": "any" });
    stage.manual("nowhere", "probe", nowhere).await;
    let run = stage.run("nowhere").await;
    let after = stage.run("labelled").await;
    stage.until_state(after, &["completed"]).await;
    oracle!(
        "t12: state of a run that no node has the label for",
        stage.row(run).await["state"],
        json!("queued")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn j5_a_limit_of_the_cluster_is_never_exceeded() {
    const LIMIT_OF_RUNS: u64 = 2;
    const RUNS: u64 = 10;
    let stage = Stage::start().await;
    let limited = json!({
        "placement": "any", "max_concurrency": LIMIT_OF_RUNS,
        "overlap": { "policy": "allow", "max": 1_000 },
    });
    stage.manual("limited", "slow", limited).await;
    for node in &stage.cluster.nodes {
        let path = format!("/enqueue?job=limited&count={RUNS}&ms=250");
        let answer = stage.client.post(node.public_url(), &path).await.unwrap().expect(200);
        assert_eq!(answer.json::<Value>()["made"], RUNS);
    }
    let mut sampled = Vec::new();
    let each = Duration::from_millis(50);
    wait::poll("all have run", LIMIT, each, async || {
        let running = "SELECT count(*) FROM us_job_run WHERE job = 'limited' AND state = 'running'";
        sampled.push(stage.count(running));
        let done = "SELECT count(*) FROM us_job_run WHERE job = 'limited' AND state = 'completed'";
        (stage.count(done) == 3 * RUNS).then_some(())
    })
    .await;
    let most = sampled.iter().max().copied().unwrap_or(0);
    oracle!("most that ran at once, of the samples", most, <= LIMIT_OF_RUNS);
    oracle!("most that ran at once, by their states", stage.most_at_once("limited"), LIMIT_OF_RUNS);
    let by_handlers = stage.count(
        "SELECT max(at_once) FROM (SELECT (SELECT count(*) FROM probe b JOIN ended e ON e.run = b.run \
         WHERE b.job = 'limited' AND b.at_ms <= a.at_ms AND e.at_ms > a.at_ms) AS at_once \
         FROM probe a WHERE a.job = 'limited') sampled",
    );
    oracle!("most that ran at once, by what their handlers noted", by_handlers, <= LIMIT_OF_RUNS);
    let starts = stage.starts("limited");
    oracle!("starts", starts, 3 * RUNS);
}
