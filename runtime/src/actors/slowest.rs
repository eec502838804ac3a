//! The slowest messages of late. Almost every message only looks at one number: how long it would have to take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::clock::BootInstant;

/// How many are kept.
pub(super) const MOST: usize = 20;

/// A message that took long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// What it was.
    pub(super) message: &'static str,
    pub(super) took: Duration,
    /// When it was done.
    pub(super) at: BootInstant,
    /// The same, ms since 1970.
    pub(super) at_ms: u64,
    /// Whose it was, by a name that may be in logs.
    pub(super) actor: Option<String>,
}

/// The list; the slowest first.
#[derive(Debug, Default)]
pub(super) struct Slowest {
    /// What is not longer than this, in µs, is not among them.
    floor: AtomicU64,
    list: ArcSwap<Vec<Entry>>,
}

impl Slowest {
    /// Takes in a message that took so many µs, if it is among the slowest; only then it is asked what it was.
    pub(super) fn offer(&self, micros: u64, make: impl FnOnce() -> Entry) {
        if micros <= self.floor.load(Ordering::Relaxed) {
            return;
        }
        let entry = make();
        self.list.rcu(|list| {
            let place = list.partition_point(|other| other.took >= entry.took);
            let mut list = Vec::clone(list);
            list.insert(place, entry.clone());
            list.truncate(MOST);
            list
        });
        self.lay_floor();
    }

    /// Drops what was done before `oldest`.
    pub(super) fn forget_before(&self, oldest: BootInstant) {
        if self.list.load().iter().any(|entry| entry.at < oldest) {
            self.list.rcu(|list| {
                let kept = list.iter().filter(|entry| entry.at >= oldest);
                kept.cloned().collect::<Vec<Entry>>()
            });
        }
        self.lay_floor();
    }

    pub(super) fn list(&self) -> Arc<Vec<Entry>> {
        self.list.load_full()
    }

    /// Two threads may do this at the same time, and the later one with the older list: then the floor is wrong until the
    /// next message is taken in or the next round of [`Self::forget_before`], and a message too many is looked at, or one
    /// too few is kept.
    fn lay_floor(&self) {
        let list = self.list.load();
        let last = list.get(MOST - 1);
        self.floor.store(last.map_or(0, |last| micros(last.took)), Ordering::Relaxed);
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64) -> Entry {
        Entry {
            message: "put",
            took: Duration::from_micros(number),
            at: BootInstant::from_nanos(number),
            at_ms: number,
            actor: None,
        }
    }

    fn times(slowest: &Slowest) -> Vec<u64> {
        slowest.list().iter().map(|entry| micros(entry.took)).collect()
    }

    #[test]
    fn u9_the_twenty_slowest_stay_and_others_cost_one_look() {
        let slowest = Slowest::default();
        for number in (1..=60).map(|number| number * 37 % 61) {
            slowest.offer(number, || entry(number));
        }
        assert_eq!(times(&slowest), (41..=60).rev().collect::<Vec<_>>());
        slowest.offer(41, || unreachable!("it is as quick as the quickest of them"));
        slowest.forget_before(BootInstant::from_nanos(58));
        assert_eq!(times(&slowest), [60, 59, 58]);
        slowest.offer(1, || entry(1));
        assert_eq!(times(&slowest), [60, 59, 58, 1], "there is room again");
    }

    #[test]
    fn u9_many_threads_together_keep_the_slowest_of_all() {
        let slowest = Slowest::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let slowest = &slowest;
                scope.spawn(move || {
                    for number in (1..=2_000).filter(|number| number % 4 == thread) {
                        slowest.offer(number, || entry(number));
                    }
                });
            }
        });
        let times = times(&slowest);
        assert_eq!((times.len(), times[0]), (MOST, 2_000));
        assert!(times.is_sorted_by(|one, next| one > next), "{times:?}");
    }
}
