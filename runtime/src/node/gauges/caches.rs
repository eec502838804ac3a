//! What the regions of the cache hold and did, under the names of metrics.

use crate::cache::RegionReport;

/// Tells how one region is on this node.
pub(super) fn tell(report: &RegionReport) {
    let of = || report.region.clone();
    metrics::gauge!("understudy_cache_entries", "region" => of()).set(number(report.entries));
    metrics::gauge!("understudy_cache_bytes", "region" => of()).set(number(report.bytes));
    metrics::gauge!("understudy_cache_max_bytes", "region" => of()).set(number(report.max_bytes));
    metrics::gauge!("understudy_cache_trusted", "region" => of())
        .set(f64::from(u8::from(report.trusted)));
    let age = number(report.age_ms) / 1_000.0;
    metrics::gauge!("understudy_cache_age_seconds", "region" => of()).set(age);
    for (from, count) in [
        ("memory", report.memory),
        ("redis", report.redis),
        ("loaded", report.loaded),
        ("unkept", report.unkept),
        ("stale", report.stale),
    ] {
        metrics::counter!("understudy_cache_reads_total", "region" => of(), "from" => from)
            .absolute(count);
    }
    metrics::counter!("understudy_cache_evicted_total", "region" => of()).absolute(report.evicted);
    metrics::counter!("understudy_cache_forgotten_total", "region" => of())
        .absolute(report.forgotten);
    metrics::counter!("understudy_cache_cleared_total", "region" => of()).absolute(report.cleared);
    let background = &report.background;
    metrics::gauge!("understudy_cache_background_loads", "region" => of())
        .set(number(background.under_way));
    for (end, count) in [
        ("done", background.done),
        ("put_off", background.put_off),
        ("failed", background.failed),
        ("no_room", background.no_room),
    ] {
        metrics::counter!("understudy_cache_background_ended_total", "region" => of(), "end" => end)
            .absolute(count);
    }
}

fn number(count: u64) -> f64 {
    count as f64
}
