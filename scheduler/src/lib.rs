//! Scheduled jobs that start exactly once in the cluster.
//!
//! This crate holds only its page so far. What it will hold: a leader lease in Redis, inaugurated with an epoch in the
//! database; a scheduler actor that fires jobs only while this node leads; and a claim statement that makes a second
//! start of one due time impossible, whatever clocks, pauses and partitions do. It builds on `understudy-runtime` and
//! knows nothing of sessions.
