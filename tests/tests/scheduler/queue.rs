//! The queue: tasks of the application, chains, retries, and every state in which a run can be.

use std::time::Duration;

use serde_json::{Value, json};
use understudy_tests::{Cluster, crowd, oracle, wait};

use super::stage::{LIMIT, Stage, options};

/// Tasks are put into the queue in requests of so many.
const AT_ONCE: u64 = 50;
const NODES: usize = 3;
/// All tasks.
const ALL: u64 = 1_500;
/// A pause may differ from the formula by this part of it, and by what a start takes.
const PERCENT: u64 = 5;
const START_MS: u64 = 100;

fn task() -> Value {
    json!({ "placement": "any", "overlap": { "policy": "allow", "max": 10_000 } })
}

#[tokio::test(flavor = "multi_thread")]
async fn j10_each_task_of_three_nodes_runs_once_and_one_that_was_rolled_back_never() {
    // All are counted in the end, so none may be forgotten before.
    let kept = options(Cluster::builder()).env("UNDERSTUDY_JOBS_HISTORY_MAX_PER_JOB", "10000");
    let stage = Stage::with(kept).await;
    stage.manual("task", "probe", task()).await;
    let requests = usize::try_from(ALL / AT_ONCE).unwrap();
    let path = format!("/enqueue?job=task&count={AT_ONCE}");
    crowd(NODES, requests, async |number| {
        let node = &stage.cluster.nodes[number % NODES];
        stage.client.post(node.public_url(), &path).await.unwrap().expect(200);
    })
    .await;
    let begin = tokio::time::Instant::now();
    in_a_transaction(&stage).await;
    let unended = "SELECT count(*) FROM us_job_run WHERE job = 'task' AND finished_ms IS NULL";
    let each = Duration::from_millis(200);
    wait::poll("the queue is empty", LIMIT * 2, each, async || {
        (stage.count(unended) == 0).then_some(())
    })
    .await;
    oracle::note(&format!(
        "the queue was empty {:?} after the last was put into it",
        begin.elapsed()
    ));
    let completed = "SELECT count(*) FROM us_job_run WHERE job = 'task' AND state = 'completed'";
    oracle!("tasks completed", stage.count(completed), ALL);
    oracle!("starts noted", stage.starts("task"), ALL);
    let runs = "SELECT count(DISTINCT run) FROM probe WHERE job = 'task'";
    oracle!("runs that started", stage.count(runs), ALL);
    let nodes = "SELECT count(DISTINCT node) FROM probe WHERE job = 'task'";
    oracle!("nodes that took tasks", stage.count(nodes), NODES as u64);
    let spread = stage.cluster.postgres.query("SELECT node, count(*) FROM probe GROUP BY node");
    oracle::note(&format!("starts by node: {}", spread.trim().replace('\n', ", ")));
}

