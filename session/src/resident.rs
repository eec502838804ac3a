//! The sessions in this node's memory, and the way to read one without asking anybody.
//!
//! Each resident session has an actor that owns it, and a [`Cell`] in which the actor publishes the last durable
//! state together with the lease stamp under which it may be trusted. A reader checks the stamp against the lease
//! board *after* it took the snapshot: the moment of that check is the moment of the read (its linearization point),
//! so a pause before or after it does no harm. While a change is on its way to the store, other nodes may see it there
//! before this one is told; so reads wait for its answer then, and no read goes back behind another one.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::Addr;
use arc_swap::ArcSwapOption;
use understudy_runtime::clock::BootInstant;
use understudy_runtime::ids::Bucket;
use understudy_runtime::lease::{LeaseBoard, LeaseStamp};

use crate::actor::SessionActor;
use crate::affinity::Visits;
use crate::engine::{Owned, View};
use crate::record::{Locator, Record};

/// What readers see of a session that this node owns.
#[derive(Debug)]
pub(crate) struct Snapshot {
    record: Arc<Record>,
    stamp: LeaseStamp,
    absolute_at: BootInstant,
    base: (BootInstant, u64),
}

/// The place where an actor publishes, and readers note their accesses.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) locator: Locator,
    pub(crate) bucket: Bucket,
    snapshot: ArcSwapOption<Snapshot>,
    /// A change was sent and its answer has not been published: others may have seen it.
    changing: AtomicBool,
    /// The session was ended at the store: nothing is shown any more, whatever the actor still believes.
    ended: AtomicBool,
    /// The actor knows of no such session, and says so for as long as it is there.
    over: AtomicBool,
    last_access: AtomicU64,
    last_touch: AtomicU64,
    /// When it was last noted that its user is here; 0: not since it is in memory.
    last_seen: AtomicU64,
    elsewhere_until: AtomicU64,
    /// The latest version that a read of the store showed while another node owned the session.
    seen_version: AtomicU64,
    /// How many of this node's requests wait for the actor.
    waiting: AtomicUsize,
    /// The actor is about to go: nothing more may be handed to it.
    given_up: AtomicBool,
    /// Somebody stops the actor: what comes before this moment waits; 0: nothing waits. A wish only; whether it goes is up to
    /// `given_up`.
    held_back: AtomicU64,
    born: BootInstant,
    /// When a request of this node last used the session while no other node was taken for its owner.
    last_use: AtomicU64,
    /// Until then it stays with its owner: it has moved just now.
    settled_until: AtomicU64,
    /// Requests while another node owns it; there from the first of them on.
    visits: OnceLock<Box<Visits>>,
    /// Held by the one request of this node that compares and sets an attribute: of several only one could win.
    pub(crate) comparing: tokio::sync::Mutex<()>,
}

/// A session in memory.
#[derive(Debug, Clone)]
pub(crate) struct Resident {
    pub(crate) cell: Arc<Cell>,
    pub(crate) actor: Addr<SessionActor>,
}

impl Cell {
    pub(crate) fn new(locator: Locator, bucket: Bucket, now: BootInstant) -> Self {
        Self {
            locator,
            bucket,
            snapshot: ArcSwapOption::empty(),
            changing: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            over: AtomicBool::new(false),
            last_access: AtomicU64::new(now.as_nanos()),
            last_touch: AtomicU64::new(now.as_nanos()),
            last_seen: AtomicU64::new(0),
            elsewhere_until: AtomicU64::new(0),
            seen_version: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            given_up: AtomicBool::new(false),
            held_back: AtomicU64::new(0),
            born: now,
            last_use: AtomicU64::new(0),
            settled_until: AtomicU64::new(0),
            visits: OnceLock::new(),
            comparing: tokio::sync::Mutex::new(()),
        }
    }

