//! A hundred thousand jobs that are not due: what it costs to have them.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::REGISTERED;
use super::costs::Look;
use super::stage::{Due, JobStage};
use crate::Node;

/// How long the node is watched while next to nothing is due.
const WATCHED: Duration = Duration::from_secs(6);
/// How long it may settle before that.
const SETTLE: Duration = Duration::from_secs(1);
/// How long the old leader does not lead again, ms.
const HOLD_MS: u64 = 1_000;
/// How long after a step-down the probe is watched, ms.
const AFTER_MS: i64 = 2_000;
/// A day, ms: the jobs are due so far away.
const DAY_MS: i64 = 86_400_000;
/// How often each question of an operator is asked.
const ASKED: usize = 5;

/// A node with so many jobs, of which only a probe is due, once a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Registered {
    /// How many jobs there are.
    pub jobs: u64,
    /// Processor time of the node, ms per second.
    pub node_ms: f64,
    /// Processor time of PostgreSQL, ms per second.
    pub postgres_ms: f64,
    /// Transactions per second.
    pub transactions: f64,
    /// Resident memory of the node, bytes.
    pub resident: u64,
    /// Half of the probe's runs started so soon after their due time, ms.
    pub start_p50_ms: f64,
    /// All of them did, ms.
    pub start_max_ms: f64,
    /// How long a page of 100 jobs takes over the admin API, ms.
    pub page_ms: f64,
    /// How long the list of what is due soon takes, ms.
    pub due_ms: f64,
    /// What became of a step-down.
    pub take_over: TakeOver,
}

/// A leader that let another lead.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TakeOver {
    /// How long nobody led, ms.
    pub gap_ms: f64,
    /// The latest start of the probe around that time, ms after its due time.
    pub start_max_ms: f64,
}

impl fmt::Display for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} registered: per second {:.1} ms of the node, {:.1} of PostgreSQL, {:.1} transactions; {:.1} MB; probe \
             after {:.0} ms (p50), {:.0} (all); page {:.1} ms, due {:.1} ms; step-down {:.0} ms without a leader, probe \
             after {:.0} ms",
            self.jobs,
            self.node_ms,
            self.postgres_ms,
            self.transactions,
            self.resident as f64 / 1e6,
            self.start_p50_ms,
            self.start_max_ms,
            self.page_ms,
            self.due_ms,
            self.take_over.gap_ms,
            self.take_over.start_max_ms
        )
    }
}

/// First with few jobs, then with all of them; then the leader steps down with all of them, and once more with few.
pub(super) async fn measure(
    stage: &mut JobStage,
    progress: &mut impl FnMut(String),
) -> [Registered; 2] {
    stage
        .define(&json!({
            "name": "probe", "handler": "nothing", "schedule": { "kind": "every", "every_ms": 1_000 },
        }))
        .await;
    let far_ms = stage.now_ms().await + DAY_MS;
    let due = Due { first_ms: far_ms, every_ms: DAY_MS, spread_ms: DAY_MS };
    stage.spread("few", 9, "leader", due).await;
    let mut few = watch(stage, 10).await;
    stage.spread("many", REGISTERED - 10, "leader", due).await;
    let mut many = watch(stage, REGISTERED).await;
    let other = stage.second_node().await;
    many.take_over = step_down(stage, &other).await;
    progress(format!("jobs: {many}"));
    stage.remove("many").await;
    few.take_over = step_down(stage, &other).await;
    progress(format!("jobs: {few}"));
    stage.remove("few").await;
    stage.execute("DELETE FROM us_job_cursor WHERE job = 'probe'").await;
    stage.execute("DELETE FROM us_job WHERE name = 'probe'").await;
    [few, many]
}

async fn watch(stage: &JobStage, jobs: u64) -> Registered {
    tokio::time::sleep(SETTLE).await;
    let (from_ms, look) = (stage.now_ms().await, Look::now(stage).await);
    tokio::time::sleep(WATCHED).await;
    let costs = look.since(stage).await;
    let [start_p50_ms, start_max_ms] = probe(stage, from_ms).await;
    let seconds = costs.elapsed.as_secs_f64();
    Registered {
        jobs,
        node_ms: costs.node.as_secs_f64() * 1e3 / seconds,
        postgres_ms: costs.postgres.as_secs_f64() * 1e3 / seconds,
        transactions: costs.transactions / seconds,
        resident: stage.cluster.nodes[0].usage().resident_bytes,
        start_p50_ms,
        start_max_ms,
        page_ms: asked(stage, "/v1/jobs?limit=100").await,
        due_ms: asked(stage, "/v1/jobs-due").await,
        take_over: TakeOver::default(),
    }
}

/// The median and the greatest lateness of the probe since a time.
async fn probe(stage: &JobStage, from_ms: i64) -> [f64; 2] {
    let median = "percentile_disc(0.5) WITHIN GROUP (ORDER BY started_ms - fire_ms)";
    let rest = format!("FROM us_job_run WHERE job = 'probe' AND fire_ms >= {from_ms}");
    stage.numbers([median, "max(started_ms - fire_ms)"], &rest).await.map(|ms| ms as f64)
}

/// The median time of a question, ms.
async fn asked(stage: &JobStage, path: &str) -> f64 {
    let mut times = Vec::new();
    for _ in 0..ASKED {
        let begun = Instant::now();
        let answer = stage.client.get(stage.admin(), path).await.expect("an answer");
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        assert!(answer.status == 200, "{path}: {answer:?}");
    }
    times.sort_unstable_by(f64::total_cmp);
    times[ASKED / 2]
}

async fn step_down(stage: &JobStage, other: &Node) -> TakeOver {
    let from_ms = stage.now_ms().await;
    let asked = json!({ "hold_ms": HOLD_MS });
    let path = "/v1/leader/step-down";
    let answer = stage.client.post_json(other.admin_url(), path, &asked).await.expect("an answer");
    let gap: Option<Value> =
        (answer.status == 200).then(|| answer.json::<Value>()["gap_ms"].clone());
    let gap_ms = gap.and_then(|gap| gap.as_f64());
    let gap_ms = gap_ms.unwrap_or_else(|| panic!("{path}: {answer:?}"));
    stage.until_ms(from_ms + AFTER_MS).await;
    let [_, start_max_ms] = probe(stage, from_ms).await;
    TakeOver { gap_ms, start_max_ms }
}
