//! Removes the contents of files that are gone, and gives up files that nobody writes any more: the duty `files-sweep`, done
//! by one node for all.
//!
//! Files are given up by a statement that looks at their state again, and content is removed only of rows that are `gone`,
//! which none ever leaves but by being forgotten. So a sweep by a node that leads no more, or two at once, do no harm.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::error::FileError;
use super::points::{self, Point};
use super::{Store, rewrapping, shared};
use crate::duty::{Duty, DutyRun};

/// Name of the duty.
const DUTY: &str = "files-sweep";
/// How often it is due.
const EVERY: Duration = Duration::from_secs(60);
/// After which time without a sign a file is not being written any more.
pub(super) const SILENCE: Duration = Duration::from_secs(600);
/// For how long content stays after its file lost its name, for those who are just reading it.
pub(super) const GRACE: Duration = Duration::from_secs(600);
/// How many contents are looked for together, and how often at most in one run.
const PAGE: u32 = 200;
const PAGES: usize = 50;

/// What one run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct SweepReport {
    /// Files that nobody wrote any more.
    pub(super) given_up: u64,
    /// Files whose content was removed.
    pub(super) removed: u64,
    /// Files whose content could not be removed now.
    pub(super) failed: u64,
    /// Encrypted files that came under the key that writes.
    pub(super) rewrapped: u64,
}

/// Makes the duty that the leader does.
pub(super) fn duty(store: &Arc<Store>) -> Duty {
    let store = Arc::clone(store);
    Duty {
        name: DUTY,
        description: "removes the contents of files that were deleted, replaced or never finished",
        every: EVERY,
        run: Arc::new(move |run| {
            let store = Arc::clone(&store);
            Box::pin(async move {
                let report = run_once(&store, (SILENCE, GRACE), &run).await;
                let report = report.map_err(|error| crate::error::chain(&error))?;
                serde_json::to_value(report).map_err(|error| error.to_string())
            })
        }),
    }
}

/// Gives up files that were silent for so long, then removes contents that nobody has needed for so long.
pub(super) async fn run_once(
    store: &Store,
    (silence, grace): (Duration, Duration),
    run: &DutyRun,
) -> Result<SweepReport, FileError> {
    let given_up = store.rows.give_up_silent(silence).await?;
    let mut report = SweepReport { given_up, ..SweepReport::default() };
    let places = store.stores.places();
    for _ in 0..PAGES {
        let leftovers = store.rows.leftovers(grace, &places, PAGE).await?;
        let is_last = leftovers.len() < PAGE as usize;
        let failed_before = report.failed;
        for leftover in leftovers {
            if run.is_cancelled() {
                return Ok(report);
            }
            let Some(contents) = store.stores.find(&leftover.place) else { continue };
            match contents.remove(&leftover.id).await {
                Ok(()) => {
                    points::pass(Point::Removed).await;
                    store.rows.forget(&leftover.id).await?;
                    report.removed += 1;
                    metrics::counter!("understudy_files_removed_total").increment(1);
                }
                Err(error) => {
                    tracing::debug!(%error, "the content of a file is left to the next sweep");
                    report.failed += 1;
                }
            }
        }
        // What fails would be found again and again.
        if is_last || report.failed > failed_before {
            break;
        }
    }
    let (removed, failed) = shared::sweep(store, grace, run).await?;
    report.removed += removed;
    report.failed += failed;
    store.rows.forget_empty_spaces().await?;
    report.rewrapped = rewrapping::run_once(store, run).await?;
    Ok(report)
}
