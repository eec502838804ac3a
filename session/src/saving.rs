//! Has a node bring to the database what it does not have yet of the sessions in Redis: every now and then, and before it
//! stops. What one node leaves undone, also by dying, another one does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use understudy_runtime::finding::{Finding, Severity};

use crate::handle::SessionHandle;
use crate::store::{SaveReport, Saver};

/// How often what is over is taken out of the database.
const PURGE_EVERY: Duration = Duration::from_secs(60);
/// How long a node that begins to drain brings sessions over before anything else; others do the rest.
pub(crate) const BEFORE_DRAIN: Duration = Duration::from_secs(5);
/// The same for what came after that, when it stops: short, since nobody can write what the node owns meanwhile.
pub(crate) const BEFORE_STOP: Duration = Duration::from_millis(500);
/// How soon a node that stops looks again, when another one is at it.
const AGAIN: Duration = Duration::from_millis(50);

/// How old what waits may be, in intervals and at least, before an operator should look.
const LATE_INTERVALS: u32 = 10;
const LATE: Duration = Duration::from_secs(30);

/// What brings sessions over, and how that goes.
#[derive(Debug)]
pub(crate) struct Saving {
    saver: Saver,
    every: Duration,
    /// How long the oldest had waited at the latest look.
    oldest_ms: AtomicU64,
}

/// Runs until the node hands its sessions over.
pub(crate) async fn save(handle: SessionHandle, saving: Arc<Saving>) {
    let saver = &saving.saver;
    let mut ticks = interval(saving.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut was_well, mut purge_at) = (true, Instant::now() + PURGE_EVERY);
    while !handle.0.closed.load(Ordering::Acquire) {
        ticks.tick().await;
        let report = saver.run_once().await;
        saving.show(&report);
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

impl Saving {
    pub(crate) fn new(saver: Saver, every: Duration) -> Self {
        Self { saver, every, oldest_ms: AtomicU64::new(0) }
    }

    /// Says that sessions have waited for too long. When Redis is away nothing is known of that, and told of Redis.
    pub(crate) fn finding(&self) -> Option<Finding> {
        let oldest = Duration::from_millis(self.oldest_ms.load(Ordering::Relaxed));
        (oldest > LATE.max(self.every * LATE_INTERVALS)).then(|| {
            Finding::new(
                Severity::Warning,
                "sessions_unsaved",
                "sessions in Redis are not brought to the database: were Redis lost, it would have them as they were",
                "look at the database, and in the log for sessions that it refuses",
            )
        })
    }

    fn show(&self, report: &SaveReport) {
        let oldest_ms = u64::try_from(report.oldest.as_millis()).unwrap_or(u64::MAX);
        self.oldest_ms.store(oldest_ms, Ordering::Relaxed);
        let waiting = u32::try_from(report.waiting).unwrap_or(u32::MAX);
        metrics::gauge!("session_unsaved").set(f64::from(waiting));
        metrics::gauge!("session_unsaved_oldest_seconds").set(report.oldest.as_secs_f64());
    }

    /// Brings over all that waits, as far as that takes no longer than `limit`.
    pub(crate) async fn flush(&self, limit: Duration) {
        let (saver, began) = (self.saver.at_once(), Instant::now());
        let all = async {
            loop {
                let report = saver.run_once().await;
                self.show(&report);
                // Sessions are changed all the time: what came after this began is for others.
                let is_done = report.waiting == 0 || report.oldest <= began.elapsed();
                if is_done || report.error.is_some() {
                    return report;
                }
                // Another node is at it.
                if report.sessions + report.ends == 0 {
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        match timeout(limit, all).await {
            Ok(SaveReport { error: Some(error), .. }) => {
                tracing::warn!(
                    error,
                    "sessions wait for another node to bring them to the database"
                );
            }
            Ok(_) => {}
            Err(_) => tracing::info!("other nodes bring the rest of the sessions to the database"),
        }
    }
}
