//! Has a node bring to the database what it does not have yet of the sessions in Redis: every now and then, and before it
//! stops. What one node leaves undone, also by dying, another one does.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::handle::SessionHandle;
use crate::store::{SaveReport, Saver};

/// How often what is over is taken out of the database.
const PURGE_EVERY: Duration = Duration::from_secs(60);
/// How long a node that stops goes on bringing sessions over; others do the rest.
const BEFORE_STOP: Duration = Duration::from_secs(5);
/// How soon a node that stops looks again, when another one is at it.
const AGAIN: Duration = Duration::from_millis(50);

/// Runs until the node hands its sessions over.
pub(crate) async fn save(handle: SessionHandle, saver: Saver, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut was_well, mut purge_at) = (true, Instant::now() + PURGE_EVERY);
    while !handle.0.closed.load(Ordering::Acquire) {
        ticks.tick().await;
        let report = saver.run_once().await;
        show(&report);
        tell(&report, &mut was_well);
        if !report.ended.is_empty() {
            end(&handle, &report).await;
        }
        if Instant::now() >= purge_at {
            purge_at = Instant::now() + PURGE_EVERY;
            if let Err(error) = saver.purge().await {
                tracing::debug!(%error, "what is over stays in the database a little longer");
            }
        }
    }
}

fn show(report: &SaveReport) {
    let waiting = u32::try_from(report.waiting).unwrap_or(u32::MAX);
    metrics::gauge!("session_unsaved").set(f64::from(waiting));
    metrics::gauge!("session_unsaved_oldest_seconds").set(report.oldest.as_secs_f64());
}

/// Tells once that sessions do not come to the database, and once that they do again.
fn tell(report: &SaveReport, was_well: &mut bool) {
    let is_well = report.error.is_none();
    if let Some(error) = &report.error {
        metrics::counter!("session_save_failures_total").increment(1);
        if *was_well {
            tracing::warn!(
                waiting = report.waiting,
                error = %error,
                "sessions are not brought to the database until it and Redis are there"
            );
        }
    } else if !*was_well {
        tracing::info!(waiting = report.waiting, "sessions are brought to the database again");
    }
    *was_well = is_well;
}

/// Redis lost the end of these, or an owner put back what had been ended: the database knows better.
async fn end(handle: &SessionHandle, report: &SaveReport) {
    metrics::counter!("session_recovered_total", "why" => "ended")
        .increment(report.ended.len() as u64);
    if let Err(error) = handle.end(&report.ended).await {
        // The next claim finds the end as well.
        tracing::warn!(
            sessions = report.ended.len(),
            error = %understudy_runtime::error::chain(&error),
            "sessions that were ended came back to Redis, and could not be ended again"
        );
    }
}

/// Brings over all that waits, as far as that takes no longer than a stop may.
pub(crate) async fn flush(saver: &Saver) {
    let saver = saver.at_once();
    let all = async {
        loop {
            let report = saver.run_once().await;
            show(&report);
            if report.error.is_some() || report.waiting <= report.failed {
                return report;
            }
            // Also: another node is at it, or it was changed meanwhile.
            if report.sessions + report.ends == 0 {
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    match timeout(BEFORE_STOP, all).await {
        Ok(SaveReport { error: Some(error), .. }) => {
            tracing::warn!(error, "sessions wait in Redis for another node to bring them to the database");
        }
        Ok(_) => {}
        Err(_) => tracing::info!("other nodes bring the rest of the sessions to the database"),
    }
}
