//! Many jobs that are due at the same moment: how late the last of them is.

use std::fmt;

use super::DUE_AT_ONCE;
use super::costs::Look;
use super::stage::{Due, JobStage};

/// So many due times are measured; figures are medians.
const FIRES: usize = 3;
/// The pause between them, ms: longer than all runs take.
const EVERY_MS: i64 = 3_000;
/// How long before the first due time the jobs are made, ms.
const AHEAD_MS: i64 = 1_000;

/// 1,000 jobs of one due time.
#[derive(Debug, Clone, PartialEq)]
pub struct SameSecond {
    /// Where they run.
    pub placement: String,
    /// Half of them had started so soon after their due time, ms.
    pub start_p50_ms: f64,
    /// 99 of 100 had, ms.
    pub start_p99_ms: f64,
    /// Half of them had ended so soon, ms.
    pub end_p50_ms: f64,
    /// All of them had, ms.
    pub all_ended_ms: f64,
    /// Processor time of the node per run, µs.
    pub node_us: f64,
    /// Processor time of PostgreSQL per run, µs.
    pub postgres_us: f64,
}

impl fmt::Display for SameSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "1,000 at once, placement {}: started after {:.0} ms (p50), {:.0} (p99); ended {:.0} (p50), {:.0} (all); \
             per run {:.0} µs of the node, {:.0} of PostgreSQL",
            self.placement,
            self.start_p50_ms,
            self.start_p99_ms,
            self.end_p50_ms,
            self.all_ended_ms,
            self.node_us,
            self.postgres_us
        )
    }
}

pub(super) async fn measure(stage: &JobStage, placement: &str) -> SameSecond {
    let first_ms = stage.second_in(AHEAD_MS).await;
    let prefix = format!("same-{placement}");
    stage
        .spread(&prefix, DUE_AT_ONCE, placement, Due { first_ms, every_ms: EVERY_MS, spread_ms: 0 })
        .await;
    let look = Look::now(stage).await;
    let (mut fires, wanted) = (Vec::new(), i64::try_from(DUE_AT_ONCE).unwrap_or(i64::MAX));
    for number in 0..FIRES {
        let fire_ms = first_ms + EVERY_MS * i64::try_from(number).unwrap_or(0);
        // Nobody asks the database while it has to work.
        stage.until_ms(fire_ms + EVERY_MS * 3 / 4).await;
        let these = format!("FROM us_job_run WHERE job LIKE '{prefix}-%' AND fire_ms = {fire_ms}");
        stage
            .until(
                "all have ended",
                &format!("SELECT count(*) {these} AND finished_ms IS NOT NULL"),
                wanted,
            )
            .await;
        let after = |at: &str, part: &str| {
            format!("percentile_disc({part}) WITHIN GROUP (ORDER BY {at} - fire_ms)")
        };
        let columns = [
            after("started_ms", "0.5"),
            after("started_ms", "0.99"),
            after("finished_ms", "0.5"),
            after("finished_ms", "1"),
        ];
        fires.push(stage.numbers(columns.each_ref().map(String::as_str), &these).await);
    }
    let costs = look.since(stage).await;
    stage.remove(&prefix).await;
    let median = |place: usize| {
        let mut values: Vec<i64> = fires.iter().map(|fire| fire[place]).collect();
        values.sort_unstable();
        values[values.len() / 2] as f64
    };
    let runs = (FIRES as u64 * DUE_AT_ONCE) as f64;
    SameSecond {
        placement: placement.to_owned(),
        start_p50_ms: median(0),
        start_p99_ms: median(1),
        end_p50_ms: median(2),
        all_ended_ms: median(3),
        node_us: costs.node_us(runs),
        postgres_us: costs.postgres_us(runs),
    }
}
