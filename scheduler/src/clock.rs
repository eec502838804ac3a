//! The database's time, told by this node's own clock between two questions.
//!
//! Due times are compared with nothing else: the wall clock of a node may be wrong, and may jump. What is kept is how
//! far the clock since boot is from the database's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use understudy_runtime::clock::{BootInstant, SharedClock};

/// Answers that took longer do not set the clock.
const LONGEST_ANSWER: Duration = Duration::from_millis(250);

/// The database's time; a cheap clone.
#[derive(Debug, Clone)]
pub(crate) struct DatabaseClock {
    clock: SharedClock,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Database time minus time since boot, ms.
    offset_ms: AtomicI64,
    /// Database time minus this node's wall clock, ms.
    wall_offset_ms: AtomicI64,
    known: AtomicBool,
}

impl DatabaseClock {
    /// Makes one that knows nothing of the database yet, and takes this node's wall clock for it.
    pub(crate) fn new(clock: SharedClock) -> Self {
        let told = Self { clock, shared: Arc::default() };
        let offset = told.wall_ms() - millis(told.clock.now());
        told.shared.offset_ms.store(offset, Ordering::Release);
        told
    }

    /// The clock since boot.
    pub(crate) fn boot(&self) -> BootInstant {
        self.clock.now()
    }

    /// The database's time, ms since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        millis(self.clock.now()) + self.shared.offset_ms.load(Ordering::Acquire)
    }

    /// Notes what the database answered to a question that was asked at `asked`.
    pub(crate) fn heard(&self, asked: BootInstant, database_ms: i64) {
        let now = self.clock.now();
        // An answer that took long says little; one is better than none.
        let took = now.saturating_duration_since(asked);
        if took > LONGEST_ANSWER && self.is_known() {
            return;
        }
        // It read its clock somewhere on the way there and back; half-way is wrong by half of that at most.
        let there = took / 2;
        let at = millis(asked) + i64::try_from(there.as_millis()).unwrap_or(0);
        self.shared.offset_ms.store(database_ms - at, Ordering::Release);
        let wall_then = self.wall_ms() - (millis(now) - at);
        self.shared.wall_offset_ms.store(database_ms - wall_then, Ordering::Release);
        self.shared.known.store(true, Ordering::Release);
    }

    /// How far the database's clock is ahead of this node's wall clock, ms.
    pub(crate) fn wall_offset_ms(&self) -> i64 {
        self.shared.wall_offset_ms.load(Ordering::Acquire)
    }

    /// Whether the database has told its time.
    pub(crate) fn is_known(&self) -> bool {
        self.shared.known.load(Ordering::Acquire)
    }

    fn wall_ms(&self) -> i64 {
        i64::try_from(self.clock.wall_ms()).unwrap_or(i64::MAX)
    }
}

fn millis(at: BootInstant) -> i64 {
    i64::try_from(at.as_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use understudy_runtime::clock::ManualClock;

    use super::*;

    #[test]
    fn a_jump_of_the_wall_clock_changes_nothing_but_what_is_reported() {
        let manual = Arc::new(ManualClock::new());
        let clock = DatabaseClock::new(manual.clone());
        assert!(!clock.is_known());
        clock.heard(clock.boot(), 5_000_000);
        manual.advance(Duration::from_millis(250));
        assert_eq!(clock.now_ms(), 5_000_250);
        manual.set_wall_ms(0);
        assert_eq!(clock.now_ms(), 5_000_250);
        clock.heard(clock.boot(), 5_000_260);
        assert_eq!((clock.now_ms(), clock.wall_offset_ms()), (5_000_260, 5_000_260));
    }
}
