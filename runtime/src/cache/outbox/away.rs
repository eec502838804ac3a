//! Which regions cannot be told at the moment: on a Redis Cluster those whose shard does not answer, while all others
//! can be.
//!
//! They are left out when rows are read, so that they hold up nobody else, and are tried with one row each now and then. Plain
//! state; it belongs to the relay of one node, and is nothing that must outlive it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::BootInstant;
use crate::supervise::Backoff;

/// How soon a region is tried again that could not be told.
const FIRST: Duration = Duration::from_millis(100);
/// How long it is left out at most.
const MOST: Duration = Duration::from_secs(2);

/// Regions that could not be told.
#[derive(Debug, Clone, Default)]
pub(super) struct Away {
    regions: BTreeMap<String, PutOff>,
    /// Over which connection they could not.
    connects: u64,
}

#[derive(Debug, Clone)]
struct PutOff {
    backoff: Backoff,
    until: BootInstant,
}

impl Away {
    /// Says which connection there is to Redis: over another one all are tried again.
    pub(super) fn over(&mut self, connects: u64) {
        if self.connects != connects {
            self.connects = connects;
            self.regions.clear();
        }
    }

    /// There is nothing to be told of any region.
    pub(super) fn clear(&mut self) {
        self.regions.clear();
    }

    /// A region could not be told.
    pub(super) fn failed(&mut self, region: String, now: BootInstant) {
        let begin = || PutOff { backoff: Backoff::new(FIRST, MOST), until: now };
        let put_off = self.regions.entry(region).or_insert_with(begin);
        put_off.until = now + put_off.backoff.pause();
    }

    /// A region can be told, or has nothing to be told of.
    pub(super) fn is_back(&mut self, region: &str) {
        self.regions.remove(region);
    }

    /// Says how many there are.
    pub(super) fn count(&self) -> usize {
        self.regions.len()
    }

    /// Names all of them.
    pub(super) fn names(&self) -> Vec<String> {
        self.regions.keys().cloned().collect()
    }

    /// Names those that are to be tried.
    pub(super) fn due(&self, now: BootInstant) -> Vec<String> {
        let due = self.regions.iter().filter(|(_, put_off)| put_off.until <= now);
        due.map(|(region, _)| region.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_left_out_for_longer_each_time_and_tried_at_once_over_another_connection() {
        let (mut away, mut now) = (Away::default(), BootInstant::default());
        away.over(1);
        assert!(away.due(now).is_empty() && away.names().is_empty());
        away.failed("a".to_owned(), now);
        assert_eq!((away.names(), away.due(now)), (vec!["a".to_owned()], Vec::new()));
        now = now + FIRST;
        assert_eq!(away.due(now), ["a"]);
        for _ in 0..10 {
            away.failed("a".to_owned(), now);
        }
        now = now + MOST.mul_f64(0.4);
        assert!(away.due(now).is_empty(), "it is tried more and more seldom");
        now = now + MOST;
        assert_eq!(away.due(now), ["a"], "and never given up");
        away.failed("b".to_owned(), now);
        away.over(1);
        away.is_back("a");
        assert_eq!((away.names(), away.count()), (vec!["b".to_owned()], 1));
        away.over(2);
        assert_eq!(away.count(), 0);
    }
}
