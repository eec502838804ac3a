//! The clocks of a node, so that everything that depends on time can be stepped by a test.
//!
//! Leases and deadlines use [`BootInstant`], which goes on while the machine sleeps: a lease that ran out
//! during a suspend must be seen as run out. Wall time is only for what people and other machines read; it may
//! jump. This module deliberately offers no sleeping: timers belong to tokio.

use std::fmt;
use std::ops::Add;
use std::sync::Arc;
#[cfg(any(test, feature = "test-support"))]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A clock shared by every part of a node.
pub type SharedClock = Arc<dyn Clock>;

/// A source of time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Returns the time since boot, suspend included; never goes back.
    fn now(&self) -> BootInstant;

    /// Returns milliseconds since 1970-01-01 UTC as this machine believes them; may jump in both directions.
    fn wall_ms(&self) -> u64;
}

/// A moment, in nanoseconds since this machine booted. Means nothing on another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootInstant(u64);

impl BootInstant {
    /// Makes the moment that lies `nanos` nanoseconds after boot.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the nanoseconds since boot, for keeping a moment in an atomic.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the moment `duration` earlier, or boot itself when that lies before boot.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(whole_nanos(duration)))
    }

    /// Returns how much later this moment is than `earlier`, zero when it is not.
    #[must_use]
    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for BootInstant {
    type Output = Self;

    /// Saturates after 584 years instead of wrapping into the past.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole_nanos(duration)))
    }
}

/// The clocks of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// Returns the system's clocks in the form every constructor takes.
    #[must_use]
    pub fn shared() -> SharedClock {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> BootInstant {
        // Linux's CLOCK_MONOTONIC stands still during suspend; elsewhere it is the best there is.
        #[cfg(target_os = "linux")]
        let id = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let id = rustix::time::ClockId::Monotonic;
        let (seconds, nanos) = read(id);
        BootInstant(seconds.saturating_mul(1_000_000_000).saturating_add(u64::from(nanos)))
    }

    fn wall_ms(&self) -> u64 {
        #[expect(
            clippy::disallowed_methods,
            reason = "here it is taken for all; std asks libc, which a test can make lie, and rustix the kernel"
        )]
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // An error is a wall clock set before 1970: read that as 1970.
        u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Seconds, and the nanoseconds beside them. Not as a `Duration`: a hit of the cache takes little longer than this does.
fn read(id: rustix::time::ClockId) -> (u64, u32) {
    let time = rustix::time::clock_gettime(id);
    // Neither part is negative: a machine does not run before it has booted.
    (u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn whole_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A clock that moves only when a test says so. Both times advance together until one is set apart.
#[cfg(any(test, feature = "test-support"))]
#[derive(Debug)]
pub struct ManualClock {
    boot_nanos: AtomicU64,
    wall_ms: AtomicU64,
}

#[cfg(any(test, feature = "test-support"))]
impl ManualClock {
    /// Makes a clock that shows one hour after boot, on 2026-01-01 00:00 UTC.
    #[must_use]
    pub fn new() -> Self {
        Self {
            boot_nanos: AtomicU64::new(3_600_000_000_000),
            wall_ms: AtomicU64::new(1_767_225_600_000),
        }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, duration: Duration) {
        self.boot_nanos.fetch_add(whole_nanos(duration), Ordering::AcqRel);
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.wall_ms.fetch_add(millis, Ordering::AcqRel);
    }

    /// Sets the wall clock alone, as an administrator or a time server would.
    pub fn set_wall_ms(&self, wall_ms: u64) {
        self.wall_ms.store(wall_ms, Ordering::Release);
    }
}

#[cfg(any(test, feature = "test-support"))]
impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(any(test, feature = "test-support"))]
impl Clock for ManualClock {
    fn now(&self) -> BootInstant {
        BootInstant(self.boot_nanos.load(Ordering::Acquire))
    }

    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_never_goes_back_and_knows_the_century() {
        let clock = SystemClock;
        let first = clock.now();
        assert!(clock.now() >= first);
        assert!(clock.wall_ms() > 1_700_000_000_000);
    }

    #[test]
    fn moments_saturate_instead_of_wrapping() {
        let early = BootInstant::from_nanos(5);
        assert_eq!(early.saturating_sub(Duration::from_secs(1)), BootInstant::from_nanos(0));
        assert_eq!(early.saturating_duration_since(early + Duration::from_secs(1)), Duration::ZERO);
        let last = BootInstant::from_nanos(u64::MAX);
        assert_eq!(last + Duration::from_secs(1), last);
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::new();
        let (boot, wall) = (clock.now(), clock.wall_ms());
        assert_eq!(clock.now(), boot);
        clock.advance(Duration::from_millis(1500));
        assert_eq!(clock.now(), boot + Duration::from_millis(1500));
        assert_eq!(clock.wall_ms(), wall + 1500);
        clock.set_wall_ms(7);
        assert_eq!(clock.wall_ms(), 7);
        assert_eq!(clock.now(), boot + Duration::from_millis(1500));
    }
}
