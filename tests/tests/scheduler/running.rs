//! Runs while they run: schedules of all kinds, overlaps, time limits, cancelling, progress and logs.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use understudy_tests::{Cluster, Node, oracle, wait};

use super::stage::{LIMIT, Stage, options};

const EACH: Duration = Duration::from_millis(50);
/// How soon a run must have stopped that was cancelled on another node.
const CANCELLED_WITHIN_MS: u128 = 2_000;
/// The job that panics says so; nothing else may.
const PANIC: &str = "panicked";
/// What `letters` says when it is about to end.
const LAST_LINE: &str = "all are posted";

impl Stage {
    /// Another node than this one.
    fn beside(&self, node: usize) -> &Node {
        &self.cluster.nodes[(node + 1) % self.cluster.nodes.len()]
    }

    /// What another node than the one that has the run tells of it.
    async fn told_beside(&self, node: usize, path: &str) -> Value {
        let answer = self.ask(self.beside(node), Method::GET, path, &Value::Null).await;
        answer.expect(200).json()
    }

    async fn schedule(&self, name: &str, schedule: Value) {
        self.define(json!({ "name": name, "handler": "probe", "schedule": schedule })).await;
    }

    async fn overlapping(&self, name: &str, overlap: Value, ms: u64) {
        self.define(json!({
            "name": name, "handler": "slow", "overlap": overlap, "params": { "ms": ms },
            "schedule": { "kind": "every", "every_ms": 1_000 },
        }))
        .await;
    }

