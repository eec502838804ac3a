//! How the rest of a node reaches sessions: look at one, change one, begin one, end one.
//!
//! A handle is cheap to clone and may be used from any thread. It finds the actor of a session, starts one if there is
//! none, and bounds every wait.

mod actors;
mod begin;
mod children;
mod ending;

use std::fmt;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::prelude::*;
use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::sync::oneshot;
use understudy_runtime::actors::Probe;
use understudy_runtime::bus::Bus;
use understudy_runtime::clock::{BootInstant, SharedClock};
use understudy_runtime::ids::NodeId;
use understudy_runtime::keys::KeySpace;
use understudy_runtime::lease::LeaseBoard;

use crate::actor::{SessionActor, Submit};
use crate::engine::{Answer, Engine, Job, Refusal, Reply, Trace, View, Work};
use crate::error::SessionError;
use crate::keyring::KeyRing;
use crate::kin::{Endings, Kin};
use crate::listener::Listener;
use crate::metrics::Counters;
use crate::options::SessionOptions;
use crate::realtime::{Realtime, Topic};
use crate::record::{Locator, Record, SecretHash, Token};
use crate::resident::{Cell, Resident};
use crate::schema::Schemas;
use crate::shards::Worker;
use crate::state::{Ask, Op, Outcome, Task, opens};
use crate::store::{ReadReply, SharedStore, StoreError};
use crate::users::SessionLimitExceeded;

/// How often an actor is looked for that goes just when it is wanted: once a millisecond, and it leaves in less.
const HANDS: usize = 100;
/// A read that fails sooner did not wait for a silent store: its connection broke.
const BROKE_WITHIN: Duration = Duration::from_millis(200);

/// Whether a request uses a session, or only looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// It lives on for that.
    Use,
    /// It does not.
    Look,
}

/// What the actors of one thread share.
#[derive(Clone)]
pub(crate) struct Shard {
    pub(crate) arbiter: ArbiterHandle,
    pub(crate) store: SharedStore,
    pub(crate) clock: SharedClock,
    pub(crate) board: LeaseBoard,
    pub(crate) bus: Bus,
    pub(crate) options: Arc<SessionOptions>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) residents: Arc<DashMap<Locator, Resident>>,
    pub(crate) closed: Arc<AtomicBool>,
    /// Where its actors count what they do.
    pub(crate) probe: Probe,
    /// Hears of sessions that have ended.
    pub(crate) endings: Endings,
}

impl Shard {
    /// Says whether this node hands its sessions over: peers are told to look elsewhere.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Notes that somebody is here, without making the request wait for it; if that fails, the next interval tries again.
    /// A child is nobody by itself.
    pub(crate) fn note_seen(&self, locator: Locator, record: &Record) {
        if record.is_child() {
            return;
        }
        let (store, user) = (Arc::clone(&self.store), record.user.as_deref().map(str::to_owned));
        self.arbiter.spawn(async move {
            if let Err(error) = store.seen(locator, user.as_deref()).await {
                tracing::debug!(%error, "it was not noted that somebody is here");
            }
        });
    }

    /// Takes the session out of the map, unless another actor has its place already.
    pub(crate) fn forget(&self, cell: &Arc<Cell>) {
        self.residents.remove_if(&cell.locator, |_, resident| Arc::ptr_eq(&resident.cell, cell));
    }
}

pub(crate) use actors::{ActorState, LookAtActor, StopActor, Stopped, look_at_actor, stop_actor};
pub(crate) use children::{ChildBegan, ChildId};
pub use ending::EndError;
pub(crate) use ending::{EndedMessage, Ends, serve_ends, to_its_end};

/// Reaches the sessions of the cluster from this node; an extractor.
#[derive(Clone)]
pub struct SessionHandle(pub(crate) Arc<Inner>, pub(crate) Option<Arc<Worker>>);

