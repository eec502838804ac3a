//! How long messages took, in places of a fixed number: eight to each doubling of time, so that what is read from it is
//! at most an eighth too long. A place is one number that many threads may raise without waiting for each other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many places there are: up to 268 s, and whatever takes longer is in the last one.
const PLACES: usize = 208;
/// How many places a doubling has.
const FINE: u64 = 8;

/// Times of messages; written by those who handle them.
#[derive(Debug)]
pub(super) struct Histogram {
    counts: [AtomicU64; PLACES],
    /// The longest, µs.
    longest: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; PLACES], longest: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts a message that took so many µs.
    pub(super) fn note(&self, micros: u64) {
        self.counts[place(micros)].fetch_add(1, Ordering::Relaxed);
        // Only looked at, as a rule: to write would take the line of memory away from the other threads.
        if micros > self.longest.load(Ordering::Relaxed) {
            self.longest.fetch_max(micros, Ordering::Relaxed);
        }
    }

    /// Begins anew; returns how many it had counted. What is counted at the same moment is in this or in the next.
    pub(super) fn clear(&self) -> u64 {
        self.longest.store(0, Ordering::Relaxed);
        self.counts.iter().map(|count| count.swap(0, Ordering::Relaxed)).sum()
    }
}

/// The sum of some histograms, to be read.
#[derive(Debug)]
pub(super) struct Tally {
    counts: [u64; PLACES],
    longest: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self { counts: [0; PLACES], longest: 0 }
    }
}

impl Tally {
    pub(super) fn add(&mut self, histogram: &Histogram) {
        for (sum, count) in self.counts.iter_mut().zip(&histogram.counts) {
            *sum += count.load(Ordering::Relaxed);
        }
        self.longest = self.longest.max(histogram.longest.load(Ordering::Relaxed));
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn longest(&self) -> Duration {
        Duration::from_micros(self.longest)
    }

    /// Returns how long the quickest `permille` of a thousand took at most; zero when nothing was counted.
    pub(super) fn quantile(&self, permille: u64) -> Duration {
        let rank = (self.count() * permille).div_ceil(1_000).max(1);
        let mut passed = 0;
        for (place, count) in self.counts.iter().enumerate() {
            passed += count;
            if passed >= rank {
                // The last place has no end of its own.
                let end = if place + 1 == PLACES { self.longest } else { end(place) };
                return Duration::from_micros(end.min(self.longest));
            }
        }
        Duration::ZERO
    }
}

/// In which place so many µs are counted.
fn place(micros: u64) -> usize {
    let place = match micros.checked_ilog2() {
        // Behind the first eight, which are exact, the three digits behind the first one count.
        Some(power) if micros >= FINE => {
            u64::from(power - 2) * FINE + ((micros >> (power - 3)) & (FINE - 1))
        }
        Some(_) | None => micros,
    };
    usize::try_from(place).map_or(PLACES - 1, |place| place.min(PLACES - 1))
}

/// The most µs that are counted in a place.
fn end(place: usize) -> u64 {
    let place = u64::try_from(place).unwrap_or(u64::MAX);
    if place < FINE {
        return place;
    }
    ((FINE + place % FINE + 1) << (place / FINE - 1)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u9_every_time_is_in_a_place_that_ends_with_it_or_an_eighth_later() {
        for micros in (0..5_000).chain((5_000..200_000_000).step_by(7_919)) {
            let place = place(micros);
            let end = end(place);
            assert!(end >= micros && end - micros <= micros / 8, "{micros}: {place}, {end}");
            assert!(place == 0 || super::end(place - 1) < micros, "{micros}: {place}");
        }
        assert_eq!(place(u64::MAX), PLACES - 1);
        assert_eq!(
            place(268_435_455),
            PLACES - 1,
            "the last place is reached, and not before its time"
        );
        assert_eq!(place(251_658_239), PLACES - 2);
    }

    #[test]
    fn u9_of_a_thousand_messages_the_slow_ones_are_seen_at_their_rank() {
        let histogram = Histogram::default();
        for _ in 0..989 {
            histogram.note(100);
        }
        for _ in 0..11 {
            histogram.note(50_000);
        }
        histogram.note(3_000_000);
        let mut tally = Tally::default();
        assert_eq!((tally.quantile(990), tally.longest()), (Duration::ZERO, Duration::ZERO));
        tally.add(&histogram);
        assert_eq!((tally.count(), tally.longest()), (1_001, Duration::from_secs(3)));
        let micros = |permille| tally.quantile(permille).as_micros();
        assert!((100..=112).contains(&micros(500)), "{}", micros(500));
        assert!((50_000..=56_250).contains(&micros(990)), "{}", micros(990));
        assert_eq!(micros(1_000), 3_000_000, "no quantile is longer than the longest");
        assert_eq!(histogram.clear(), 1_001);
        let mut empty = Tally::default();
        empty.add(&histogram);
        assert_eq!((empty.count(), empty.longest()), (0, Duration::ZERO));
    }

    #[test]
    fn u9_what_takes_longer_than_the_places_reach_is_told_by_the_longest() {
        let histogram = Histogram::default();
        histogram.note(900_000_000);
        let mut tally = Tally::default();
        tally.add(&histogram);
        assert_eq!(tally.quantile(500), Duration::from_secs(900));
    }
}
