//! What happens in the cluster, as a stream of words: each says that something of its kind changed, so that a page or a
//! program knows when to read it again. Nothing is kept: who was not there, or was too slow, reads everything.
//!
//! Each node sees by itself who belongs to the cluster, who leads and which settings are in force. Of what only one node
//! sees (a run began there, somebody did something on its admin port) it tells the others, but only those on which
//! somebody is watching: they say so every few seconds. While nobody watches anywhere an event costs one look at a
//! counter.
//!
//! At most one event of a kind leaves in [`STEP`]; what happens meanwhile leaves as one at its end.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast};

use crate::bus::{Bus, BusRequest};
use crate::clock::{BootInstant, SharedClock};
use crate::ids::NodeId;
use crate::membership::{MemberState, Membership};
use crate::supervise::{Stopped, Supervised, spawn};

#[cfg(test)]
mod tests;

/// How long events of a kind are collected after one has left.
const STEP: Duration = Duration::from_millis(500);
/// How many events a watcher may be behind before it has to read everything again.
const BEHIND: usize = 64;
/// How often a node says that somebody is watching on it, and how long that counts.
const SAY_AGAIN: Duration = Duration::from_secs(5);
const COUNTS_FOR: Duration = Duration::from_secs(15);
/// How many may watch on one node.
pub const MOST_WATCHERS: usize = 100;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EventKind {
    /// A node came, went, or is in another state.
    Nodes,
    /// Another node leads, or none.
    Leader,
    /// There are other problems than before.
    Problems,
    /// A setting changed, the maintenance mode among them.
    Settings,
    /// A run began or ended.
    Jobs,
    /// Somebody did something on an admin port, or was refused.
    Audit,
}

/// All kinds, in the order of their numbers.
pub const EVENT_KINDS: [EventKind; 6] = [
    EventKind::Nodes,
    EventKind::Leader,
    EventKind::Problems,
    EventKind::Settings,
    EventKind::Jobs,
    EventKind::Audit,
];

impl EventKind {
    /// Returns its name: `nodes`, `leader`, `problems`, `settings`, `jobs` or `audit`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Leader => "leader",
            Self::Problems => "problems",
            Self::Settings => "settings",
            Self::Jobs => "jobs",
            Self::Audit => "audit",
        }
    }

    fn of(name: &str) -> Option<Self> {
        EVENT_KINDS.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether only the node where it happens knows.
    const fn is_told(self) -> bool {
        match self {
            Self::Nodes | Self::Leader | Self::Settings => false,
            Self::Problems | Self::Jobs | Self::Audit => true,
        }
    }
}

/// One event, as those who watch get it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub kind: EventKind,
    /// When it left, ms since 1970 by the clock of the node that is watched.
    pub at_ms: u64,
}

/// Where events are sent and watched; a cheap clone.
#[derive(Clone)]
pub struct Events {
    inner: Arc<Inner>,
}

struct Inner {
    clock: SharedClock,
    hub: broadcast::Sender<Event>,
    /// Here, and to the other nodes.
    shown: [Gate; EVENT_KINDS.len()],
    told: [Gate; EVENT_KINDS.len()],
    watchers: AtomicUsize,
    first_watcher: Notify,
    /// On which other nodes somebody watches, and how long that counts.
    elsewhere: DashMap<NodeId, BootInstant>,
    ways: OnceLock<Ways>,
}

/// What is there only after the start.
struct Ways {
    bus: Bus,
    home: Handle,
}

/// Lets one event through, and collects what comes in the time after it.
#[derive(Default)]
struct Gate {
    /// When the last one left, in ns since boot; 0: never.
    last: AtomicU64,
    /// Whether one will leave at the end of the step.
    waiting: AtomicBool,
}

/// What is to be done with an event.
#[derive(Debug, PartialEq, Eq)]
enum Pass {
    Now,
    /// After so long.
    Later(Duration),
    /// One that waits stands for it.
    Collected,
}