pub(crate) struct Inner {
    pub(crate) node_id: NodeId,
    pub(crate) clock: SharedClock,
    pub(crate) board: LeaseBoard,
    pub(crate) keys: Arc<KeySpace>,
    pub(crate) options: Arc<SessionOptions>,
    pub(crate) keyring: KeyRing,
    pub(crate) counters: Arc<Counters>,
    pub(crate) residents: Arc<DashMap<Locator, Resident>>,
    pub(crate) shards: Vec<Arc<Shard>>,
    pub(crate) workers: ArcSwap<Vec<Arc<Worker>>>,
    pub(crate) closed: Arc<AtomicBool>,
    /// Sessions that this node is just putting into the store.
    pub(crate) beginning: DashMap<Locator, ()>,
    /// How long a node's lease lasts without a renewal.
    pub(crate) lease_ttl: Duration,
    pub(crate) bus: Bus,
    /// Where the keeper tells how many sessions there are, and what waits for them.
    pub(crate) probe: Probe,
    /// Whether the latest look found a key that all living nodes know.
    pub(crate) key_agreed: AtomicBool,
    /// What hangs on sessions.
    pub(crate) kin: Option<Kin>,
    /// Hears of sessions that have ended.
    pub(crate) endings: Endings,
    /// Hears of users who have more sessions than wanted.
    pub(crate) on_limit: Option<Listener<SessionLimitExceeded>>,
    /// What the application keeps in attributes.
    pub(crate) schemas: Schemas,
    /// Tells pages of events, and knows those that listen here.
    pub(crate) realtime: Realtime,
}

impl FromRequest for SessionHandle {
    type Error = SessionError;
    type Future = Ready<Result<Self, SessionError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(request.app_data::<Self>().cloned().ok_or(SessionError::NotInstalled))
    }
}

impl SessionHandle {
    /// Shows a session, as every acknowledged write left it; `None` when there is none that `secret` opens.
    ///
    /// At the owner this costs no round trip, elsewhere one.
    ///
    /// # Errors
    /// [`Refusal`] when neither the store nor the owner can be asked in time.
    pub async fn view(
        &self,
        locator: Locator,
        secret: &SecretHash,
    ) -> Result<Option<View>, Refusal> {
        let inner = &self.0;
        let now = inner.clock.now();
        let mut elsewhere = false;
        if let Some(resident) = inner.residents.get(&locator) {
            let cell = &resident.cell;
            if let Some(view) = cell.view(&inner.board, now) {
                match &self.1 {
                    Some(worker) => worker.count_read(),
                    None => inner.counters.local_reads.increment(1),
                }
                let Some(view) = opened(view, secret) else { return Ok(None) };
                cell.accessed(now);
                cell.used(now);
                if cell.touch_is_due(now, inner.options.touch_every()) {
                    self.touch(locator);
                }
                if cell.seen_is_due(now, inner.options.touch_every()) {
                    self.note_seen(locator, &view.record);
                }
                return Ok(Some(view));
            }
            elsewhere = cell.is_elsewhere(now);
        }
        if elsewhere && let Some(view) = self.read_from_store(locator, Access::Use).await? {
            return Ok(opened(view, secret));
        }
        let view = self.view_by_actor(locator, now).await?;
        let view = view.and_then(|view| opened(view, secret));
        if let Some(view) = view.as_ref().filter(|view| self.is_unnoted(view)) {
            self.touch(locator);
            self.note_seen(locator, &view.record);
        }
        Ok(view)
    }

