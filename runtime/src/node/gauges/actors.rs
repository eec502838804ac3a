//! What the actors do, under the names of metrics.

use crate::actors::ActorReport;

/// Tells how the actors of one type are.
pub(super) fn tell(report: &ActorReport) {
    let of = || report.of.clone();
    metrics::gauge!("understudy_actors", "type" => of()).set(number(report.live));
    metrics::gauge!("understudy_actor_waiting", "type" => of()).set(number(report.waiting));
    metrics::gauge!("understudy_actor_waiting_max", "type" => of()).set(number(report.waiting_max));
    metrics::counter!("understudy_actor_messages_total", "type" => of()).absolute(report.handled);
    metrics::counter!("understudy_actor_restarts_total", "type" => of()).absolute(report.restarts);
    for (rank, ms) in [("p50", report.p50_ms), ("p99", report.p99_ms), ("max", report.max_ms)] {
        metrics::gauge!("understudy_actor_message_seconds", "type" => of(), "rank" => rank)
            .set(ms / 1_000.0);
    }
}

fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