/// Which way an event goes.
#[derive(Clone, Copy)]
enum Way {
    Here,
    Elsewhere,
}

/// Somebody watches on the node that sends this.
#[derive(Debug, Serialize, Deserialize)]
struct SomebodyWatches {}

impl BusRequest for SomebodyWatches {
    const NAME: &'static str = "events.somebody_watches";
    type Reply = ();
}

/// Something happened on the node that sends this. A kind that this program does not know is passed over.
#[derive(Debug, Serialize, Deserialize)]
struct Happened {
    kind: String,
}

impl BusRequest for Happened {
    const NAME: &'static str = "events.happened";
    type Reply = ();
}

impl Events {
    pub(crate) fn new(clock: SharedClock) -> Self {
        let (hub, _) = broadcast::channel(BEHIND);
        let inner = Inner {
            clock,
            hub,
            shown: Default::default(),
            told: Default::default(),
            watchers: AtomicUsize::new(0),
            first_watcher: Notify::new(),
            elsewhere: DashMap::new(),
            ways: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Says that something happened. Cheap, never waits, and may be called on any thread.
    pub fn send(&self, kind: EventKind) {
        self.pass(kind, Way::Here);
        if kind.is_told() {
            self.pass(kind, Way::Elsewhere);
        }
    }

    /// Begins to watch; `None` when [`MOST_WATCHERS`] already do.
    #[must_use]
    pub fn watch(&self) -> Option<Watching> {
        let watchers = &self.inner.watchers;
        let entered = watchers.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
            (count < MOST_WATCHERS).then_some(count + 1)
        });
        entered.ok()?;
        let place = Place(Arc::clone(&self.inner));
        self.inner.first_watcher.notify_one();
        Some(Watching { events: self.inner.hub.subscribe(), _place: place })
    }

    /// Connects to the other nodes, and follows the list of them.
    pub(crate) fn connect(&self, bus: &Bus, membership: &Membership) -> Supervised {
        self.inner.ways.get_or_init(|| Ways { bus: bus.clone(), home: Handle::current() });
        self.listen(bus);
        let (events, bus, membership) = (self.clone(), bus.clone(), membership.clone());
        spawn("events", move || {
            let (events, bus, membership) = (events.clone(), bus.clone(), membership.clone());
            async move {
                tokio::join!(
                    events.follow(&membership),
                    events.say_that_somebody_watches(&bus, &membership)
                );
                Stopped::Asked
            }
        })
    }

    fn listen(&self, bus: &Bus) {
        let wanted = Arc::downgrade(&self.inner);
        bus.handle(move |from, SomebodyWatches {}| {
            if let Some(inner) = wanted.upgrade() {
                inner.elsewhere.insert(from, inner.clock.now() + COUNTS_FOR);
            }
            std::future::ready(())
        });
        let happened = Arc::downgrade(&self.inner);
        bus.handle(move |_from, Happened { kind }| {
            if let (Some(inner), Some(kind)) = (happened.upgrade(), EventKind::of(&kind)) {
                Self { inner }.pass(kind, Way::Here);
            }
            std::future::ready(())
        });
    }

    /// A new list comes with every report; only one that reads differently is an event.
    async fn follow(&self, membership: &Membership) {
        let mut changes = membership.changes();
        let mut shown = digest(membership);
        while changes.changed().await.is_ok() {
            let now = digest(membership);
            if now != shown {
                shown = now;
                self.send(EventKind::Nodes);
            }
        }
    }

    async fn say_that_somebody_watches(&self, bus: &Bus, membership: &Membership) {
        loop {
            if self.inner.watchers.load(Ordering::Acquire) == 0 {
                self.inner.first_watcher.notified().await;
                continue;
            }
            for node in membership.live() {
                if node != *bus.node_id() {
                    bus.send(&node, &SomebodyWatches {});
                }
            }
            tokio::time::sleep(SAY_AGAIN).await;
        }
    }

