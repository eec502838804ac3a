//! How long somebody had to wait for a processor: what a time that a test measures may owe to its machine.
//!
//! What a product promises in milliseconds it promises on a machine that has processors for it. Tests run beside each other on as
//! few as there are. So [`oracle!`](crate::oracle!) with `within` allows a time to be longer by what was waited for processors in the
//! worst such time just before, as the kernel has counted it, and no more than twice what was promised.
//!
//! The kernel counts the time in which at least one task had to wait (`some` in `/proc/pressure/cpu`, "pressure stall information" in
//! its documentation). Steps that follow each other wait no longer than that, however many processes they are spread over. Time
//! that the machine itself was not run (`steal` in `/proc/stat`) is added to it. Where there are no such files nothing is allowed.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a thread of its own, so that it looks on whatever the runtimes of a test do"
)]

use std::collections::VecDeque;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(20);
/// For how long that is remembered: longer than anything takes that is compared.
const KEPT: Duration = Duration::from_mins(2);
/// How long after a time was measured it may be compared, beside as long as it took once more.
const LATE: Duration = Duration::from_secs(3);
/// What `/proc/stat` counts in.
const TICK: Duration = Duration::from_millis(10);

static SEEN: LazyLock<Mutex<Seen>> = LazyLock::new(|| {
    let watch = || {
        while let Some(waited) = read() {
            lock().note(Instant::now(), waited);
            std::thread::sleep(EVERY);
        }
    };
    let thread = std::thread::Builder::new().name("processors".to_owned()).spawn(watch);
    drop(thread.expect("a thread can be started"));
    Mutex::default()
});

/// Begins to look, if nobody has yet.
pub(crate) fn watch() {
    LazyLock::force(&SEEN);
}

/// How long somebody waited for a processor in the worst `took` of the last time: twice that, and three seconds.
pub(crate) fn waited_within(took: Duration) -> Duration {
    watch();
    lock().most_within(took)
}

fn lock() -> MutexGuard<'static, Seen> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was seen when, as sums since the machine began.
#[derive(Debug, Default)]
struct Seen(VecDeque<(Instant, Duration)>);

impl Seen {
    fn note(&mut self, now: Instant, waited: Duration) {
        while self.0.front().is_some_and(|(at, _)| now.duration_since(*at) > KEPT) {
            self.0.pop_front();
        }
        self.0.push_back((now, waited));
    }

    fn most_within(&self, took: Duration) -> Duration {
        // What began and ended between two looks lies within the next larger distance of looks.
        let window = took + EVERY;
        let Some((last, _)) = self.0.back() else { return Duration::ZERO };
        let is_late = |at: Instant| last.duration_since(at) > 2 * took + LATE;
        let mut from = self.0.iter().take_while(|(at, _)| is_late(*at)).count();
        let mut most = Duration::ZERO;
        for (at, waited) in self.0.iter().skip(from) {
            while self.0.get(from + 1).is_some_and(|(next, _)| at.duration_since(*next) >= window) {
                from += 1;
            }
            most = most.max(waited.saturating_sub(self.0[from].1));
        }
        most.min(took)
    }
}

/// How long somebody has waited since the machine began.
fn read() -> Option<Duration> {
    let pressure = std::fs::read_to_string("/proc/pressure/cpu").ok()?;
    let waited = pressure.lines().next()?.rsplit_once("total=")?.1.parse().ok()?;
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    // "cpu", then user, nice, system, idle, iowait, irq, softirq, steal.
    let steal: u32 = stat.lines().next()?.split_whitespace().nth(8)?.parse().ok()?;
    Some(Duration::from_micros(waited) + steal * TICK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_time_of_that_length_counts() {
        let (begun, ms) = (Instant::now(), Duration::from_millis);
        let mut seen = Seen::default();
        // Of the second second 600 ms were waited, of all others 100.
        let mut waited = Duration::ZERO;
        for look in 0..=200_u32 {
            waited += if (50..100).contains(&look) { ms(12) } else { ms(2) };
            seen.note(begun + look * EVERY, waited);
        }
        let most = seen.most_within(ms(1_000)).as_millis();
        assert!((600..=625).contains(&most), "{most}");
        let most = seen.most_within(ms(4_000)).as_millis();
        assert!((890..=912).contains(&most), "{most}");
        let most = seen.most_within(ms(100)).as_millis();
        assert!((60..=85).contains(&most), "{most}");
        for look in 201..=400_u32 {
            seen.note(begun + look * EVERY, waited);
        }
        assert_eq!(seen.most_within(ms(100)), Duration::ZERO, "that was long before");
        assert!(seen.most_within(ms(5)) <= ms(5), "never more than it took");
        assert_eq!(Seen::default().most_within(ms(5)), Duration::ZERO);
    }

    #[test]
    fn what_is_long_past_is_forgotten() {
        let begun = Instant::now();
        let mut seen = Seen::default();
        seen.note(begun, Duration::ZERO);
        seen.note(begun + EVERY, Duration::from_secs(9));
        seen.note(begun + 2 * KEPT, Duration::from_secs(9));
        assert_eq!(seen.most_within(Duration::from_secs(60)), Duration::ZERO);
    }
}
