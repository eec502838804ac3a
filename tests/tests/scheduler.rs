//! The leader and the scheduler on whole clusters: who leads, what starts, and why something did not.
//!
//! All tests of faults end with the same oracle (`stage::Stage::settle`): no due time started twice, every due time of
//! the test is a run or a decision, epochs grow, and no two terms overlap.

#[cfg(test)] // tells clippy that helpers here are parts of tests
mod scheduler {
    mod administration;
    mod bad_requests;
    mod clocks;
    mod embedded;
    mod file;
    mod operators;
    mod orphans;
    mod partition;
    mod pause;
    mod placement;
    mod queue;
    mod redis_loss;
    mod rolling;
    mod running;
    mod runs;
    mod skew;
    mod stage;
    mod starvation;
    mod takeover;
}