    /// Shows the session if this node may answer for it at `now`. No access: whoever asks may not have its secret.
    ///
    /// `None` also while a change is on its way; the actor then answers as soon as its fate is known.
    pub(crate) fn view(&self, board: &LeaseBoard, now: BootInstant) -> Option<View> {
        // Before the snapshot is taken: it is published before this is taken back.
        if self.changing.load(Ordering::Acquire) || self.is_ended() {
            return None;
        }
        let snapshot = self.snapshot.load();
        let snapshot = snapshot.as_ref()?;
        let record = &snapshot.record;
        let idle = now.saturating_duration_since(self.last_access());
        let alive = now < snapshot.absolute_at && idle < Duration::from_millis(record.idle_ms);
        if !alive || !board.holds(self.bucket, snapshot.stamp, now) {
            return None;
        }
        Some(View {
            record: Arc::clone(record),
            now_ms: server_ms(snapshot.base, now),
            owner: None,
        })
    }

    /// Publishes what the actor owns, or that it owns nothing.
    pub(crate) fn publish(&self, owned: Option<&Owned>) {
        let Some(owned) = owned else {
            if self.snapshot.load().is_some() {
                self.snapshot.store(None);
            }
            return;
        };
        let unchanged = self.snapshot.load().as_ref().is_some_and(|snapshot| {
            Arc::ptr_eq(&snapshot.record, &owned.record) && snapshot.stamp == owned.held.stamp
        });
        if unchanged {
            return;
        }
        let (at, server_ms) = owned.base;
        let left = Duration::from_millis(owned.record.absolute_ms.saturating_sub(server_ms));
        self.snapshot.store(Some(Arc::new(Snapshot {
            record: Arc::clone(&owned.record),
            stamp: owned.held.stamp,
            absolute_at: at + left,
            base: owned.base,
        })));
    }

    /// Says whether this node owns the session as far as it knows, though it may not be able to answer for it right now.
    pub(crate) fn is_owned(&self) -> bool {
        self.snapshot.load().is_some()
    }

