//! What the session service counts. Counters of the hot paths are registered once: looking one up by name costs more than
//! a local read.

use metrics::{Counter, counter};
use understudy_runtime::telemetry::{Label, Metric};

/// Returns the metrics of this crate.
#[must_use]
pub fn catalogue() -> &'static [Metric] {
    CATALOGUE
}

#[rustfmt::skip] // one line each: this is a table
static CATALOGUE: &[Metric] = &[
    Metric::counter("sessions_created_total", "Sessions that began at this node"),
    Metric::gauge("sessions_resident", "Sessions in the memory of this node"),
    Metric::counter("session_reads_total", "Reads of sessions: `owner` from this node's memory, `elsewhere` from the store").by(&[Label::of("where", &["owner", "elsewhere"])]),
    Metric::counter("session_actor_loads_total", "Sessions that were brought into memory from the store"),
    Metric::counter("session_forwards_total", "Changes that were sent to the node that owns the session"),
    Metric::gauge("session_jobs_waiting", "Requests that wait for the owner of a session on this node: what its mailboxes hold, in all"),
    Metric::gauge("session_jobs_waiting_max", "The same of the one session for which most requests wait"),
    Metric::counter("session_moves_total", "Sessions that moved to this node because their requests come here"),
    Metric::counter("session_moves_refused_total", "Sessions that this node kept although another one asked for them: requests came here too (`used`), the session has moved just now (`recent`), it has something to do or is not here (`busy`)").by(&[Label::of("why", &["used", "recent", "busy"])]),
    Metric::counter("session_conflicts_total", "Changes that were refused because another node had taken the session over"),
    Metric::counter("session_refusals_total", "Answers which said that a session cannot be had now: its owner is `busy` or silent, the store is away (`unavailable`) or has no room (`refused`), and so on").by(&[Label::of("why", &["busy", "unavailable", "refused", "conflict", "outcome_unknown", "unreadable", "newer_schema"])]),
    Metric::counter("session_restores_total", "Sessions that their owner put back into a store that had lost them"),
    Metric::counter("session_recovered_total", "Sessions that were put right from the database: Redis did not have them (`missing`), had lost writes of them (`behind`) or their end (`ended`)").by(&[Label::of("why", &["missing", "behind", "ended"])]),
    Metric::counter("session_lost_total", "Sessions of which this node finds an older state than it knew: acknowledged changes are lost"),
    Metric::counter("session_unchecked_total", "Sessions that were taken over while the database was away, without a look whether Redis lost something of them"),
    Metric::counter("session_unreplicated_total", "Changes that no replica of Redis had in time; they were not acknowledged"),
    Metric::gauge("session_unsaved", "Sessions and ends in Redis that the database does not have yet, as this node last saw it"),
    Metric::gauge("session_unsaved_oldest_seconds", "How long the oldest of these has waited"),
    Metric::counter("session_saved_total", "Sessions and ends that this node brought to the database, besides what requests brought there themselves").by(&[Label::of("what", &["session", "end"])]),
    Metric::counter("session_save_failures_total", "Attempts of this node to do so that failed, for one session or for all"),
    Metric::counter("session_unreadable_total", "Sessions in the store that cannot be read; they are left as they are"),
    Metric::counter("session_expired_total", "Sessions that ran out of time and were ended by this node").by(&[Label::of("reason", &["idle", "absolute", "vanished"])]),
    Metric::counter("session_ended_total", "Sessions that somebody ended, as counted by the node that swept when it came to them").by(&[Label::of("reason", &["logout", "ended", "others", "replaced"])]),
    Metric::gauge("session_streams", "Connections that are told events on this node"),
    Metric::counter("session_events_total", "Events that this node told sessions and users"),
    Metric::counter("session_event_resets_total", "Times that a connection was told to read everything anew, since events were missing"),
    Metric::counter("session_children_total", "Child sessions that began at this node"),
    Metric::counter("session_kin_removed_total", "Child sessions (`child`) and temporary files (`file`) that this node removed after their session had ended").by(&[Label::of("what", &["child", "file"])]),
    Metric::counter("session_lockouts_total", "Attempts to log in that were refused without a look at the password, since too many had failed"),
    Metric::counter("session_cookies_rejected_total", "Cookies that no key of this node signed"),
];

/// What is counted on the hot paths.
pub(crate) struct Counters {
    pub(crate) local_reads: Counter,
    pub(crate) remote_reads: Counter,
    pub(crate) loads: Counter,
    pub(crate) created: Counter,
    pub(crate) forwards: Counter,
    pub(crate) rejected_cookies: Counter,
}

impl Counters {
    pub(crate) fn new() -> Self {
        understudy_runtime::telemetry::describe(CATALOGUE);
        Self {
            local_reads: counter!("session_reads_total", "where" => "owner"),
            remote_reads: counter!("session_reads_total", "where" => "elsewhere"),
            loads: counter!("session_actor_loads_total"),
            created: counter!("sessions_created_total"),
            forwards: counter!("session_forwards_total"),
            rejected_cookies: counter!("session_cookies_rejected_total"),
        }
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counters")
    }
}
