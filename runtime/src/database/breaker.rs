//! Answers "away" at once while the server is known to be away.
//!
//! A pool keeps trying to connect until its acquire time-out is over. That is right for one caller and wrong for a
//! thousand requests, which should be told within milliseconds that they cannot be served. So after a lost connection
//! everybody is told so at once, except for one caller in every pause, who finds out whether the server is back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::error::DatabaseError;

/// How long a lost connection speaks for all others.
const PAUSE: Duration = Duration::from_millis(300);

/// Remembers whether the latest word from the server was that it is away.
#[derive(Debug)]
pub(super) struct Breaker {
    began: Instant,
    /// In ms since `began`; 0 while the server answers.
    closed_until: AtomicU64,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), closed_until: AtomicU64::new(0) }
    }

    /// Says whether to try at all. In every pause one caller may, whoever comes first.
    pub(super) fn lets_through(&self, now: Instant) -> bool {
        let until = self.closed_until.load(Ordering::Relaxed);
        if until == 0 {
            return true;
        }
        let now = self.ms(now);
        let next = now + whole_ms(PAUSE);
        now >= until
            && self
                .closed_until
                .compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Takes note of how an attempt ended.
    pub(super) fn note<T>(&self, now: Instant, result: &Result<T, DatabaseError>) {
        let until = match result {
            Err(error) if error.is_lost_connection() => self.ms(now) + whole_ms(PAUSE),
            // Also when the server refused: it is there.
            Ok(_) | Err(_) => 0,
        };
        if self.closed_until.load(Ordering::Relaxed) != until {
            self.closed_until.store(until, Ordering::Relaxed);
        }
    }

    /// Never 0, which means something else.
    fn ms(&self, now: Instant) -> u64 {
        whole_ms(now.saturating_duration_since(self.began)) + 1
    }
}

fn whole_ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_in_every_pause_finds_out_whether_the_server_is_back() {
        let breaker = Breaker::new();
        let mut now = Instant::now();
        assert!(breaker.lets_through(now) && breaker.lets_through(now));
        let away = Err::<(), _>(DatabaseError::TimedOut(PAUSE));
        breaker.note(now, &away);
        assert!(!breaker.lets_through(now));
        now += PAUSE;
        assert!(breaker.lets_through(now));
        assert!(!breaker.lets_through(now));
        breaker.note(now, &away);
        now += PAUSE;
        assert!(breaker.lets_through(now));
        breaker.note(now, &Ok::<_, DatabaseError>(()));
        assert!(breaker.lets_through(now) && breaker.lets_through(now));
    }
}
