//! What a call is told about the run that makes it, and where it writes.

use std::time::{Duration, UNIX_EPOCH};

use understudy_runtime::trace::TraceContext;
use understudy_scheduler::JobContext;

/// One attempt of a run, as the called side sees it.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) job: String,
    pub(super) run: String,
    pub(super) fire_ms: i64,
    /// The epoch of the leader that claimed the due time; 0 for runs that need none.
    pub(super) epoch: u64,
    /// From 1.
    pub(super) number: u32,
    pub(super) idempotency_key: String,
    /// The trace that the run belongs to, as in the header `traceparent`.
    pub(super) trace: Option<String>,
}

impl Attempt {
    /// What is told of the run that is under way here and now.
    pub(super) fn of(context: &JobContext) -> Self {
        Self {
            job: context.job().to_owned(),
            run: context.run_id().to_string(),
            fire_ms: context.fire_time_ms(),
            epoch: context.fence().epoch,
            number: context.attempt(),
            idempotency_key: context.idempotency_key(),
            trace: TraceContext::current().map(|trace| trace.to_string()),
        }
    }

    /// When the run was due: RFC 3339 in UTC, with milliseconds if there are any.
    pub(super) fn fire_time(&self) -> String {
        // A year that RFC 3339 cannot write is shown as the last one it can.
        const LAST_MS: i64 = 253_402_300_799_999;
        let since = Duration::from_millis(self.fire_ms.clamp(0, LAST_MS).unsigned_abs());
        let at = UNIX_EPOCH + since;
        match since.subsec_millis() {
            0 => humantime::format_rfc3339_seconds(at).to_string(),
            _ => humantime::format_rfc3339_millis(at).to_string(),
        }
    }
}

/// The log of a run.
pub(super) trait Log: Send + Sync {
    fn info(&self, line: &str);
    fn warn(&self, line: &str);
}

impl Log for JobContext {
    fn info(&self, line: &str) {
        Self::info(self, line);
    }

    fn warn(&self, line: &str) {
        Self::warn(self, line);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

    use super::*;

    /// Hands each line to the test: `info ...`, `warn ...`.
    pub(in super::super) struct Lines(UnboundedSender<String>);

    pub(in super::super) fn lines() -> (Lines, UnboundedReceiver<String>) {
        let (sender, receiver) = unbounded_channel();
        (Lines(sender), receiver)
    }

    impl Log for Lines {
        fn info(&self, line: &str) {
            self.0.send(format!("info {line}")).unwrap();
        }

        fn warn(&self, line: &str) {
            self.0.send(format!("warn {line}")).unwrap();
        }
    }

    pub(in super::super) fn attempt() -> Attempt {
        Attempt {
            job: "ping".to_owned(),
            run: "17".to_owned(),
            fire_ms: 1_796_090_400_000,
            epoch: 3,
            number: 2,
            idempotency_key: "ping/cron:1796090400000".to_owned(),
            trace: None,
        }
    }

    #[test]
    fn a_due_time_is_told_in_utc_with_milliseconds_if_there_are_any() {
        let at = |fire_ms| Attempt { fire_ms, ..attempt() }.fire_time();
        assert_eq!(at(1_796_090_400_000), "2026-12-01T02:00:00Z");
        assert_eq!(at(1_796_090_400_250), "2026-12-01T02:00:00.250Z");
        assert_eq!(at(i64::MAX), "9999-12-31T23:59:59.999Z");
    }
}
