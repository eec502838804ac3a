//! Counters of the session service, registered once: looking one up by name costs more than a local read.

use metrics::{Counter, counter};

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
