//! What is known about a connection: how much is under way, when it was last heard, whether it must be replaced.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use fred::error::{Error, ErrorKind};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// So many time-outs in a row, with nothing heard in between, are taken for a dead connection.
const SILENT_AFTER: u32 = 3;

#[derive(Debug)]
pub(super) struct Health {
    command_timeout: Duration,
    begin: Instant,
    under_way: AtomicUsize,
    timeouts: AtomicU32,
    /// In ms after `begin`.
    last_heard_ms: AtomicU64,
    reconnect: Notify,
    reason: ArcSwapOption<&'static str>,
    connects: watch::Sender<u64>,
}

impl Health {
    pub(super) fn new(command_timeout: Duration) -> Self {
        Self {
            command_timeout,
            begin: Instant::now(),
            under_way: AtomicUsize::new(0),
            timeouts: AtomicU32::new(0),
            last_heard_ms: AtomicU64::new(0),
            reconnect: Notify::new(),
            reason: ArcSwapOption::empty(),
            connects: watch::Sender::new(0),
        }
    }

    pub(super) fn command_timeout(&self) -> Duration {
        self.command_timeout
    }

    /// Takes a place among the commands under way, unless `limit` are.
    pub(super) fn enter(&self, limit: usize) -> Option<Place<'_>> {
        if self.under_way.fetch_add(1, Ordering::Relaxed) >= limit {
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Place(self))
    }

    /// Counts the commands that wait for an answer.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Notes that the server answered, be it with a refusal.
    pub(super) fn heard(&self, now: Instant) {
        self.last_heard_ms.store(self.ms(now), Ordering::Relaxed);
        if self.timeouts.load(Ordering::Relaxed) != 0 {
            self.timeouts.store(0, Ordering::Relaxed);
        }
    }

    /// Judges a failure: silence, and a replica in place of a primary, ask for another connection.
    pub(super) fn failed(&self, error: &Error, now: Instant) {
        metrics::counter!("understudy_redis_errors_total", "kind" => error.kind().to_str())
            .increment(1);
        let details = error.details();
        if *error.kind() == ErrorKind::Timeout {
            let timeouts = self.timeouts.fetch_add(1, Ordering::Relaxed) + 1;
            let silent_ms = self.ms(now).saturating_sub(self.last_heard_ms.load(Ordering::Relaxed));
            // Many commands that waited together are one silence, so the time counts as well.
            if timeouts >= SILENT_AFTER
                && u128::from(silent_ms) >= 2 * self.command_timeout.as_millis()
            {
                self.timeouts.store(0, Ordering::Relaxed);
                self.ask_for_reconnect("the server is silent");
            }
        } else if details.starts_with("READONLY") {
            // Not for NOREPLICAS: that may last, and reads go on meanwhile.
            self.ask_for_reconnect("the server may not write");
        } else if details.starts_with(|c: char| c.is_ascii_uppercase()) {
            self.heard(now);
        }
    }

    /// Whether nothing was heard for so long.
    pub(super) fn is_quiet(&self, now: Instant, limit: Duration) -> bool {
        let quiet_ms = self.ms(now).saturating_sub(self.last_heard_ms.load(Ordering::Relaxed));
        u128::from(quiet_ms) > limit.as_millis()
    }

    pub(super) fn ask_for_reconnect(&self, reason: &'static str) {
        self.reason.store(Some(std::sync::Arc::new(reason)));
        self.reconnect.notify_one();
    }

    /// Waits until somebody asks for another connection; returns why.
    pub(super) async fn reconnect_asked(&self) -> &'static str {
        self.reconnect.notified().await;
        self.reason.swap(None).map_or("asked for", |reason| *reason)
    }

    pub(super) fn connects(&self) -> watch::Receiver<u64> {
        self.connects.subscribe()
    }

    pub(super) fn connected(&self) {
        self.last_heard_ms.store(self.ms(Instant::now()), Ordering::Relaxed);
        self.timeouts.store(0, Ordering::Relaxed);
        self.connects.send_modify(|count| *count += 1);
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.begin).as_millis()).unwrap_or(u64::MAX)
    }
}

/// One command under way.
pub(super) struct Place<'a>(&'a Health);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn only_a_silence_that_lasts_asks_for_another_connection() {
        let health = Health::new(Duration::from_millis(500));
        let timeout = Error::new(ErrorKind::Timeout, "Request timed out.");
        let after = |ms| health.begin + Duration::from_millis(ms);
        for _ in 0..50 {
            health.failed(&timeout, after(600)); // a crowd that waited together
        }
        assert!(health.reconnect_asked().now_or_never().is_none());
        health.failed(&timeout, after(1100));
        assert_eq!(health.reconnect_asked().now_or_never(), Some("the server is silent"));
        for ms in [1600, 2100, 2600] {
            health.failed(&timeout, after(ms));
            health.heard(after(ms));
        }
        assert!(health.reconnect_asked().now_or_never().is_none());
    }

    #[test]
    fn b10_commands_under_way_are_bounded() {
        let health = Health::new(Duration::from_millis(500));
        let first = health.enter(2).unwrap();
        let _second = health.enter(2).unwrap();
        assert!(health.enter(2).is_none());
        drop(first);
        assert!(health.enter(2).is_some());
    }
}
