//! Tasks that the application puts into the queue: how fast they get in, and how fast one node carries them out.

use std::fmt;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;

use super::TASKS;
use super::costs::Look;
use super::stage::JobStage;

/// Requests at once, each of which puts its share into the queue, one after the other.
const CLIENTS: u64 = 10;

/// What became of many tasks that do nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tasks {
    /// How many runs at once the node may have.
    pub room: u64,
    /// Put into the queue per second.
    pub enqueued: f64,
    /// Carried out per second, while nothing else happened.
    pub ended: f64,
    /// Processor time of the node per task carried out, µs.
    pub node_us: f64,
    /// Processor time of PostgreSQL per task carried out, µs.
    pub postgres_us: f64,
}

impl fmt::Display for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "tasks, {} at once: {:.0}/s into the queue, {:.0}/s carried out; per task {:.0} µs of the node, {:.0} of \
             PostgreSQL",
            self.room, self.enqueued, self.ended, self.node_us, self.postgres_us
        )
    }
}

pub(super) async fn measure(stage: &JobStage, room: u64) -> Tasks {
    stage
        .define(&json!({
            "name": "task", "handler": "nothing", "schedule": { "kind": "manual" },
            "overlap": { "policy": "allow", "max": 10_000 },
        }))
        .await;
    // The queue is filled first, so that both are measured by themselves.
    switch(stage, "/v1/scheduler/pause").await;
    let url = stage.cluster.nodes[0].public_url();
    let path = format!("/enqueue?job=task&count={}", TASKS / CLIENTS);
    let begun = Instant::now();
    let answers = join_all((0..CLIENTS).map(|_| stage.client.post(url, &path))).await;
    let filled = begun.elapsed().as_secs_f64();
    for answer in answers {
        answer.expect("an answer").expect(200);
    }
    stage.execute("ANALYZE us_job_run").await;
    let (from_ms, look) = (stage.now_ms().await, Look::now(stage).await);
    switch(stage, "/v1/scheduler/resume").await;
    let ended = "SELECT count(*) FROM us_job_run WHERE job = 'task' AND finished_ms IS NOT NULL";
    stage.until("all tasks have ended", ended, i64::try_from(TASKS).unwrap_or(0)).await;
    let costs = look.since(stage).await;
    let last = "SELECT max(finished_ms) FROM us_job_run WHERE job = 'task'";
    let seconds = (stage.number(last).await - from_ms) as f64 / 1_000.0;
    let tasks = TASKS as f64;
    Tasks {
        room,
        enqueued: tasks / filled,
        ended: tasks / seconds,
        node_us: costs.node_us(tasks),
        postgres_us: costs.postgres_us(tasks),
    }
}

async fn switch(stage: &JobStage, path: &str) {
    let why = json!({ "why": "the benchmark fills the queue" });
    let answer = stage.client.post_json(stage.admin(), path, &why).await.expect("an answer");
    assert!(answer.status < 300, "{path}: {answer:?}");
}
