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
