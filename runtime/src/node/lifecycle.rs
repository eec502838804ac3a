//! In which phase of its life a node is, whether an operator has taken it out of service, and why it is not ready: few
//! writers, read on every request.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::membership::Drained;

/// The phases of a node's life, in their order; none is ever entered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// A stable word: `starting`, `migrating`, `draining`, `drained`, `database`, `redis`, or the name of a service.
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
    /// Whether `drained` has something, to be read on every request.
    out: AtomicBool,
    drained: watch::Sender<Option<Drained>>,
    stop: CancellationToken,
    stop_asked: AtomicBool,
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
                out: AtomicBool::new(false),
                drained: watch::Sender::new(None),
                stop: CancellationToken::new(),
                stop_asked: AtomicBool::new(false),
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

    /// Returns whether requests should go elsewhere: the node has begun to drain, or an operator has taken it out of
    /// service.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.is_draining() || self.inner.out.load(Ordering::Relaxed)
    }

    /// Returns whether a balancer should send requests here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Running
            && self.inner.ready.load(Ordering::Acquire)
            && !self.inner.out.load(Ordering::Acquire)
    }

    /// Returns whether the node may begin work of its own, such as leading and jobs: not while an operator has it out of
    /// service, and not once it is to stop.
    #[must_use]
    pub fn takes_work(&self) -> bool {
        self.phase() < Phase::Draining
            && !self.inner.out.load(Ordering::Acquire)
            && !self.is_stop_asked()
    }

    /// Returns who has taken the node out of service, if somebody has.
    #[must_use]
    pub fn drained(&self) -> Option<Drained> {
        self.inner.drained.borrow().clone()
    }

    /// Follows whether the node is out of service; the receiver also sees what is the case at this moment.
    #[must_use]
    pub fn subscribe_drained(&self) -> watch::Receiver<Option<Drained>> {
        self.inner.drained.subscribe()
    }

    /// Returns whether the process was asked to stop by an operator.
    #[must_use]
    pub fn is_stop_asked(&self) -> bool {
        self.inner.stop_asked.load(Ordering::Acquire)
    }

    /// Waits until the node is to stop because an operator has asked for it; whoever runs the node then stops it.
    pub async fn stop_begins(&self) {
        self.inner.stop.cancelled().await;
    }

    /// Returns why the node is not ready; empty when it is.
    #[must_use]
    pub fn reasons(&self) -> Vec<Reason> {
        match self.phase() {
            Phase::Draining | Phase::Stopping => {
                vec![Reason::new("draining", "the node is being stopped")]
            }
            Phase::Starting | Phase::Running => {
                let drained = self.inner.drained.borrow().as_ref().map(reason_of);
                drained.into_iter().chain(self.inner.reasons.load().iter().cloned()).collect()
            }
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

    /// Takes the node out of service, or back into it.
    pub(crate) fn set_drained(&self, drained: Option<Drained>) {
        let out = drained.is_some();
        // Within the change, so that of two operators the same one comes last in both.
        self.inner.drained.send_modify(|known| {
            self.inner.out.store(out, Ordering::Release);
            *known = drained;
        });
    }

    /// Notes that the process is to stop, without beginning with it: from now on nothing is begun here.
    pub(crate) fn ask_to_stop(&self) {
        self.inner.stop_asked.store(true, Ordering::Release);
    }

    /// Has whoever runs the node stop it.
    pub(crate) fn begin_stop(&self) {
        self.ask_to_stop();
        self.inner.stop.cancel();
    }

    /// Enters a phase; going back is ignored, so that a late "running" cannot undo a drain.
    pub(crate) fn enter(&self, phase: Phase) {
        let before = self.inner.phase.fetch_max(phase as u8, Ordering::AcqRel);
        if before < phase as u8 {
            self.inner.changes.send_replace(self.phase());
        }
    }
}

fn reason_of(drained: &Drained) -> Reason {
    let Drained { by, why, .. } = drained;
    Reason::new("drained", format!("taken out of service by {by}: {why}"))
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

    #[test]
    fn h9_a_node_that_is_out_of_service_is_not_ready_and_begins_nothing() {
        let life = Lifecycle::starting();
        life.set_reasons(Vec::new());
        life.enter(Phase::Running);
        assert!(life.takes_work() && !life.is_leaving());
        let drained = Drained { by: "mary".to_owned(), why: "disk".to_owned(), at_ms: 7 };
        life.set_drained(Some(drained.clone()));
        assert!(!life.is_ready() && life.is_leaving() && !life.takes_work());
        assert!(!life.is_draining(), "it does not stop");
        assert_eq!(life.drained(), Some(drained));
        life.set_reasons(vec![Reason::new("database", "away")]);
        let codes: Vec<String> = life.reasons().into_iter().map(|reason| reason.code).collect();
        assert_eq!(codes, ["drained", "database"]);
        life.set_reasons(Vec::new());
        assert!(!life.is_ready(), "what the monitor finds does not put it back");
        life.set_drained(None);
        assert!(life.is_ready() && life.takes_work() && life.reasons().is_empty());
    }

    #[tokio::test]
    async fn h9_a_node_that_was_asked_to_stop_begins_nothing_and_then_stops() {
        let life = Lifecycle::starting();
        life.set_reasons(Vec::new());
        life.enter(Phase::Running);
        life.ask_to_stop();
        assert!(life.is_ready() && !life.takes_work() && life.is_stop_asked());
        let mut stops = Box::pin(life.stop_begins());
        assert!(futures_util::poll!(stops.as_mut()).is_pending(), "the answer is not sent yet");
        life.begin_stop();
        stops.await;
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
