//! What the scheduler and the leader's election count.

use understudy_runtime::telemetry::{Label, Metric};

/// Returns the metrics of this crate.
#[must_use]
pub fn catalogue() -> &'static [Metric] {
    CATALOGUE
}

#[rustfmt::skip] // one line each: this is a table
static CATALOGUE: &[Metric] = &[
    Metric::gauge("leader_is_leader", "1 while this node leads, else 0; the sum over all nodes is 1, or 0 while nobody leads"),
    Metric::gauge("leader_lease_remaining_seconds", "How long the leader may still trust its lease unless it is renewed; 0 on a node that does not lead"),
    Metric::counter("leader_terms_total", "Times that this node began to lead"),
    Metric::counter("leaderless_seconds_total", "Whole seconds in which this node saw nobody lead"),
    Metric::histogram("leader_renew_seconds", "Round trips of the renewals of the leader's lease that were answered"),
    Metric::counter("stale_epoch_rejections_total", "Times that this node, as leader, found in the database that another leads since"),

    Metric::histogram("fire_lateness_seconds", "How long after its due time a run of a schedule began: first attempts only, without the jobs of Understudy itself"),
    Metric::counter("fire_decisions_total", "Due times at which nothing was started, by what became of them").by(&[Label::of("outcome", &["coalesced", "skipped_misfire", "skipped_overlap", "dst_gap", "dst_fold", "paused", "disabled", "no_handler", "leaderless", "superseded"])]),
    Metric::gauge("job_runs_active", "Runs in the cluster that have not ended. Each node writes the same number, every UNDERSTUDY_JOBS_ALIVE_MS").by(&[Label::of("state", &["queued", "running", "retrying"])]),
    Metric::counter("job_runs_total", "Attempts of runs that ended on this node, by the state that the run came to").by(&[Label::of("state", &["completed", "retrying", "failed", "lost", "cancelled", "incompatible"])]),
    Metric::counter("orphaned_runs_total", "Runs that were given up because their node was silent; counted by the leader"),
    Metric::counter("fenced_completions_total", "Runs whose end was not noted because they were not this node's any more"),
    Metric::counter("run_log_lines_dropped_total", "Lines that runs wrote and that were not kept, since they came faster than they could be stored"),
];
