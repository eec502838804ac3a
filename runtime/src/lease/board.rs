//! The board on which the lease actor publishes, per bucket, until when this node's lease may be trusted.
//!
//! Read on every request by every thread, so it is made of atomics and takes no lock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{BootInstant, Clock};
use crate::ids::Bucket;

/// Under which lease something was learnt. Equal stamps: nothing can have happened in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LeaseStamp {
    /// Grows whenever the lease had a gap: others may have claimed meanwhile.
    pub generation: u64,
    /// Grows whenever the store changed its identity: it may have lost writes.
    pub rid_epoch: u64,
}

/// The state of this node's lease in every bucket; a cheap clone.
#[derive(Clone)]
pub struct LeaseBoard {
    places: Arc<[Place]>,
    /// The store's clock minus this machine's boot clock, ms; `i64::MIN` until known.
    offset_ms: Arc<AtomicI64>,
}

#[derive(Default)]
struct Place {
    /// In ns since boot; 0: no lease.
    valid_until: AtomicU64,
    generation: AtomicU64,
    rid_epoch: AtomicU64,
}

const UNKNOWN: i64 = i64::MIN;

impl LeaseBoard {
    /// Makes a board for `buckets` buckets, none of them leased.
    #[must_use]
    pub fn new(buckets: u16) -> Self {
        let places = (0..buckets.max(1)).map(|_| Place::default()).collect();
        Self { places, offset_ms: Arc::new(AtomicI64::new(UNKNOWN)) }
    }

    /// Makes the board of a node that shares its store with nobody: always held.
    #[must_use]
    pub fn always() -> Self {
        let board = Self::new(1);
        for place in board.places.iter() {
            place.valid_until.store(u64::MAX, Ordering::Release);
        }
        board
    }

    /// Whether the lease is held now, and is still the one of `stamp`. This call is the moment that counts: what
    /// happens after it does not make the answer wrong.
    #[must_use]
    pub fn holds(&self, bucket: Bucket, stamp: LeaseStamp, now: BootInstant) -> bool {
        self.current(bucket, now) == Some(stamp)
    }

    /// Returns the stamp of the lease, or `None` when it has lapsed.
    #[must_use]
    pub fn current(&self, bucket: Bucket, now: BootInstant) -> Option<LeaseStamp> {
        let place = self.place(bucket);
        // First: a writer changes the stamp before it extends the time, so a time that is valid comes with its stamp.
        let valid_until = place.valid_until.load(Ordering::Acquire);
        let stamp = place.stamp();
        (now.as_nanos() < valid_until).then_some(stamp)
    }

    /// Returns until when the lease may be trusted unless it is renewed; `None` when it never was held or was given up.
    #[must_use]
    pub fn valid_until(&self, bucket: Bucket) -> Option<BootInstant> {
        match self.place(bucket).valid_until.load(Ordering::Acquire) {
            0 => None,
            nanos => Some(BootInstant::from_nanos(nanos)),
        }
    }

    /// Whether the lease is held in every bucket: the condition for being ready.
    #[must_use]
    pub fn all_held(&self, now: BootInstant) -> bool {
        (self.places.iter()).all(|place| now.as_nanos() < place.valid_until.load(Ordering::Acquire))
    }

    /// Returns the store's clock in ms since 1970, off by at most half a round trip; this machine's own wall clock
    /// until the store was heard.
    #[must_use]
    pub fn server_now_ms(&self, clock: &dyn Clock) -> u64 {
        match self.offset_ms.load(Ordering::Acquire) {
            UNKNOWN => clock.wall_ms(),
            offset => boot_ms(clock.now()).saturating_add_signed(offset),
        }
    }

    /// Returns how far the store's clock is ahead of this machine's wall clock, ms; `None` until the store was heard.
    #[must_use]
    pub fn redis_offset_ms(&self, clock: &dyn Clock) -> Option<i64> {
        if self.offset_ms.load(Ordering::Acquire) == UNKNOWN {
            return None;
        }
        let wall = i64::try_from(clock.wall_ms()).unwrap_or(i64::MAX);
        let server = i64::try_from(self.server_now_ms(clock)).unwrap_or(i64::MAX);
        Some(server.saturating_sub(wall))
    }

