//! Notices when this process stood still: stopped, swapped out, starved of processors, or asleep with its machine.
//!
//! A thread that does nothing else wakes up ten times a second and looks at the clock that goes on during all of that. It
//! only tells: what must not happen after a pause is kept from happening by deadlines, leases and epochs, which need no
//! watchdog. But an operator who sees a lost lease wants to know that the node stood still, and for how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::clock::{BootInstant, SharedClock};

/// How often it looks.
const TICK: Duration = Duration::from_millis(100);
/// A shorter pause is what an ordinary machine does at times.
const PAUSE: Duration = Duration::from_millis(500);

/// The pauses of a process so far; a cheap clone.
#[derive(Debug, Clone, Default)]
pub struct Pauses(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    count: AtomicU64,
    longest_ms: AtomicU64,
    last_ms: AtomicU64,
}

/// What is known of pauses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseReport {
    /// How often the process stood still for more than half a second.
    pub count: u64,
    /// How long the longest took, ms.
    pub longest_ms: u64,
    /// When the last one ended, ms since 1970; none when there was none.
    pub last_ms: Option<u64>,
}

impl Pauses {
    /// Returns what is known so far.
    #[must_use]
    pub fn report(&self) -> PauseReport {
        let last_ms = self.0.last_ms.load(Ordering::Relaxed);
        PauseReport {
            count: self.0.count.load(Ordering::Relaxed),
            longest_ms: self.0.longest_ms.load(Ordering::Relaxed),
            last_ms: (last_ms > 0).then_some(last_ms),
        }
    }

    fn note(&self, pause: Duration, ended_ms: u64) {
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.0.longest_ms.fetch_max(pause_ms, Ordering::Relaxed);
        self.0.last_ms.store(ended_ms, Ordering::Relaxed);
        self.0.count.fetch_add(1, Ordering::Relaxed);
        metrics::histogram!("understudy_pauses_seconds").record(pause.as_secs_f64());
        // As an operator looks for it; the figure for programs stands beside it.
        warn!(duration_ms = pause_ms, "paused {:.1}s", pause.as_secs_f64());
    }
}

/// Watches over the process until it is dropped.
#[derive(Debug)]
#[must_use = "it watches until it is dropped"]
pub(crate) struct Watchdog {
    pauses: Pauses,
    /// Dropped, it ends the thread.
    _ends: Sender<()>,
}

impl Watchdog {
    /// Begins to watch. A process that cannot start one more thread does without.
    pub(crate) fn begin(clock: SharedClock) -> Self {
        let (ends, ended) = channel::<()>();
        let pauses = Pauses::default();
        let noted = pauses.clone();
        let watch = move || {
            let mut before = clock.now();
            while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                let now = clock.now();
                if let Some(pause) = pause_between(before, now) {
                    noted.note(pause, clock.wall_ms());
                }
                before = now;
            }
        };
        let thread = std::thread::Builder::new().name("watchdog".to_owned()).spawn(watch);
        if let Err(error) = thread {
            warn!(%error, "pauses of this process will not be noticed");
        }
        Self { pauses, _ends: ends }
    }

    /// Returns what it has noticed.
    pub(crate) fn pauses(&self) -> Pauses {
        self.pauses.clone()
    }
}

/// How long the process stood still between two looks, if it did; the tick itself is none of it.
fn pause_between(before: BootInstant, now: BootInstant) -> Option<Duration> {
    let pause = now.saturating_duration_since(before).saturating_sub(TICK);
    (pause > PAUSE).then_some(pause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock, SystemClock};

    fn at(ms: u64) -> BootInstant {
        BootInstant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn o9_only_what_is_longer_than_half_a_second_is_a_pause() {
        assert_eq!(pause_between(at(1_000), at(1_100)), None);
        assert_eq!(pause_between(at(1_000), at(1_600)), None);
        assert_eq!(pause_between(at(1_000), at(1_601)), Some(Duration::from_millis(501)));
        assert_eq!(pause_between(at(1_000), at(3_100)), Some(Duration::from_secs(2)));
        assert_eq!(pause_between(at(1_000), at(0)), None);
    }

    #[test]
    fn o9_pauses_are_counted_with_the_longest_and_the_last() {
        let pauses = Pauses::default();
        assert_eq!(pauses.report(), PauseReport::default());
        pauses.note(Duration::from_millis(2_000), 5_000);
        pauses.note(Duration::from_millis(700), 9_000);
        let report = pauses.report();
        assert_eq!((report.count, report.longest_ms, report.last_ms), (2, 2_000, Some(9_000)));
    }

    #[test]
    fn o9_a_clock_that_jumps_ahead_is_noticed() {
        let clock = Arc::new(ManualClock::new());
        let watchdog = Watchdog::begin(clock.clone());
        let real = SystemClock;
        let deadline = real.now() + Duration::from_secs(10);
        // Again and again: the thread reads the clock for the first time at a moment that nobody knows.
        while watchdog.pauses().report().count == 0 {
            assert!(real.now() < deadline, "it noticed nothing");
            clock.advance(Duration::from_secs(2));
            std::thread::park_timeout(TICK);
        }
        assert!(watchdog.pauses().report().longest_ms >= 1_900);
    }
}