    /// To be called when the session was ended at the store: whoever looks from now on is shown nothing.
    pub(crate) fn end(&self) {
        // First this: an actor that is just publishing may do so after the next line.
        self.ended.store(true, Ordering::SeqCst);
        self.snapshot.store(None);
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// To be called when the actor has found that there is no such session.
    pub(crate) fn set_over(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Whether the actor refuses everything from now on. Only what can begin again under the same locator, a child, needs
    /// another actor then; this one never writes any more.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst) || self.is_ended()
    }

    /// To be called before a change is sent.
    pub(crate) fn begin_change(&self) {
        self.changing.store(true, Ordering::Release);
    }

    /// To be called after what came of the changes was published.
    pub(crate) fn end_change(&self) {
        if self.changing.load(Ordering::Relaxed) {
            self.changing.store(false, Ordering::Release);
        }
    }

    pub(crate) fn last_access(&self) -> BootInstant {
        BootInstant::from_nanos(self.last_access.load(Ordering::Relaxed))
    }

    /// Notes an access; never goes back.
    pub(crate) fn accessed(&self, at: BootInstant) {
        self.last_access.fetch_max(at.as_nanos(), Ordering::Relaxed);
    }

    /// Notes that a request of this node used it here.
    pub(crate) fn used(&self, at: BootInstant) {
        self.last_use.store(at.as_nanos(), Ordering::Relaxed);
    }

    pub(crate) fn last_use(&self) -> BootInstant {
        BootInstant::from_nanos(self.last_use.load(Ordering::Relaxed))
    }

    /// Notes that it has moved, to this node or away from it, and is not to move again until then.
    pub(crate) fn settle(&self, until: BootInstant) {
        self.settled_until.store(until.as_nanos(), Ordering::Relaxed);
    }

    pub(crate) fn settled_until(&self) -> BootInstant {
        BootInstant::from_nanos(self.settled_until.load(Ordering::Relaxed))
    }

    /// The requests of this node while another one owns it.
    pub(crate) fn visits(&self) -> &Visits {
        self.visits.get_or_init(|| Box::new(Visits::new()))
    }

    /// Says, to one caller per `interval`, that the access should be written down at the store.
    pub(crate) fn touch_is_due(&self, now: BootInstant, interval: Duration) -> bool {
        let last = self.last_touch.load(Ordering::Relaxed);
        let due = now.saturating_duration_since(BootInstant::from_nanos(last)) >= interval;
        due && self
            .last_touch
            .compare_exchange(last, now.as_nanos(), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Says, to one caller per `interval`, that it should be noted that somebody is here. Not the same as
    /// [`Self::touch_is_due`]: a session that is written to often is never touched.
    pub(crate) fn seen_is_due(&self, now: BootInstant, interval: Duration) -> bool {
        let last = self.last_seen.load(Ordering::Relaxed);
        let since = now.saturating_duration_since(BootInstant::from_nanos(last));
        let due = last == 0 || since >= interval;
        due && self
            .last_seen
            .compare_exchange(last, now.as_nanos(), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Notes that the store was just told of an access.
    pub(crate) fn touched(&self, at: BootInstant) {
        self.last_touch.fetch_max(at.as_nanos(), Ordering::Relaxed);
    }

    /// Until when another node is taken for the owner, so that reads go to the store.
    pub(crate) fn set_elsewhere(&self, until: Option<BootInstant>) {
        self.elsewhere_until.store(until.map_or(0, BootInstant::as_nanos), Ordering::Relaxed);
    }

    /// Notes what a read of the store showed.
    pub(crate) fn saw_version(&self, version: u64) {
        self.seen_version.fetch_max(version, Ordering::Relaxed);
    }

    pub(crate) fn seen_version(&self) -> u64 {
        self.seen_version.load(Ordering::Relaxed)
    }

    /// To be held from before a job is handed to the actor until its answer is there.
    pub(crate) fn wait(&self) -> WaitingFor<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        WaitingFor(self)
    }

    /// Gives the session up, unless somebody waits for its actor; says whether it did. Of two actors of one session on one
    /// node, the elder could write what the younger one does not know; so the elder gets nothing to do any more. Whoever
    /// counts himself as waiting sees this afterwards, or is seen here.
    pub(crate) fn give_up(&self) -> bool {
        self.given_up.store(true, Ordering::SeqCst);
        let free = !self.is_waited_for();
        if !free {
            self.given_up.store(false, Ordering::SeqCst);
        }
        free
    }

    /// Has new requests wait until the guard is dropped, so that the actor comes to an end of those that it has; and not
    /// longer than until `until`, also when whoever holds the guard gets no turn in time. That must be sooner than a request
    /// gives up looking for an actor, or it would be told that the session is busy.
    pub(crate) fn hold_back(&self, until: BootInstant) -> HeldBack<'_> {
        self.held_back.store(until.as_nanos(), Ordering::SeqCst);
        HeldBack(self)
    }

    /// Whether requests wait; the time is asked for only while somebody stops the actor.
    pub(crate) fn is_held_back(&self, now: impl FnOnce() -> BootInstant) -> bool {
        let until = self.held_back.load(Ordering::Relaxed);
        until > 0 && now().as_nanos() < until
    }

    /// When the actor was started.
    pub(crate) fn born(&self) -> BootInstant {
        self.born
    }

    /// Whether a change was sent of which the answer is not here.
    pub(crate) fn is_changing(&self) -> bool {
        self.changing.load(Ordering::Relaxed)
    }

    /// The copy that readers see; none when this node owns nothing.
    pub(crate) fn copy(&self) -> Option<Arc<Record>> {
        self.snapshot.load().as_ref().map(|snapshot| Arc::clone(&snapshot.record))
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }

    /// Whether the actor has, or may be about to get, something to do. Whoever looks after having said that nothing more
    /// may be begun misses nobody: who has not read that yet is counted already.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// How many requests of this node wait for the actor.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn is_elsewhere(&self, now: BootInstant) -> bool {
        now.as_nanos() < self.elsewhere_until.load(Ordering::Relaxed)
    }
}

/// One who waits for the actor of a session; ends when dropped.
#[derive(Debug)]
pub(crate) struct WaitingFor<'a>(&'a Cell);

impl Drop for WaitingFor<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// New requests wait; ends when dropped.
#[derive(Debug)]
pub(crate) struct HeldBack<'a>(&'a Cell);