    /// Publishes a stamp and, only then, until when it holds. Only the actor of the bucket calls it.
    pub(crate) fn publish(&self, bucket: Bucket, stamp: LeaseStamp, valid_until: BootInstant) {
        let place = self.place(bucket);
        place.generation.store(stamp.generation, Ordering::Release);
        place.rid_epoch.store(stamp.rid_epoch, Ordering::Release);
        place.valid_until.store(valid_until.as_nanos(), Ordering::Release);
    }

    /// Takes the lease of a bucket off the board.
    pub(crate) fn invalidate(&self, bucket: Bucket) {
        self.place(bucket).valid_until.store(0, Ordering::Release);
    }

    pub(crate) fn publish_offset(&self, server_minus_boot: i64) {
        self.offset_ms.store(server_minus_boot, Ordering::Release);
    }

    /// Returns each bucket of the board once.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = Bucket> + use<> {
        (0..u16::try_from(self.places.len()).unwrap_or(u16::MAX)).map(Bucket)
    }

    fn place(&self, bucket: Bucket) -> &Place {
        // A board made by `always` serves every bucket from its one place.
        &self.places[bucket.index() % self.places.len()]
    }
}

impl Place {
    fn stamp(&self) -> LeaseStamp {
        LeaseStamp {
            generation: self.generation.load(Ordering::Acquire),
            rid_epoch: self.rid_epoch.load(Ordering::Acquire),
        }
    }
}

impl fmt::Debug for LeaseBoard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.places.iter().filter(|place| place.valid_until.load(Ordering::Relaxed) > 0);
        write!(f, "LeaseBoard({} of {} buckets leased once)", held.count(), self.places.len())
    }
}

pub(crate) fn boot_ms(at: BootInstant) -> u64 {
    at.as_nanos() / 1_000_000
}

/// The part of a lease that is not trusted, for what clocks may differ by: 5 %, and at least 200 ms.
///
/// A lease shorter than 400 ms, as only tests have, keeps half of itself.
#[must_use]
pub(super) fn margin(ttl: Duration) -> Duration {
    (ttl / 20).max(Duration::from_millis(200)).min(ttl / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: Bucket = Bucket(1);

    fn at(ms: u64) -> BootInstant {
        BootInstant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_stamp_counts_only_while_the_lease_it_came_from_goes_on() {
        let board = LeaseBoard::new(2);
        assert_eq!(board.current(B, at(5)), None);
        let first = LeaseStamp { generation: 1, rid_epoch: 1 };
        board.publish(B, first, at(10));
        assert!(board.holds(B, first, at(9)));
        assert!(!board.holds(B, first, at(10)), "the end is not part of it");
        assert!(!board.holds(Bucket(0), first, at(9)));
        let second = LeaseStamp { generation: 2, rid_epoch: 1 };
        board.publish(B, second, at(20));
        assert!(!board.holds(B, first, at(15)));
        assert_eq!(board.current(B, at(15)), Some(second));
        board.invalidate(B);
        assert_eq!((board.current(B, at(15)), board.valid_until(B)), (None, None));
        assert!(!board.all_held(at(15)));
    }

    #[test]
    fn an_embedded_node_holds_every_bucket_for_ever() {
        let board = LeaseBoard::always();
        assert!(board.holds(Bucket(63), LeaseStamp::default(), at(u64::MAX / 2_000_000)));
        assert!(board.all_held(at(1)));
    }

    #[test]
    fn the_clock_of_the_store_is_followed_once_it_is_known() {
        let clock = crate::clock::ManualClock::new();
        let board = LeaseBoard::new(1);
        assert_eq!(board.server_now_ms(&clock), clock.wall_ms());
        assert_eq!(board.redis_offset_ms(&clock), None);
        let boot = i64::try_from(boot_ms(clock.now())).unwrap();
        let wall = i64::try_from(clock.wall_ms()).unwrap();
        board.publish_offset(wall - boot + 250);
        assert_eq!(board.server_now_ms(&clock), clock.wall_ms() + 250);
        assert_eq!(board.redis_offset_ms(&clock), Some(250));
        clock.set_wall_ms(0); // a step of the own wall clock does not move it
        assert_eq!(i64::try_from(board.server_now_ms(&clock)).unwrap(), wall + 250);
    }

    #[test]
    fn the_margin_covers_what_clocks_differ_by() {
        assert_eq!(margin(Duration::from_secs(3)), Duration::from_millis(200));
        assert_eq!(margin(Duration::from_secs(10)), Duration::from_millis(500));
        assert_eq!(margin(Duration::from_millis(300)), Duration::from_millis(150));
    }
}
