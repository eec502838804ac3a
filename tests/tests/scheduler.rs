//! The leader and the scheduler on whole clusters: who leads, what starts, and why something did not.
//!
//! All tests of faults end with the same oracle ([`stage::Stage::settle`]): no due time started twice, every due time of
//! the test is a run or a decision, epochs grow, and no two terms overlap.

#[path = "scheduler/stage.rs"]
mod stage;
#[path = "scheduler/takeover.rs"]
mod takeover;
#[path = "scheduler/operators.rs"]
mod operators;
#[path = "scheduler/pause.rs"]
mod pause;
#[path = "scheduler/rolling.rs"]
mod rolling;
#[path = "scheduler/clocks.rs"]
mod clocks;
#[path = "scheduler/partition.rs"]
mod partition;
#[path = "scheduler/redis_loss.rs"]
mod redis_loss;
#[path = "scheduler/starvation.rs"]
mod starvation;
#[path = "scheduler/administration.rs"]
mod administration;
#[path = "scheduler/bad_requests.rs"]
mod bad_requests;
#[path = "scheduler/embedded.rs"]
mod embedded;
#[path = "scheduler/orphans.rs"]
mod orphans;
#[path = "scheduler/placement.rs"]
mod placement;
#[path = "scheduler/queue.rs"]
mod queue;
#[path = "scheduler/running.rs"]
mod running;
#[path = "scheduler/runs.rs"]
mod runs;
#[path = "scheduler/skew.rs"]
mod skew;
#[path = "scheduler/file.rs"]
mod file;
