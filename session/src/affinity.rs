//! Moves a session to the node that its requests come to.
//!
//! A node that serves a session which another node owns pays a round trip for each request. When [`IN_A_ROW`] requests of the
//! session came here, it asks the owner for it; the owner gives it up if no request came to *it* meanwhile and the session has
//! not moved for a while (`UNDERSTUDY_SESSION_MOVES_PER_MINUTE`). So behind a balancer that spreads requests evenly nothing
//! moves, for each node has some; behind one that sticks, the session follows once. Of several nodes that none of the owner's
//! requests reach, the first to ask gets it, and refuses the others as long as it has requests itself.
//!
//! A move is two steps that were there before: the owner releases the session behind its fence, as it does for one that nobody
//! uses, and the other node claims it. Nothing here is needed for a session to be safe. When the owner dies in between,
//! nobody owns the session, and whoever is asked next claims it; when the node that asked dies, the same. When one of them
//! stands still, its release is refused by the fence, or its claim finds what has become of the session meanwhile. A message
//! that is lost is sent again after some more requests, seldomer each time.
//!
//! The time of the last move is in the memory of the nodes that took part in it, and lost with them: a bound on work, no fence.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::timeout;
use understudy_runtime::bus::BusRequest;
use understudy_runtime::clock::BootInstant;
use understudy_runtime::ids::NodeId;

use crate::actor::{Part, WantSession};
use crate::handle::SessionHandle;
use crate::record::Locator;

/// How many requests of a session come to another node, and none to its owner, before it moves.
pub(crate) const IN_A_ROW: usize = 8;
/// How long an owner gets to answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(1);
/// After so many refusals the owner is not asked seldomer any more: each time 128 requests later.
const SELDOMEST: u32 = 4;

/// The requests of a session at a node that does not own it.
#[derive(Default)]
pub(crate) struct Visits {
    /// When the latest came, each in the place of the one so many before it.
    latest: [AtomicU64; IN_A_ROW],
    count: AtomicU64,
    /// From which count on the owner is asked; `u64::MAX` while it is.
    ask_at: AtomicU64,
    refusals: AtomicU32,
}

impl Visits {
    pub(crate) fn new() -> Self {
        Self { ask_at: AtomicU64::new(IN_A_ROW as u64), ..Self::default() }
    }

    /// Notes a request. Gives when the first of the latest few came, to one caller, if the owner is to be asked now.
    pub(crate) fn note(&self, now: BootInstant) -> Option<BootInstant> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let place = usize::try_from(number % IN_A_ROW as u64).unwrap_or(0);
        self.latest[place].store(now.as_nanos(), Ordering::Relaxed);
        let ask_at = self.ask_at.load(Ordering::Relaxed);
        if number + 1 < ask_at {
            return None;
        }
        self.ask_at
            .compare_exchange(ask_at, u64::MAX, Ordering::Relaxed, Ordering::Relaxed)
            .ok()?;
        let first = self.latest[(place + 1) % IN_A_ROW].load(Ordering::Relaxed);
        Some(BootInstant::from_nanos(first))
    }

    /// The owner keeps it: it is asked again after more requests than before.
    pub(crate) fn refused(&self) {
        let refusals = self.refusals.fetch_add(1, Ordering::Relaxed).min(SELDOMEST);
        self.wait((IN_A_ROW as u64) << refusals);
    }

    /// It is here.
    pub(crate) fn came(&self) {
        self.refusals.store(0, Ordering::Relaxed);
        self.wait(IN_A_ROW as u64);
    }

    fn wait(&self, more: u64) {
        let count = self.count.load(Ordering::Relaxed);
        self.ask_at.store(count.saturating_add(more), Ordering::Relaxed);
    }
}

impl fmt::Debug for Visits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visits").field("count", &self.count).finish_non_exhaustive()
    }
}

/// Asks the owner of a session to give it to the node that asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MoveMessage {
    locator: Locator,
    /// For how long the latest requests came to the node that asks, ms.
    for_ms: u64,
    /// The node that asks; nodes of an earlier version do not say it.
    #[serde(default)]
    node: Option<NodeId>,
}

/// What the owner says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MoveReply {
    /// It has released the session.
    Given,
    /// Requests came to it too.
    Used,
    /// The session has moved just now.
    Recent,
    /// It does not own the session, or has something to do with it.
    Busy,
}