    /// Shows a session as [`Self::view`] does, without using it: it does not live longer for that. Costs one round trip unless
    /// this node has the session in memory.
    ///
    /// To claim a session is a use of it, so what is not in memory here is read from the store. It is claimed all the same when
    /// the store has none (and may yet get it back), when this node is not sure that it asked the right store, or when its
    /// lease has just had a gap; then it lives on as if it had been used once.
    ///
    /// # Errors
    /// [`Refusal`] when neither the store nor the owner can be asked in time.
    pub async fn peek(
        &self,
        locator: Locator,
        secret: &SecretHash,
    ) -> Result<Option<View>, Refusal> {
        let inner = &self.0;
        let now = inner.clock.now();
        let mut is_owned = false;
        if let Some(resident) = inner.residents.get(&locator) {
            if let Some(view) = resident.cell.view(&inner.board, now) {
                inner.counters.local_reads.increment(1);
                return Ok(opened(view, secret));
            }
            is_owned = resident.cell.is_owned();
        }
        // The copy here may be newer than a store that lost writes, until it was put back: its actor knows.
        let mut view =
            if is_owned { None } else { self.read_from_store(locator, Access::Look).await? };
        if view.is_none() {
            view = self.view_by_actor(locator, now).await?;
        }
        Ok(view.and_then(|view| opened(view, secret)))
    }

    /// Says when a session was last used, as far as this node knows, ms since 1970 on the store's clock.
    pub(crate) fn last_access_ms(&self, locator: Locator, view: &View) -> u64 {
        let noted_ms = view.record.last_access_ms;
        let resident = self.0.residents.get(&locator).filter(|_| view.owner.is_none());
        let Some(resident) = resident else { return noted_ms };
        let ago = self.0.clock.now().saturating_duration_since(resident.cell.last_access());
        let ago_ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        view.now_ms.saturating_sub(ago_ms).max(noted_ms)
    }

    /// Has the actor of a session show it; it claims it when nobody owns it.
    async fn view_by_actor(
        &self,
        locator: Locator,
        now: BootInstant,
    ) -> Result<Option<View>, Refusal> {
        let mut answer = self.submit(locator, Work::View, None, now).await;
        if matches!(answer, Err(Refusal::Lost)) {
            answer = self.submit(locator, Work::View, None, now).await; // looking twice changes nothing
        }
        match answer {
            Ok(Reply::View(view)) => Ok(Some(view)),
            Ok(Reply::Done(..) | Reply::Revoked) | Err(Refusal::Ended) => Ok(None),
            Err(Refusal::OutcomeUnknown | Refusal::Lost) => Err(Refusal::Unavailable),
            Err(refusal) => Err(refusal),
        }
    }

    /// Whether a look at what another node owns is to be written down: that node does not see it.
    fn is_unnoted(&self, view: &View) -> bool {
        let interval = u64::try_from(self.0.options.touch.as_millis()).unwrap_or(u64::MAX);
        view.owner.is_some() && view.now_ms.saturating_sub(view.record.last_access_ms) >= interval
    }

    /// Reads what another node owns; `None` when the actor must look closer. Every acknowledged write is in the store
    /// already, so this is never stale while this node's own lease shows that the store is the current one.
    async fn read_from_store(
        &self,
        locator: Locator,
        access: Access,
    ) -> Result<Option<View>, Refusal> {
        let inner = &self.0;
        let bucket = inner.keys.bucket_of(locator.as_bytes());
        let sent_at = inner.clock.now();
        let before = inner.board.current(bucket, sent_at);
        let reply = self.shard(locator).store.read(locator).await;
        let unchanged =
            before.is_some() && before == inner.board.current(bucket, inner.clock.now());
        let now_ms = inner.board.server_now_ms(&*inner.clock);
        match reply {
            // What nobody owns is claimed by whoever uses it.
            Ok(ReadReply::Found(record))
                if unchanged && (record.owner.is_some() || access == Access::Look) =>
            {
                inner.counters.remote_reads.increment(1);
                let slack = u64::try_from(inner.options.touch.as_millis()).unwrap_or(u64::MAX);
                let idle_until = record.last_access_ms.saturating_add(record.idle_ms);
                if now_ms >= record.absolute_ms || now_ms >= idle_until.saturating_add(slack) {
                    return Ok(None);
                }
                let is_noted = now_ms.saturating_sub(record.last_access_ms) < slack;
                if access == Access::Use && !is_noted {
                    self.touch(locator);
                    self.note_seen(locator, &record);
                }
                if let Some(resident) = inner.residents.get(&locator) {
                    resident.cell.saw_version(record.version);
                }
                let owner = record.owner.as_ref().and_then(Token::node);
                Ok(Some(View { record: Arc::new(*record), now_ms, owner }))
            }
            Ok(ReadReply::Found(_) | ReadReply::Missing | ReadReply::Revoked) => Ok(None),
            // A connection that broke is back in a moment, and the actor waits for it; a silent store was waited for.
            Err(StoreError::Unavailable(_)) if inner.clock.now() < sent_at + BROKE_WITHIN => {
                Ok(None)
            }
            Err(StoreError::Unavailable(_)) => Err(Refusal::Unavailable),
            Err(StoreError::Refused(_)) => Err(Refusal::Refused),
            Err(StoreError::Unreadable(_)) => {
                metrics::counter!("session_unreadable_total").increment(1);
                Err(Refusal::Unreadable)
            }
        }
    }

