//! Counts in the memory of one node, with the arithmetic of `take.lua`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;

use super::{Rate, RateLimitError, Taken, verdict};
use crate::clock::SharedClock;

/// How many are counted at most: about 10 MB.
const MOST: usize = 100_000;

#[derive(Debug)]
pub(super) struct Memory {
    /// When all may be done again, in µs of the node's clock.
    full: DashMap<String, u64>,
    clock: SharedClock,
    /// Until when Redis is not asked, in µs of the node's clock.
    on_its_own_us: AtomicU64,
    /// When it was last looked through for what is over, in µs of the node's clock.
    swept_us: AtomicU64,
}

impl Memory {
    pub(super) fn new(clock: &SharedClock) -> Self {
        Self {
            full: DashMap::new(),
            clock: SharedClock::clone(clock),
            on_its_own_us: 0.into(),
            swept_us: 0.into(),
        }
    }

    fn now_us(&self) -> u64 {
        self.clock.now().as_nanos() / 1_000
    }

    pub(super) fn is_on_its_own(&self) -> bool {
        self.now_us() < self.on_its_own_us.load(Ordering::Relaxed)
    }

    pub(super) fn stay_on_its_own(&self, time: Duration) {
        let until = self.now_us() + u64::try_from(time.as_micros()).unwrap_or_default();
        self.on_its_own_us.store(until, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.full.len()
    }

    /// Makes room, once a second at most: it looks at everything.
    fn sweep(&self, now: u64) {
        let last = self.swept_us.load(Ordering::Relaxed);
        let take =
            |at| self.swept_us.compare_exchange(last, at, Ordering::Relaxed, Ordering::Relaxed);
        if (last == 0 || now.saturating_sub(last) >= 1_000_000) && take(now).is_ok() {
            self.full.retain(|_, full| *full > now);
        }
    }

    pub(super) fn take(&self, digest: String, rate: Rate) -> Result<Taken, RateLimitError> {
        let now = self.now_us();
        if self.full.len() >= MOST && !self.full.contains_key(&digest) {
            self.sweep(now);
            if self.full.len() >= MOST {
                // Whoever comes with that many names is not stopped by counting them; others must not pay for it.
                return verdict(0, 0, rate.one_us());
            }
        }
        let (one, all) = (rate.one_us(), rate.all_us());
        let mut full = self.full.entry(digest).or_insert(now);
        let held = (*full).clamp(now, now + all);
        let next = held + one;
        if next - now > all {
            return verdict(next - now - all, 0, held - now);
        }
        *full = next;
        verdict(0, (all - (next - now)) / one, next - now)
    }
}
