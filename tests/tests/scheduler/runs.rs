//! Runs, as these tests start them, follow them and look at them.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use understudy_tests::{Answer, Node, wait};

use super::stage::{LIMIT, Stage};

/// How often the database is asked: each question is a process.
const EACH: Duration = Duration::from_millis(50);

impl Stage {
    /// Makes a job that is only started by hand; `more` are further members of its definition.
    pub(crate) async fn manual(&self, name: &str, handler: &str, more: Value) {
        let schedule = json!({ "kind": "manual" });
        let mut spec = json!({ "name": name, "handler": handler, "schedule": schedule });
        merge(&mut spec, more);
        self.define(spec).await;
    }

    /// Starts a job; gives the number of the run.
    pub(crate) async fn run(&self, job: &str) -> i64 {
        self.run_with(job, json!({})).await
    }

    /// Starts a job with a body of the request.
    pub(crate) async fn run_with(&self, job: &str, body: Value) -> i64 {
        let answer = self.post(&format!("/v1/jobs/{job}/run"), body).await.expect(202);
        answer.json::<Value>()["run"].as_i64().expect("the number of a run")
    }

    /// What the admin API tells of a run.
    pub(crate) async fn row(&self, run: i64) -> Value {
        self.get(&format!("/v1/runs/{run}")).await.expect(200).json()
    }

    /// Waits until a run is in one of these states; gives its row.
    pub(crate) async fn until_state(&self, run: i64, states: &[&str]) -> Value {
        let what = format!("run {run} is {}", states.join(" or "));
        let found = async || {
            let row = self.row(run).await;
            states.iter().any(|state| row["state"] == *state).then_some(row)
        };
        wait::poll(&what, LIMIT, EACH, found).await.0
    }

    /// Waits until a run has ended; gives its row.
    pub(crate) async fn until_ended(&self, run: i64) -> Value {
        let found = async || Some(self.row(run).await).filter(|row| row["finished_ms"].is_i64());
        wait::poll(&format!("run {run} has ended"), LIMIT, EACH, found).await.0
    }

    /// Waits until an attempt has noted its start; gives the number in the cluster of the node that has it.
    pub(crate) async fn until_begun(&self, run: i64, attempt: u32) -> usize {
        let what = format!("attempt {attempt} of run {run} has begun");
        let found = async || {
            self.first(&format!("SELECT node FROM probe WHERE run = {run} AND attempt = {attempt}"))
        };
        let (node, _) = wait::poll(&what, LIMIT, EACH, found).await;
        self.number_of(&node)
    }

    /// Waits until a query gives a number that will do.
    pub(crate) async fn until_count(&self, what: &str, sql: &str, will_do: impl Fn(u64) -> bool) {
        wait::poll(what, LIMIT, EACH, async || will_do(self.count(sql)).then_some(())).await;
    }

    /// The number in the cluster of a node, by its id.
    pub(crate) fn number_of(&self, id: &str) -> usize {
        let (name, _) = id.split_once('#').unwrap_or_else(|| panic!("the id of a node: {id}"));
        let found = self.cluster.nodes.iter().position(|node| node.name() == name);
        found.unwrap_or_else(|| panic!("no node is called {name}"))
    }

    /// The first line of what a query gives.
    pub(crate) fn first(&self, sql: &str) -> Option<String> {
        self.cluster.postgres.query(sql).lines().next().map(str::to_owned)
    }

    /// Sends something to the admin API of one node.
    pub(crate) async fn ask(
        &self,
        node: &Node,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Answer {
        let request = self.client.build(method, node.admin_url(), path);
        let request = if body.is_null() { request } else { request.json(body) };
        self.client.send(request).await.expect("an answer")
    }

    /// How many runs of a job went on at once at most, by what the database has noted of them.
    pub(crate) fn most_at_once(&self, job: &str) -> u64 {
        self.count(&format!(
            "SELECT COALESCE(max(at_once), 0) FROM (SELECT (SELECT count(*) FROM us_job_run b \
             WHERE b.job = a.job AND b.started_ms <= a.started_ms \
             AND COALESCE(b.finished_ms, {}) > a.started_ms) AS at_once \
             FROM us_job_run a WHERE a.job = '{job}' AND a.started_ms IS NOT NULL) sampled",
            i64::MAX
        ))
    }

    /// Has a node leave and come again, as an update does; variables that were set before count from then on.
    pub(crate) async fn roll(&mut self, node: usize) {
        self.cluster.nodes[node].terminate();
        self.cluster.nodes[node].wait_exit(LIMIT).await;
        self.cluster.restart(node).await;
    }
}

/// Adds the members of an object to another.
fn merge(into: &mut Value, more: Value) {
    let (Value::Object(into), Value::Object(more)) = (into, more) else {
        panic!("members of an object");
    };
    into.extend(more);
}