    /// Carries out one operation; gives its outcome and the version after it, durable and visible on every node.
    ///
    /// # Errors
    /// [`Refusal`]; it says whether the operation may have been carried out.
    pub async fn ask(
        &self,
        locator: Locator,
        secret: SecretHash,
        op: Op,
    ) -> Result<(Outcome, u64), Refusal> {
        self.ask_task(locator, secret, Task::Op(op)).await
    }

    /// Carries out one task; as [`Self::ask`]. A [`Task::Update`] is refused with [`Refusal::NotOwner`] when another
    /// node owns the session.
    pub(crate) async fn ask_task(
        &self,
        locator: Locator,
        secret: SecretHash,
        task: Task,
    ) -> Result<(Outcome, u64), Refusal> {
        let work = Work::Ask(Ask { secret, task, remote: None });
        match self.submit(locator, work, None, self.0.clock.now()).await {
            Ok(Reply::Done(outcome, version)) => Ok((outcome, version)),
            Ok(Reply::View(_) | Reply::Revoked) => Err(Refusal::Ended),
            Err(refusal) => Err(refusal),
        }
    }

    /// Ends a session on every node; with a secret, only if that still opens it. Done when it is effective everywhere.
    ///
    /// # Errors
    /// [`Refusal`]; ending a session that is over already is no error.
    pub async fn revoke(
        &self,
        locator: Locator,
        secret: Option<SecretHash>,
    ) -> Result<(), Refusal> {
        match self.submit(locator, Work::Revoke(secret), None, self.0.clock.now()).await {
            Ok(_) | Err(Refusal::Ended) => {
                self.0.realtime.wake_everywhere(vec![Topic::Session(locator)]);
                Ok(())
            }
            Err(refusal) => Err(refusal),
        }
    }

    pub(crate) async fn submit_for_peer(
        &self,
        locator: Locator,
        work: Work,
        trace: Trace,
        wait: Duration,
    ) -> Answer {
        self.submit(locator, work, Some((trace, wait)), self.0.clock.now()).await
    }