impl Drop for HeldBack<'_> {
    fn drop(&mut self) {
        self.0.held_back.store(0, Ordering::SeqCst);
    }
}

fn server_ms(base: (BootInstant, u64), now: BootInstant) -> u64 {
    let passed = now.saturating_duration_since(base.0).as_millis();
    base.1.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use understudy_runtime::ids::NodeId;

    use super::*;
    use crate::ownership::Held;
    use crate::record::{Attributes, Fence, RecentOps, Seal, SecretHash, Token};

    fn owned(board: &LeaseBoard, now: BootInstant) -> Owned {
        let token = Token::new(&NodeId::begin("a".parse().unwrap()));
        let record = Record {
            owner: Some(token.clone()),
            epoch: 1,
            version: 1,
            last_op: None,
            created_ms: 0,
            absolute_ms: 1_000_000,
            last_access_ms: 0,
            idle_ms: 100_000,
            user: None,
            secret: SecretHash([1; 32]),
            previous_secret: None,
            attributes: Arc::new(Attributes::new()),
            recent: RecentOps::default(),
            unknown: std::collections::BTreeMap::new(),
            seal: Seal::Open,
        };
        let stamp = board.current(Bucket(0), now).unwrap();
        let held = Held { fence: Fence { token, epoch: 1 }, stamp, version: 1 };
        Owned { held, record: Arc::new(record), base: (now, 0) }
    }

    #[test]
    fn nobody_reads_from_memory_while_a_change_is_on_its_way() {
        let (board, now) = (LeaseBoard::always(), BootInstant::from_nanos(1_000_000));
        let cell = Cell::new(Locator::random(), Bucket(0), now);
        assert!(cell.view(&board, now).is_none(), "nothing was published");
        cell.publish(Some(&owned(&board, now)));
        assert!(cell.view(&board, now).is_some());
        cell.begin_change();
        assert!(cell.view(&board, now).is_none());
        cell.publish(Some(&owned(&board, now)));
        assert!(cell.view(&board, now).is_none(), "the next change may have been sent already");
        cell.end_change();
        assert!(cell.view(&board, now).is_some());
    }

    #[test]
    fn s7_nothing_is_shown_of_a_session_that_was_ended_whatever_is_published() {
        let (board, now) = (LeaseBoard::always(), BootInstant::from_nanos(1_000_000));
        let cell = Cell::new(Locator::random(), Bucket(0), now);
        cell.publish(Some(&owned(&board, now)));
        cell.end();
        assert!(cell.view(&board, now).is_none());
        cell.publish(Some(&owned(&board, now)));
        assert!(cell.view(&board, now).is_none(), "the actor has not heard yet");
    }

    #[test]
    fn u9_an_actor_that_is_being_stopped_is_open_again_afterwards() {
        let cell = Cell::new(Locator::random(), Bucket(0), BootInstant::from_nanos(1));
        let waiting = cell.wait();
        let at = BootInstant::from_nanos;
        let held_back = cell.hold_back(at(5));
        assert!(
            cell.is_held_back(|| at(4)) && !cell.give_up(),
            "to hold back others does not end who waits"
        );
        assert!(!cell.is_held_back(|| at(5)), "not for longer, whoever still holds the guard");
        drop(held_back);
        assert!(!cell.is_held_back(|| at(4)) && !cell.is_given_up());
        drop(waiting);
    }

    #[test]
    fn an_actor_that_somebody_waits_for_does_not_go() {
        let cell = Cell::new(Locator::random(), Bucket(0), BootInstant::from_nanos(1));
        let waiting = cell.wait();
        assert!(!cell.give_up());
        assert!(!cell.is_given_up(), "it stays");
        drop(waiting);
        assert!(cell.give_up());
        assert!(cell.is_given_up(), "whoever comes now looks for another actor");
    }
}
