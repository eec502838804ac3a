//! In which phase of its life a node is, and why it is not ready: one writer, read on every request.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::sync::watch;

/// The phases of a node's life, in their order; none is ever entered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Phase {
    /// The listeners answer, but not all services have started.
    Starting,
    /// All services have started.
    Running,
    /// The node serves what comes, asks the balancer to send no more, and begins nothing of its own.
    Draining,
    /// No new connection is taken.
    Stopping,
}

/// Why a node is not ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// A stable word: `starting`, `migrating`, `draining`, `database`, `redis`, or the name of a service.
    pub code: String,
    /// More for an operator; shown on the admin port only.
    pub detail: String,
}

impl Reason {
    /// Makes a reason.
    pub fn new(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into() }
    }
}

/// The phase of a node and its reasons for not being ready; a cheap clone, shared by everything in the node.
#[derive(Clone)]
pub struct Lifecycle {
    inner: Arc<Inner>,
}

struct Inner {
    phase: AtomicU8,
    ready: AtomicBool,
    /// How often readiness was judged.
    rounds: AtomicU64,
    changes: watch::Sender<Phase>,
    reasons: ArcSwap<Vec<Reason>>,
}

impl Lifecycle {
    /// Begins the life of a node.
    #[must_use]
    pub fn starting() -> Self {
        let (changes, _) = watch::channel(Phase::Starting);
        let reasons = vec![Reason::new("starting", "the node has just been started")];
        Self {
            inner: Arc::new(Inner {
                phase: AtomicU8::new(Phase::Starting as u8),
                ready: AtomicBool::new(false),
                rounds: AtomicU64::new(0),
                changes,
                reasons: ArcSwap::from_pointee(reasons),
            }),
        }
    }

    /// Returns the phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.inner.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Running,
            2 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Returns whether the node has begun to drain, or is further still.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.inner.phase.load(Ordering::Relaxed) >= Phase::Draining as u8
    }

    /// Returns whether a balancer should send requests here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Running && self.inner.ready.load(Ordering::Acquire)
    }

    /// Returns why the node is not ready; empty when it is.
    #[must_use]
    pub fn reasons(&self) -> Vec<Reason> {
        match self.phase() {
            Phase::Draining | Phase::Stopping => {
                vec![Reason::new("draining", "the node is being stopped")]
            }
            Phase::Starting | Phase::Running => self.inner.reasons.load().as_ref().clone(),
        }
    }

    /// Follows the phase; the receiver also sees the phase of this moment.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Phase> {
        self.inner.changes.subscribe()
    }

    /// Waits until the node has reached the phase, or is further.
    pub async fn reached(&self, phase: Phase) {
        let mut changes = self.subscribe();
        // Fails only when the sender is gone, and it lives as long as self.
        changes.wait_for(|now| *now >= phase).await.ok();
    }

    /// Says what the start is waiting for.
    pub(crate) fn waits_for(&self, code: &str, detail: impl Into<String>) {
        self.inner.reasons.store(Arc::new(vec![Reason::new(code, detail)]));
    }

    /// Replaces the reasons for not being ready; none means ready.
    pub(crate) fn set_reasons(&self, reasons: Vec<Reason>) {
        let ready = reasons.is_empty();
        self.inner.reasons.store(Arc::new(reasons));
        self.inner.ready.store(ready, Ordering::Release);
        self.inner.rounds.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts how often readiness was judged: while the node runs, that it grows shows that the node goes on.
    pub(crate) fn rounds(&self) -> u64 {
        self.inner.rounds.load(Ordering::Relaxed)
    }

    /// Enters a phase; going back is ignored, so that a late "running" cannot undo a drain.
    pub(crate) fn enter(&self, phase: Phase) {
        let before = self.inner.phase.fetch_max(phase as u8, Ordering::AcqRel);
        if before < phase as u8 {
            self.inner.changes.send_replace(self.phase());
        }
    }
}

impl fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle").field("phase", &self.phase()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h1_a_node_is_ready_only_while_it_runs_without_reasons() {
        let life = Lifecycle::starting();
        assert_eq!(life.reasons()[0].code, "starting");
        life.set_reasons(Vec::new());
        assert!(!life.is_ready(), "it has not started");
        life.enter(Phase::Running);
        assert!(life.is_ready());
        life.set_reasons(vec![Reason::new("database", "away")]);
        assert!(!life.is_ready());
        life.set_reasons(Vec::new());
        life.enter(Phase::Draining);
        assert!(!life.is_ready());
        assert_eq!(life.reasons()[0].code, "draining");
    }

    #[test]
    fn a_phase_is_never_entered_again() {
        let life = Lifecycle::starting();
        life.enter(Phase::Draining);
        life.enter(Phase::Running);
        assert_eq!(life.phase(), Phase::Draining);
        assert!(life.is_draining());
    }

    #[tokio::test]
    async fn waiting_for_a_phase_ends_when_it_is_reached_or_passed() {
        let life = Lifecycle::starting();
        let waiting = tokio::spawn({
            let life = life.clone();
            async move { life.reached(Phase::Running).await }
        });
        life.enter(Phase::Stopping);
        waiting.await.unwrap();
        life.reached(Phase::Draining).await;
    }
}