    async fn submit(
        &self,
        locator: Locator,
        work: Work,
        peer: Option<(Trace, Duration)>,
        submitted: BootInstant,
    ) -> Answer {
        let inner = &self.0;
        let wait = peer.map_or(inner.options.wait, |(_, wait)| wait.min(inner.options.wait));
        let late = match work {
            Work::View => Refusal::Busy,
            Work::Ask(_) | Work::Revoke(_) => Refusal::OutcomeUnknown,
        };
        let (reply, answer) = oneshot::channel();
        let mut job = Job {
            work,
            replies: vec![reply],
            deadline: submitted + wait,
            submitted,
            from_peer: peer.is_some(),
            trace: peer.map(|(trace, _)| trace),
            sent: 0,
            span: tracing::Span::current(),
        };
        let (mut gone, mut leaving) = (0, 0);
        while gone < 2 && leaving < HANDS {
            let engine = || Engine::new(inner.node_id.clone(), inner.options.limits);
            let Some(resident) = self.resident(locator, engine) else { return Err(Refusal::Busy) };
            let waits =
                (!resident.cell.is_held_back(|| inner.clock.now())).then(|| resident.cell.wait());
            if waits.is_none() || resident.cell.is_given_up() {
                // Its actor leaves the map this instant, or has seen that somebody waits and stays; or it is just being
                // stopped, and is soon gone or open again.
                drop(waits);
                leaving += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
            // Looked at after this job is counted: a node that hands over looks for those after it closed.
            if job.from_peer && inner.closed.load(Ordering::SeqCst) {
                return Err(Refusal::NotOwner);
            }
            match resident.actor.try_send(Submit(job)) {
                Ok(()) => return bounded(answer, wait, late).await,
                Err(SendError::Full(_)) => return Err(Refusal::Busy),
                Err(SendError::Closed(Submit(returned))) => {
                    // It went, or it panicked: take exactly that one out and start another.
                    inner
                        .residents
                        .remove_if(&locator, |_, other| Arc::ptr_eq(&other.cell, &resident.cell));
                    gone += 1;
                    job = returned;
                }
            }
        }
        Err(Refusal::Busy)
    }

    /// Finds the actor of a session, or starts one; `None` when this node has as many as it may.
    fn resident(&self, locator: Locator, engine: impl FnOnce() -> Engine) -> Option<Resident> {
        let inner = &self.0;
        if let Some(resident) = inner.residents.get(&locator) {
            return Some(resident.clone());
        }
        if inner.residents.len() >= inner.options.actors_max {
            return None;
        }
        let entry = inner.residents.entry(locator).or_insert_with(|| {
            let shard = Arc::clone(self.shard(locator));
            let bucket = inner.keys.bucket_of(locator.as_bytes());
            let cell = Arc::new(Cell::new(locator, bucket, inner.clock.now()));
            let actor = SessionActor::new(engine(), Arc::clone(&cell), Arc::clone(&shard));
            let actor = SessionActor::start_in_arbiter(&shard.arbiter, |_| actor);
            Resident { cell, actor }
        });
        Some(entry.clone())
    }

    /// The store, over the connection of the shard that a session would live on.
    pub(crate) fn store(&self, locator: Locator) -> &SharedStore {
        &self.shard(locator).store
    }

    /// The shard of this HTTP worker, else one of those that have a thread of their own.
    pub(crate) fn shard(&self, locator: Locator) -> &Arc<Shard> {
        if let Some(local) = self.1.as_ref().and_then(|worker| worker.shard()) {
            return local;
        }
        let bytes = locator.as_bytes();
        let number = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        &self.0.shards[number % self.0.shards.len()]
    }

    /// Writes an access down without making the request wait for it; if that fails, the next interval tries again.
    fn touch(&self, locator: Locator) {
        let shard = Arc::clone(self.shard(locator));
        let arbiter = shard.arbiter.clone();
        arbiter.spawn(async move {
            if let Err(error) = shard.store.touch(locator).await {
                tracing::debug!(error = %error, "access of a session was not written down");
            }
        });
    }
}

/// The engine answers by the deadline; a little more covers an actor that died with the job, and a write that was under
/// way at the deadline. After that the answer is `late`.
async fn bounded(answer: oneshot::Receiver<Answer>, wait: Duration, late: Refusal) -> Answer {
    match tokio::time::timeout(wait + Duration::from_millis(500), answer).await {
        Ok(Ok(answer)) => answer,
        // The actor panicked or its worker ended, before or after the store had it.
        Ok(Err(_)) => Err(Refusal::Lost),
        Err(_) => Err(late),
    }
}

fn opened(view: View, secret: &SecretHash) -> Option<View> {
    opens(&view.record, secret, view.now_ms).then_some(view)
}

impl fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionHandle")
            .field("resident", &self.0.residents.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("store", &self.store).finish_non_exhaustive()
    }
}