impl MoveMessage {
    /// `since`: when the first of the latest requests came to `node`.
    pub(crate) fn new(
        locator: Locator,
        node: NodeId,
        since: BootInstant,
        now: BootInstant,
    ) -> Self {
        let for_ms = now.saturating_duration_since(since).as_millis();
        Self { locator, for_ms: u64::try_from(for_ms).unwrap_or(u64::MAX), node: Some(node) }
    }
}

impl BusRequest for MoveMessage {
    const NAME: &'static str = "session.move";
    type Reply = MoveReply;
}

impl SessionHandle {
    /// Notes that a request used a session here, whoever owns it; asks its owner for it when it is time.
    pub(crate) fn note_use(&self, locator: Locator) {
        let inner = &self.0;
        if inner.options.move_every.is_none() {
            return;
        }
        let Some(resident) = inner.residents.get(&locator) else { return };
        let now = inner.clock.now();
        if !resident.cell.is_elsewhere(now) {
            return resident.cell.used(now);
        }
        if let Some(since) = resident.cell.visits().note(now)
            && resident.actor.try_send(WantSession { since }).is_err()
        {
            resident.cell.visits().refused();
        }
    }
}

/// Does what [`MoveMessage`] asks for, if it may be.
pub(crate) async fn serve_moves(handle: SessionHandle, message: MoveMessage) -> MoveReply {
    let reply = decide(&handle, &message).await;
    match reply {
        MoveReply::Given => {}
        MoveReply::Used => count_refusal("used"),
        MoveReply::Recent => count_refusal("recent"),
        MoveReply::Busy => count_refusal("busy"),
    }
    reply
}

fn count_refusal(why: &'static str) {
    metrics::counter!("session_moves_refused_total", "why" => why).increment(1);
}

async fn decide(handle: &SessionHandle, message: &MoveMessage) -> MoveReply {
    let inner = &handle.0;
    let Some(every) = inner.options.move_every else { return MoveReply::Busy };
    let found = inner.residents.get(&message.locator).map(|found| found.value().clone());
    let Some(resident) = found.filter(|resident| resident.cell.is_owned()) else {
        return MoveReply::Busy;
    };
    let now = inner.clock.now();
    let last_use = resident.cell.last_use();
    if last_use >= now.saturating_sub(Duration::from_millis(message.for_ms)) {
        return MoveReply::Used;
    }
    if now < resident.cell.settled_until() {
        return MoveReply::Recent;
    }
    let (done, parted) = oneshot::channel();
    let part = Part { to: message.node.clone(), every, last_use, done };
    if resident.actor.try_send(part).is_err() {
        return MoveReply::Busy;
    }
    match timeout(ANSWER, parted).await {
        Ok(Ok(true)) => MoveReply::Given,
        // It is claimed by whoever is asked next.
        Ok(Ok(false) | Err(_)) | Err(_) => MoveReply::Busy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> BootInstant {
        BootInstant::from_nanos(second * 1_000_000_000)
    }

    #[test]
    fn the_owner_is_asked_after_eight_requests_and_seldomer_when_it_refuses() {
        let visits = Visits::new();
        let mut second = 0;
        let mut until_asked = || {
            let mut requests = 0;
            loop {
                (requests, second) = (requests + 1, second + 1);
                if let Some(since) = visits.note(at(second)) {
                    assert_eq!(since, at(second - 7), "the first of the latest eight");
                    return requests;
                }
            }
        };
        let mut asked = Vec::new();
        for _ in 0..7 {
            asked.push(until_asked());
            visits.refused();
        }
        assert_eq!(asked, [8, 8, 16, 32, 64, 128, 128]);
        visits.came();
        assert_eq!(until_asked(), 8);
    }

    #[test]
    fn nobody_asks_while_somebody_does() {
        let visits = Visits::new();
        let asked = (1..100).filter(|second| visits.note(at(*second)).is_some()).count();
        assert_eq!(asked, 1);
    }

    #[test]
    fn a_message_tells_how_long_ago_and_not_when() {
        let node = NodeId::begin("node-a".parse().unwrap());
        let message = MoveMessage::new(Locator::from_bytes([1; 16]), node, at(5), at(7));
        assert_eq!(message.for_ms, 2_000);
    }
}
