//! One actor, for operators: how it is, and stopping it.
//!
//! To stop an actor is to passivate it before its time. New requests wait for a moment, those that it has are answered,
//! the store hears that the session is nobody's, and the actor goes; whoever asks next starts another one, here or on
//! another node. What was acknowledged is at the store since before, so nothing can be lost: neither when the node dies in
//! between, nor when it stands still, for then the lease ends by itself.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};
use understudy_runtime::bus::BusRequest;
use understudy_runtime::clock::BootInstant;

use super::SessionHandle;
use crate::actor::HandBack;
use crate::record::Locator;
use crate::resident::Resident;

/// How long requests are held back at a time: a good deal less than they look for an actor.
const HELD_BACK: Duration = Duration::from_millis(40);
/// How long they are let in before the next attempt.
const LET_IN: Duration = Duration::from_millis(20);
/// How long it is tried; whoever asks over the bus waits a little longer.
const LIMIT: Duration = Duration::from_secs(1);
/// How often it is looked whether somebody still waits.
const LOOK: Duration = Duration::from_millis(1);

/// Asks a node how its actor of a session is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LookAtActor {
    pub(crate) locator: Locator,
}

impl BusRequest for LookAtActor {
    const NAME: &'static str = "session.look_at_actor";
    type Reply = Option<ActorState>;
}

/// Asks a node to stop its actor of a session.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StopActor {
    pub(crate) locator: Locator,
}

impl BusRequest for StopActor {
    const NAME: &'static str = "session.stop_actor";
    type Reply = Stopped;
}

/// How an actor is; nothing of what the session holds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ActorState {
    /// Whether it has a copy from which this node may answer.
    owns: bool,
    /// Version and epoch of that copy.
    version: Option<u64>,
    epoch: Option<u64>,
    /// How many requests of this node wait for it.
    waiting: u64,
    /// Whether a change is on its way to the store.
    changing: bool,
    age_ms: u64,
    idle_ms: u64,
}

/// What became of an attempt to stop an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stopped {
    /// It is gone, or it goes as soon as the store has answered.
    Gone,
    /// There is none on this node.
    NotHere,
    /// It had something to do all the time.
    Busy,
}

/// Looks at an actor of this node.
pub(crate) fn look_at_actor(handle: &SessionHandle, locator: Locator) -> Option<ActorState> {
    let inner = &handle.0;
    let cell = inner.residents.get(&locator).map(|resident| Arc::clone(&resident.cell))?;
    let now = inner.clock.now();
    let ms = |since: BootInstant| -> u64 {
        let passed = now.saturating_duration_since(since).as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX)
    };
    let copy = cell.copy();
    Some(ActorState {
        owns: copy.is_some(),
        version: copy.as_ref().map(|copy| copy.version),
        epoch: copy.as_ref().map(|copy| copy.epoch),
        waiting: u64::try_from(cell.waiting()).unwrap_or(u64::MAX),
        changing: cell.is_changing(),
        age_ms: ms(cell.born()),
        idle_ms: ms(cell.last_access()),
    })
}

/// Stops an actor of this node.
pub(crate) async fn stop_actor(handle: SessionHandle, locator: Locator) -> Stopped {
    let until = Instant::now() + LIMIT;
    let found = handle.0.residents.get(&locator).map(|resident| Resident::clone(&resident));
    let Some(resident) = found else { return Stopped::NotHere };
    while is_here(&handle, &resident) {
        attempt(&resident, handle.0.clock.now()).await;
        if Instant::now() >= until {
            break;
        }
        if is_here(&handle, &resident) {
            sleep(LET_IN).await;
        }
    }
    if is_here(&handle, &resident) { Stopped::Busy } else { Stopped::Gone }
}

/// Whether an actor of this node is still the one of its session. An actor that tries to give its session up looks for an
/// instant as if it had; one that has is out of the map, for good.
fn is_here(handle: &SessionHandle, resident: &Resident) -> bool {
    let found = handle.0.residents.get(&resident.cell.locator);
    found.is_some_and(|found| Arc::ptr_eq(&found.cell, &resident.cell))
}

/// Lets nobody in for a moment, waits until nobody waits any more, and asks the actor to go.
async fn attempt(resident: &Resident, now: BootInstant) {
    let _held_back = resident.cell.hold_back(now + HELD_BACK);
    let goes = async {
        while resident.cell.is_waited_for() {
            sleep(LOOK).await;
        }
        // An actor that is gone answers at once. One that is just occupied does not hear it any more when the moment is over:
        // what nobody waits for is dropped from a mailbox.
        resident.actor.send(HandBack).await.ok();
    };
    timeout(HELD_BACK, goes).await.ok();
}

#[cfg(test)]
mod tests;