    fn pass(&self, kind: EventKind, way: Way) {
        if !self.is_wanted(way) {
            return;
        }
        let now = self.inner.clock.now();
        match self.gate(kind, way).pass(now) {
            Pass::Now => self.leave(kind, way),
            Pass::Collected => {}
            Pass::Later(wait) => {
                // While the node starts nothing is collected.
                let Some(ways) = self.inner.ways.get() else {
                    return self.leave_at_last(kind, way);
                };
                let events = self.clone();
                ways.home.spawn(async move {
                    tokio::time::sleep(wait).await;
                    events.leave_at_last(kind, way);
                });
            }
        }
    }

    fn leave_at_last(&self, kind: EventKind, way: Way) {
        self.gate(kind, way).open(self.inner.clock.now());
        self.leave(kind, way);
    }

    fn is_wanted(&self, way: Way) -> bool {
        match way {
            Way::Here => self.inner.watchers.load(Ordering::Acquire) > 0,
            Way::Elsewhere => !self.inner.elsewhere.is_empty(),
        }
    }

    fn gate(&self, kind: EventKind, way: Way) -> &Gate {
        let gates = match way {
            Way::Here => &self.inner.shown,
            Way::Elsewhere => &self.inner.told,
        };
        &gates[kind as usize]
    }

    fn leave(&self, kind: EventKind, way: Way) {
        match way {
            Way::Here => {
                let at_ms = self.inner.clock.wall_ms();
                // Fails when the last one has just gone away.
                self.inner.hub.send(Event { kind, at_ms }).ok();
            }
            Way::Elsewhere => {
                let Some(ways) = self.inner.ways.get() else { return };
                let now = self.inner.clock.now();
                self.inner.elsewhere.retain(|_, until| now < *until);
                for node in self.inner.elsewhere.iter() {
                    ways.bus.send(node.key(), &Happened { kind: kind.as_str().to_owned() });
                }
            }
        }
    }
}

impl Gate {
    fn pass(&self, now: BootInstant) -> Pass {
        let now = now.as_nanos().max(1);
        let last = self.last.load(Ordering::Acquire);
        let since = Duration::from_nanos(now.saturating_sub(last));
        if last == 0 || since >= STEP {
            let left = self.last.compare_exchange(last, now, Ordering::AcqRel, Ordering::Acquire);
            if left.is_ok() {
                return Pass::Now;
            }
        }
        // Whoever finds nobody waiting waits; also when another one has left in this very moment.
        if self.waiting.swap(true, Ordering::AcqRel) {
            return Pass::Collected;
        }
        Pass::Later(STEP.saturating_sub(since))
    }

    /// The step is over. First the mark: what happens from here on is not in the event that leaves now.
    fn open(&self, now: BootInstant) {
        self.waiting.store(false, Ordering::Release);
        self.last.store(now.as_nanos().max(1), Ordering::Release);
    }
}

/// What makes two lists of nodes differ for those who look at them.
fn digest(membership: &Membership) -> Vec<(NodeId, MemberState, bool)> {
    let members = membership.members();
    members
        .iter()
        .map(|member| (member.record.id.clone(), member.record.state, member.live))
        .collect()
}

/// Somebody who watches; ends when dropped.
#[derive(Debug)]
pub struct Watching {
    events: broadcast::Receiver<Event>,
    _place: Place,
}

/// What somebody who watches sees next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Something happened.
    Event(Event),
    /// So many events were missed: everything must be read again.
    Missed(u64),
}

impl Watching {
    /// Waits for the next event; `None` when there will be none any more. May be dropped while it waits.
    pub async fn next(&mut self) -> Option<Seen> {
        match self.events.recv().await {
            Ok(event) => Some(Seen::Event(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Seen::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

struct Place(Arc<Inner>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let watchers = self.inner.watchers.load(Ordering::Relaxed);
        f.debug_struct("Events").field("watchers", &watchers).finish_non_exhaustive()
    }
}