/// A task is there if and only if the transaction commits that puts it into the queue.
async fn in_a_transaction(stage: &Stage) {
    stage.manual("inside", "probe", task()).await;
    let public = stage.cluster.url(0);
    let put = async |commit: bool| {
        let path = format!("/enqueue-in?job=inside&commit={commit}");
        stage.client.post(public, &path).await.unwrap().expect(200).json::<Value>()["run"].take()
    };
    oracle!("run of a transaction that was rolled back", put(false).await, Value::Null);
    let run = put(true).await.as_i64().expect("the number of a run");
    stage.until_state(run, &["completed"]).await;
    oracle!(
        "tasks in the queue",
        stage.count("SELECT count(*) FROM us_job_run WHERE job = 'inside'"),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn j7_every_state_is_reached_and_j8_pauses_and_j9_chains_are_as_they_were_asked_for() {
    let stage = Stage::start().await;
    let pauses = begin_retries(&stage).await;
    chains(&stage).await;
    states(&stage).await;
    for (job, run, pauses) in pauses {
        kept_pauses(&stage, job, run, &pauses).await;
    }
}

/// Jobs that fail, each with the pauses that its policy asks for, ms.
async fn begin_retries(stage: &Stage) -> Vec<(&'static str, i64, Vec<u64>)> {
    let fixed = json!({ "retries": 3, "delay_ms": 2_000 });
    let growing = json!({
        "retries": 4, "delay_ms": 1_000, "backoff": "exponential", "max_delay_ms": 3_000,
    });
    let mut begun = Vec::new();
    for (job, retry, pauses) in [
        ("fixed", fixed, vec![2_000, 2_000, 2_000]),
        ("growing", growing, vec![1_000, 2_000, 3_000, 3_000]),
    ] {
        stage.manual(job, "fail", json!({ "retry": retry })).await;
        begun.push((job, stage.run(job).await, pauses));
    }
    begun
}

/// Compares the times that the database noted: an attempt ends, and the next starts.
async fn kept_pauses(stage: &Stage, job: &str, run: i64, pauses: &[u64]) {
    let row = stage.until_ended(run).await;
    oracle!("state after the last attempt failed", row["state"], json!("failed"));
    oracle!("what went wrong", row["error"], json!("as asked for"));
    oracle!("attempts", row["attempt"], json!(pauses.len() + 1));
    let measured = stage.cluster.postgres.query(&format!(
        "SELECT next.started_ms - a.ended_ms FROM us_run_attempt a JOIN \
         (SELECT attempt, started_ms FROM us_run_attempt WHERE run_id = {run} UNION ALL \
          SELECT attempt, started_ms FROM us_job_run WHERE id = {run}) next ON next.attempt = a.attempt + 1 \
         WHERE a.run_id = {run} ORDER BY a.attempt"
    ));
    let measured: Vec<u64> = measured.lines().map(|line| line.parse().unwrap()).collect();
    oracle::note(&format!("pauses of {job}, ms: {measured:?}, asked for: {pauses:?}"));
    oracle!("pauses", measured.len(), pauses.len());
    for (pause, asked) in measured.iter().zip(pauses) {
        oracle!("pause, ms", *pause, >= asked - asked * PERCENT / 100);
        oracle!("pause, ms", *pause, within asked + asked * PERCENT / 100 + START_MS);
    }
}

/// The first job fails or succeeds; what becomes of the two after it.
async fn chains(stage: &Stage) {
    for (chain, first, on_failure, rest) in [
        ("broken", "fail", "skip", "skipped"),
        ("tough", "fail", "continue", "completed"),
        ("whole", "probe", "skip", "completed"),
    ] {
        let names = [format!("{chain}-2"), format!("{chain}-3")];
        for name in &names {
            stage.manual(name, "probe", json!({})).await;
        }
        let more = json!({ "then": names, "on_failure": on_failure });
        stage.manual(&format!("{chain}-1"), first, more).await;
        let run = stage.run(&format!("{chain}-1")).await;
        stage.until_ended(run).await;
        let of_chain = format!(
            "SELECT count(*) FROM us_job_run WHERE job IN ('{chain}-2', '{chain}-3') AND state = '{rest}'"
        );
        stage.until_count("the rest of the chain is decided", &of_chain, |runs| runs == 2).await;
        let starts = stage.count(&format!("SELECT count(*) FROM probe WHERE job LIKE '{chain}-%'"));
        oracle!(
            &format!("j9: starts of the chain `{chain}`"),
            starts,
            if rest == "skipped" { 1 } else { 3 }
        );
        let disorder = stage.count(&format!(
            "SELECT count(*) FROM us_job_run a JOIN us_job_run b ON b.job = '{chain}-3' \
             WHERE a.job = '{chain}-2' AND b.started_ms < a.finished_ms"
        ));
        oracle!("j9: jobs that began before the one before had ended", disorder, 0);
    }
    let why = "SELECT count(*) FROM us_job_run WHERE state = 'skipped' \
               AND error = '`broken-1` before it in the chain ended failed'";
    oracle!("j9: skipped runs that say why", stage.count(why), 2);
}

/// The states that need no node to die; `lost` and `dead` are among the orphans, `skipped` among the chains.
async fn states(stage: &Stage) {
    stage.manual("good", "probe", json!({})).await;
    stage
        .manual("bad", "fail", json!({ "params": { "fatal": true }, "retry": { "retries": 9 } }))
        .await;
    stage.manual("late", "fail", json!({ "retry": { "retries": 1, "delay_ms": 3_600_000 } })).await;
    stage.manual("other", "letters", json!({ "params": { "to": 7, "copies": "many" } })).await;
    stage.manual("slow", "slow", json!({ "params": { "ms": 60_000 } })).await;
    stage.manual("nowhere", "probe", json!({ "labels": { "no": "node" } })).await;
    let mut runs = Vec::new();
    for (job, state) in [
        ("good", "completed"),
        ("bad", "failed"),
        ("late", "retrying"),
        ("other", "incompatible"),
        ("slow", "running"),
        ("nowhere", "queued"),
    ] {
        let run = stage.run(job).await;
        let row = stage.until_state(run, &[state]).await;
        let listed = stage.get(&format!("/v1/runs?job={job}&state={state}")).await.expect(200);
        let listed = listed.json::<Value>()["runs"].as_array().map_or(0, Vec::len);
        oracle!(
            &format!("j7: runs of `{job}` that are {state}, attempt {}", row["attempt"]),
            listed,
            1
        );
        runs.push((job, run));
    }
    let fatal = stage.count("SELECT count(*) FROM probe WHERE job = 'bad'");
    oracle!("starts of a run whose failure no other attempt would mend", fatal, 1);
    for (job, run) in runs {
        let answer = stage.post(&format!("/v1/runs/{run}/cancel"), json!({})).await;
        let ended = matches!(job, "good" | "bad" | "other");
        oracle!(
            &format!("status of cancelling `{job}`"),
            answer.status,
            if ended { 409 } else { 202 }
        );
        if !ended {
            stage.until_state(run, &["cancelled"]).await;
        }
    }
    let again = stage.first("SELECT id FROM us_job_run WHERE job = 'bad'").unwrap();
    let path = format!("/v1/runs/{again}/retry");
    let first = stage.post(&path, json!({})).await.expect(202).json::<Value>();
    let second = stage.post(&path, json!({})).await.expect(202).json::<Value>();
    oracle!("whether asking twice makes a second run", second["new"], json!(false));
    assert_eq!(first["run"], second["run"]);
}
