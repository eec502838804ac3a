//! What scheduling costs, next to the least that a durable start can cost: one bare INSERT per due time.
//!
//! The floor is measured on the same PostgreSQL in the same run: one INSERT per transaction over one connection, the same
//! over as many connections as a node's pool has, and all rows in one statement. A run of a job is more than an INSERT
//! (it is claimed, started, ended, and its cursor moves), so the ratios say how much more. The harness's PostgreSQL does
//! not wait for the disk: ratios are of work, not of waiting.

pub(super) mod costs;
mod floor;
mod many;
mod report;
mod same_second;
mod stage;
mod sustained;
mod tasks;

use super::run::Options;

pub use floor::Floor;
pub use many::{Registered, TakeOver};
pub use report::JobsReport;
pub use same_second::SameSecond;
pub use sustained::Sustained;
pub use tasks::Tasks;

use stage::JobStage;

/// So many jobs are due in the same second.
const DUE_AT_ONCE: u64 = 1_000;
/// So many jobs are registered where the cost of having them is measured.
const REGISTERED: u64 = 100_000;
/// So many tasks are put into the queue.
const TASKS: u64 = 5_000;
/// So many runs at once are allowed where that must not be what limits.
const MUCH_ROOM: u64 = 1_000;
/// The default of `UNDERSTUDY_JOBS_CONCURRENCY`.
const USUAL_ROOM: u64 = 10;
/// How many due times there are per second: few, many, and more than two cores can carry out.
const WANTED: [u64; 3] = [500, 2_000, 4_000];

/// Whether `--only` asks for this part.
pub fn is_wanted(options: &Options) -> bool {
    options.wants_part("jobs")
}

/// Measures all of it, on clusters of its own; `progress` is told each measurement.
pub async fn measure(options: &Options, mut progress: impl FnMut(String)) -> JobsReport {
    let mut report = JobsReport::default();
    let stage = JobStage::start(MUCH_ROOM, &options.environment).await;
    for floor in floor::measure(&stage).await {
        progress(format!("jobs: {floor}"));
        report.floors.push(floor);
    }
    for placement in ["leader", "any"] {
        let due = same_second::measure(&stage, placement).await;
        progress(format!("jobs: {due}"));
        report.same_second.push(due);
    }
    for wanted in WANTED {
        let sustained = sustained::measure(&stage, wanted).await;
        progress(format!("jobs: {sustained}"));
        report.sustained.push(sustained);
    }
    let much = tasks::measure(&stage, MUCH_ROOM).await;
    progress(format!("jobs: {much}"));
    drop(stage);
    let mut stage = JobStage::start(USUAL_ROOM, &options.environment).await;
    for registered in many::measure(&mut stage, &mut progress).await {
        report.registered.push(registered);
    }
    let usual = tasks::measure(&stage, USUAL_ROOM).await;
    progress(format!("jobs: {usual}"));
    report.tasks.extend([usual, much]);
    report
}
