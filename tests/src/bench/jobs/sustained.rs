//! Many jobs that run every second: how many runs the node carries out, and what one costs.

use std::fmt;
use std::time::Duration;

use super::costs::Look;
use super::stage::{Due, JobStage};

/// How long it is measured.
const MEASURED: Duration = Duration::from_secs(4);
/// How long it runs before that, ms.
const WARM_UP_MS: i64 = 1_500;
/// How long before the first due time the jobs are made, ms.
const AHEAD_MS: i64 = 1_000;

/// Jobs that want to run so and so often per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sustained {
    /// Due times per second.
    pub wanted: u64,
    /// Runs that ended, per second.
    pub ended: f64,
    /// Due times that started nothing because the run before had not ended, or because a later one stood for them, per
    /// second.
    pub skipped: f64,
    /// Half of the runs started so soon after their due time, ms.
    pub start_p50_ms: f64,
    /// 99 of 100 did, ms.
    pub start_p99_ms: f64,
    /// Processor time of the node per run, µs.
    pub node_us: f64,
    /// Processor time of PostgreSQL per run, µs.
    pub postgres_us: f64,
    /// Transactions per run.
    pub transactions: f64,
}

impl fmt::Display for Sustained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} due per second: {:.0} ended, {:.0} skipped; started after {:.0} ms (p50), {:.0} (p99); per run {:.0} µs \
             of the node, {:.0} of PostgreSQL, {:.2} transactions",
            self.wanted,
            self.ended,
            self.skipped,
            self.start_p50_ms,
            self.start_p99_ms,
            self.node_us,
            self.postgres_us,
            self.transactions
        )
    }
}

/// The jobs are due one after the other, evenly over each second.
pub(super) async fn measure(stage: &JobStage, wanted: u64) -> Sustained {
    let first_ms = stage.second_in(AHEAD_MS).await;
    let prefix = format!("often-{wanted}");
    stage
        .spread(&prefix, wanted, "leader", Due { first_ms, every_ms: 1_000, spread_ms: 1_000 })
        .await;
    stage.until_ms(first_ms + WARM_UP_MS).await;
    let (from_ms, look) = (stage.now_ms().await, Look::now(stage).await);
    tokio::time::sleep(MEASURED).await;
    let (to_ms, costs) = (stage.now_ms().await, look.since(stage).await);
    let seconds = (to_ms - from_ms) as f64 / 1_000.0;
    let after = |part: &str| {
        format!("percentile_disc({part}) WITHIN GROUP (ORDER BY started_ms - fire_ms)")
    };
    let [ended, p50, p99] = stage
        .numbers(
            ["count(*)", &after("0.5"), &after("0.99")],
            &format!(
                "FROM us_job_run WHERE job LIKE '{prefix}-%' AND finished_ms >= {from_ms} AND finished_ms < {to_ms}"
            ),
        )
        .await;
    let skipped = stage
        .number(&format!(
            "SELECT sum(fires) FROM us_fire_decision WHERE job LIKE '{prefix}-%' AND at_ms >= {from_ms} AND at_ms < {to_ms}"
        ))
        .await
        .max(0);
    stage.remove(&prefix).await;
    let runs = ended as f64;
    Sustained {
        wanted,
        ended: runs / seconds,
        skipped: skipped as f64 / seconds,
        start_p50_ms: p50 as f64,
        start_p99_ms: p99 as f64,
        node_us: costs.node_us(runs),
        postgres_us: costs.postgres_us(runs),
        transactions: costs.transactions / runs.max(1.0),
    }
}