    fn decided(&self, job: &str, outcome: &str) -> u64 {
        self.count(&format!(
            "SELECT COALESCE(sum(fires), 0) FROM us_fire_decision WHERE job = '{job}' AND outcome = '{outcome}'"
        ))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn j3_schedules_of_all_kinds_are_kept_and_overlaps_are_as_they_were_asked_for() {
    let stage = Stage::start().await;
    stage.schedule("cron", json!({ "kind": "cron", "expression": "*/2 * * * * *" })).await;
    stage.schedule("every", json!({ "kind": "every", "every_ms": 1_500 })).await;
    stage.schedule("after", json!({ "kind": "after", "delay_ms": 700 })).await;
    let at_ms = stage.now_ms() + 1_500;
    stage.schedule("once", json!({ "kind": "once", "at_ms": at_ms })).await;
    stage.schedule("manual", json!({ "kind": "manual" })).await;
    stage.overlapping("skips", json!({ "policy": "skip" }), 1_600).await;
    stage.overlapping("queues", json!({ "policy": "queue_one" }), 1_600).await;
    stage.overlapping("replaces", json!({ "policy": "cancel_previous" }), 30_000).await;
    stage.overlapping("allows", json!({ "policy": "allow", "max": 2 }), 3_400).await;
    for (what, sql) in [
        ("skips", "outcome = 'skipped_overlap' AND fires > 0"),
        ("queues", "reason = 'an earlier run had not ended, and one waits already'"),
        ("allows", "reason = '2 runs had not ended'"),
    ] {
        let sql = format!("SELECT count(*) FROM us_fire_decision WHERE job = '{what}' AND {sql}");
        stage.until_count(&format!("a fire of `{what}` is skipped"), &sql, |rows| rows > 1).await;
    }
    let replaced = "SELECT count(*) FROM us_job_run WHERE job = 'replaces' AND state = 'cancelled'";
    stage.until_count("runs are replaced", replaced, |runs| runs >= 3).await;
    for job in ["cron", "every", "after"] {
        let sql = format!("SELECT count(*) FROM probe WHERE job = '{job}'");
        stage.until_count(&format!("`{job}` has run"), &sql, |starts| starts >= 3).await;
    }
    kinds(&stage, at_ms);
    overlaps(&stage);
}

fn kinds(stage: &Stage, at_ms: u64) {
    let odd = |job: &str, step: u64| {
        stage.count(&format!(
            "SELECT count(*) FROM probe WHERE job = '{job}' AND fire_ms % {step} <> 0"
        ))
    };
    oracle!("cron: starts off the even seconds", odd("cron", 2_000), 0);
    oracle!("every: starts off the grid", odd("every", 1_500), 0);
    for job in ["cron", "every", "after", "once"] {
        stage.no_second_start(job);
        let early =
            format!("SELECT count(*) FROM probe WHERE job = '{job}' AND at_ms < fire_ms - 100");
        oracle!(&format!("{job}: starts before their time"), stage.count(&early), 0);
    }
    let too_soon = "SELECT count(*) FROM us_job_run a JOIN us_job_run b ON b.id = \
                    (SELECT min(id) FROM us_job_run c WHERE c.job = 'after' AND c.id > a.id) \
                    WHERE a.job = 'after' AND b.fire_ms < a.finished_ms + 700";
    oracle!("after: starts too soon after the run before", stage.count(too_soon), 0);
    let once = format!("SELECT count(*) FROM probe WHERE job = 'once' AND fire_ms = {at_ms}");
    oracle!("once: starts at its time", stage.count(&once), 1);
    oracle!("once: starts in all", stage.starts("once"), 1);
    oracle!("manual: starts by itself", stage.starts("manual"), 0);
    let never = "SELECT count(*) FROM us_job_cursor WHERE job IN ('once', 'manual') AND next_fire_ms IS NOT NULL";
    oracle!("once and manual: due times that still come", stage.count(never), 0);
}

fn overlaps(stage: &Stage) {
    for (job, most) in [("skips", 1), ("queues", 1), ("replaces", 1), ("allows", 2)] {
        oracle!(&format!("{job}: most at once"), stage.most_at_once(job), most);
    }
    let waited =
        "SELECT count(*) FROM us_job_run WHERE job = 'queues' AND started_ms > queued_ms + 100";
    oracle!("queue_one: runs that waited for the one before", stage.count(waited), >= 1);
    oracle!("queue_one: fires that found one waiting", stage.decided("queues", "skipped_overlap"), >= 1);
    let by = "SELECT count(*) FROM us_job_run WHERE job = 'replaces' AND state = 'cancelled' \
              AND cancel_by IS DISTINCT FROM 'overlap'";
    oracle!("cancel_previous: runs that something else ended", stage.count(by), 0);
    let ended = "SELECT count(*) FROM ended WHERE job = 'replaces'";
    oracle!("cancel_previous: runs that came to their end", stage.count(ended), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn j11_runs_are_ended_seen_and_read_through_any_node() {
    let builder = options(Cluster::builder()).env("UNDERSTUDY_JOBS_ALIVE_MS", "500");
    let stage = Stage::with(builder.allow_error(PANIC)).await;
    limits(&stage).await;
    together(&stage).await;
    cancelled_from_elsewhere(&stage).await;
    two_letters(&stage).await;
    same_key(&stage).await;
    silent(&stage).await;
}

/// An attempt that takes too long, and one that panics.
async fn limits(stage: &Stage) {
    let slow = json!({ "timeout_ms": 500, "params": { "ms": 20_000 } });
    stage.manual("endless", "slow", slow).await;
    stage.manual("panics", "panics", json!({})).await;
    let (endless, panics) = (stage.run("endless").await, stage.run("panics").await);
    let row = stage.until_ended(endless).await;
    assert_eq!(
        (&row["state"], &row["error"]),
        (&json!("failed"), &json!("it took longer than 500 ms"))
    );
    let took = row["finished_ms"].as_i64().unwrap() - row["started_ms"].as_i64().unwrap();
    oracle!("run with a limit of 500 ms took, ms", took, >= 500);
    oracle!("run with a limit of 500 ms took, ms", took, within 2_500);
    let row = stage.until_ended(panics).await;
    oracle!("state of a run that panicked", row["state"], json!("failed"));
    assert!(row["error"].as_str().unwrap().starts_with("it panicked: a job that panics"), "{row}");
    stage.no_second_start("panics");
}

/// What a job writes with its end is there when the run has ended, and not a moment before.
async fn together(stage: &Stage) {
    stage.manual("complete", "complete", json!({ "params": { "ms": 500 } })).await;
    let run = stage.run("complete").await;
    let sql = format!(
        "SELECT state, EXISTS (SELECT 1 FROM ended e WHERE e.run = r.id) FROM us_job_run r WHERE id = {run}"
    );
    let (mut seen, mut torn) = (0, 0);
    wait::poll("the run has ended", LIMIT, Duration::from_millis(10), async || {
        let row = stage.first(&sql)?;
        seen += 1;
        torn += usize::from(row.starts_with("completed|") != row.ends_with("|t"));
        (row == "completed|t").then_some(())
    })
    .await;
    let lines = format!("SELECT count(*) FROM us_run_log WHERE run_id = {run} AND line = 'ends'");
    oracle!("lines that are kept of what it said before", stage.count(&lines), 1);
    oracle!(&format!("of {seen} looks, those that saw a half of it"), torn, 0);
}

async fn cancelled_from_elsewhere(stage: &Stage) {
    for handler in ["slow", "stubborn"] {
        stage.manual(handler, handler, json!({ "params": { "ms": 30_000 } })).await;
        let run = stage.run(handler).await;
        let node = stage.until_begun(run, 1).await;
        let asked = Instant::now();
        let path = format!("/v1/runs/{run}/cancel");
        stage.ask(stage.beside(node), Method::POST, &path, &json!({})).await.expect(202);
        let row = stage.until_state(run, &["cancelled"]).await;
        let took = asked.elapsed().as_millis();
        oracle!(&format!("`{handler}` cancelled through another node, ms"), took, within CANCELLED_WITHIN_MS);
        assert_eq!(row["error"], "cancelled by operator", "{row}");
        let ends = format!("SELECT count(*) FROM ended WHERE run = {run}");
        oracle!("ends that it wrote all the same", stage.count(&ends), 0);
        let again = stage.ask(stage.beside(node), Method::POST, &path, &json!({})).await;
        oracle!("status of cancelling it once more", again.status, 409);
    }
}

/// Two runs of one job at once: each has its own parameters, progress, log and fence.
async fn two_letters(stage: &Stage) {
    let overlap = json!({ "policy": "allow", "max": 2 });
    stage.manual("letters", "letters", json!({ "overlap": overlap })).await;
    let mut runs = Vec::new();
    for (to, copies) in [("anna", 3), ("bert", 5)] {
        let params = json!({ "to": to, "copies": copies, "ms": 3_000 });
        let run = stage.run_with("letters", json!({ "params": params })).await;
        runs.push((run, to, copies));
    }
    for (run, to, copies) in &runs {
        let node = stage.until_begun(*run, 1).await;
        let path = format!("/v1/runs/{run}/progress");
        let posting = async || {
            let told = stage.told_beside(node, &path).await;
            (told["progress"]["stages"][1]["name"] == "posting").then_some(told)
        };
        let (told, _) = wait::poll("the progress is seen elsewhere", LIMIT, EACH, posting).await;
        oracle!("state while it is seen", told["state"], json!("running"));
        let stages = &told["progress"]["stages"];
        let first = (&stages[0]["name"], &stages[0]["done"], &stages[0]["total"]);
        assert_eq!(first, (&json!("copies"), &json!(copies), &json!(copies)), "{told}");
        assert_eq!(stages[1]["item"], "post office", "{told}");
        let path = format!("/v1/runs/{run}/log");
        let read = async || {
            let told = stage.told_beside(node, &path).await;
            let lines = told["lines"].as_array()?.iter().filter_map(|line| line["line"].as_str());
            // Its last line may be there already where all this takes long.
            let lines = lines.filter(|line| *line != LAST_LINE);
            let lines: Vec<String> = lines.map(str::to_owned).collect();
            (lines.len() >= *copies).then_some((lines, told["next"].clone()))
        };
        let ((lines, next), _) = wait::poll("the log is read elsewhere", LIMIT, EACH, read).await;
        let expected: Vec<String> =
            (0..*copies).map(|copy| format!("copy {copy} to {to}")).collect();
        assert_eq!(lines, expected);
        let rest = format!("{path}?after={}", next.as_str().unwrap());
        let rest = stage.told_beside(node, &rest).await;
        let is_more = |line: &&Value| line["line"] != LAST_LINE;
        let rest = rest["lines"].as_array().map_or(9, |rest| rest.iter().filter(is_more).count());
        oracle!("lines after the last", rest, 0);
    }
    for (run, _, copies) in &runs {
        let row = stage.until_ended(*run).await;
        assert_eq!(row["result"], json!({ "posted": copies }), "{row}");
        let told = stage.told_beside(0, &format!("/v1/runs/{run}/log")).await;
        let last = told["lines"].as_array().and_then(|lines| Some(&lines.last()?["line"]));
        let last = last.and_then(Value::as_str).unwrap_or_default();
        oracle!("the last line of a run that has ended", last, LAST_LINE);
    }
    oracle!("j15: runs of one job that were at work at once", stage.most_at_once("letters"), 2);
    let fences = "SELECT count(DISTINCT (epoch, run, attempt)) FROM probe WHERE job = 'letters'";
    oracle!("j15: different fences", stage.count(fences), 2);
}

/// The same key at the same time through all nodes is one run; so it is later.
async fn same_key(stage: &Stage) {
    stage.manual("keyed", "probe", json!({})).await;
    let ask = async |node: &Node, key: &str| -> (Value, Value) {
        let request = stage.client.build(Method::POST, node.admin_url(), "/v1/jobs/keyed/run");
        let request = request.header("idempotency-key", key).json(&json!({}));
        let mut told: Value = stage.client.send(request).await.unwrap().expect(202).json();
        (told["run"].take(), told["new"].take())
    };
    let [a, b, c] = &stage.cluster.nodes[..] else { panic!("three nodes") };
    let (one, two, three) = tokio::join!(ask(a, "monday"), ask(b, "monday"), ask(c, "monday"));
    assert!(one.0 == two.0 && two.0 == three.0, "{one:?} {two:?} {three:?}");
    let new = [&one, &two, &three].iter().filter(|told| told.1 == true).count();
    oracle!("requests with one key that made a run", new, 1);
    let run = one.0.as_i64().unwrap();
    stage.until_state(run, &["completed"]).await;
    oracle!("whether it makes another when it has ended", ask(b, "monday").await.1, json!(false));
    oracle!("whether another key does", ask(b, "tuesday").await.1, json!(true));
    stage
        .until_count("both have run", "SELECT count(*) FROM probe WHERE job = 'keyed'", |n| n == 2)
        .await;
    stage.no_second_start("keyed");
}

/// A run whose node stands still is listed as silent; when the node goes on in time, so does the run.
async fn silent(stage: &Stage) {
    stage.manual("silent", "slow", json!({ "params": { "ms": 3_000 } })).await;
    let run = stage.run("silent").await;
    let node = stage.until_begun(run, 1).await;
    let listed = async || {
        let told = stage.told_beside(node, "/v1/runs?stale=2").await;
        told["runs"].as_array().is_some_and(|runs| runs.iter().any(|row| row["id"] == run))
    };
    oracle!("whether a run of a living node is listed as silent", listed().await, false);
    stage.cluster.nodes[node].stop();
    wait::poll("it is listed as silent", LIMIT, EACH, async || listed().await.then_some(())).await;
    stage.cluster.nodes[node].cont();
    let row = stage.until_ended(run).await;
    assert_eq!((&row["state"], &row["attempt"]), (&json!("completed"), &json!(1)), "{row}");
}
