//! The handle on the leader's actor: starting it, following it, moving leadership.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor as _, Arbiter, ArbiterHandle};
use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{oneshot, watch};
use understudy_runtime::actors::{ActorType, Mailbox, Probe};
use understudy_runtime::bus::Bus;
use understudy_runtime::clock::{BootInstant, SharedClock};
use understudy_runtime::config::RedisConfig;
use understudy_runtime::error::chain;
use understudy_runtime::ids::NodeId;

use super::actor::{GiveUp, GiveWay, LeaderActor, Tell, Tools};
use super::board::LeaderBoard;
use super::inauguration::Inauguration;
use super::leadership::{Event, LeadershipRules};
use super::lease::{LeaderLease, LeaderLeaseError};
use super::messages::{HandOverAnswer, LeaderReleased, RequestHandOver};
use super::status::{LeaderState, LeaderStatus};

/// The actor that has a node's part in leading.
pub static LEADER: ActorType = ActorType {
    name: "leader",
    meaning: "Holds the leader's lease, or waits for it",
    instead: Some("let another node lead (`leader step-down`), or drain the node"),
};

/// What the leader's actor needs to know.
#[derive(Debug, Clone)]
pub struct LeaderSpec {
    /// This node.
    pub node_id: NodeId,
    /// The clock of all deadlines.
    pub clock: SharedClock,
    /// How long a lease lasts without a renewal.
    pub ttl: Duration,
    /// How often it is renewed; less than half of `ttl`.
    pub renew: Duration,
    /// How long before its end it is trusted no more; with `renew` less than `ttl`.
    pub margin: Duration,
    /// Whether this node may lead.
    pub eligible: bool,
    /// Of several nodes that may lead, the one with the greatest does in the end.
    pub priority: i32,
    /// Whether it begins in maintenance, see [`LeaderHandle::set_maintenance`].
    pub maintenance: bool,
    /// Whether it begins frozen, see [`LeaderHandle::set_frozen`].
    pub frozen: bool,
    /// Where the actor counts what it does, as a [`LEADER`].
    pub probe: Probe,
}

impl LeaderSpec {
    /// Returns the options of the connection for the lease: a renewal that is not answered soon must fail while there is
    /// time for another.
    #[must_use]
    pub fn redis(&self, config: &RedisConfig) -> RedisConfig {
        RedisConfig { command_timeout: self.command_timeout(), ..config.clone() }
    }

    /// Returns how long one step at the store of the lease may take: a fifth of the time to live, at most 1 s.
    #[must_use]
    pub fn command_timeout(&self) -> Duration {
        (self.ttl / 5).min(Duration::from_secs(1))
    }

    /// Several steps may make one answer (waiting for replicas, a second store).
    pub(super) fn answer_limit(&self) -> Duration {
        self.command_timeout() * 3 / 2
    }

    pub(super) fn rules(&self) -> LeadershipRules {
        LeadershipRules {
            node_id: self.node_id.clone(),
            ttl: self.ttl,
            renew: self.renew,
            margin: self.margin,
            eligible: self.eligible,
            priority: self.priority,
        }
    }
}

/// This node's part in leading; a cheap clone.
#[derive(Clone)]
pub struct LeaderHandle {
    spec: Arc<LeaderSpec>,
    shared: Arc<LeaderShared>,
    running: Arc<Running>,
}

/// The actor, and its thread, which ends with the last handle: then the lease runs out as after a crash.
struct Running {
    addr: Mailbox<LeaderActor>,
    arbiter: ArbiterHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.arbiter.stop();
    }
}

/// What the actor and its handles share.
#[derive(Default)]
pub(super) struct LeaderShared {
    pub(super) board: LeaderBoard,
    pub(super) state: watch::Sender<LeaderState>,
    pub(super) view: ArcSwap<View>,
    pub(super) trouble: ArcSwapOption<LeaderLeaseError>,
}

/// What a status is made of.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) state: LeaderState,
    pub(super) holder: Option<(NodeId, BootInstant)>,
    pub(super) hold_until: Option<BootInstant>,
    pub(super) eligible: bool,
    pub(super) maintenance: bool,
    pub(super) frozen: bool,
}

impl LeaderHandle {
    /// Starts the actor on a thread of its own, where nothing else can delay it, and listens on the bus. Needs an actix
    /// system.
    ///
    /// `connect` makes the lease on that thread, so that its connection is driven there too. A store that is away is
    /// no error: it is tried for ever.
    ///
    /// # Errors
    /// That of `connect`.
    pub async fn start<F, Fut, E>(
        spec: LeaderSpec,
        bus: Bus,
        inauguration: Arc<dyn Inauguration>,
        connect: F,
    ) -> Result<Self, E>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Arc<dyn LeaderLease>, E>> + 'static,
        E: Send + 'static,
    {
        let shared = Arc::new(LeaderShared::default());
        let arbiter = Arbiter::new();
        let (answer, started) = oneshot::channel();
        let for_actor = (spec.clone(), shared.clone(), bus.clone());
        arbiter.spawn_fn(move || {
            actix::spawn(async move {
                let (spec, shared, bus) = for_actor;
                let addr = connect().await.map(|lease| {
                    LeaderActor::new(spec, Tools { lease, inauguration, bus }, shared).start()
                });
                // Whoever started it may have given up waiting; then the actor ends with the arbiter.
                answer.send(addr).ok();
            });
        });
        // The sender lives in the task above until it has sent; it is lost only with the whole system.
        let Ok(addr) = started.await else { return std::future::pending().await };
        let arbiter = arbiter.handle();
        match addr {
            Ok(addr) => {
                let addr = Mailbox::new(addr, spec.probe.clone());
                listen(&bus, &addr);
                let running = Arc::new(Running { addr, arbiter });
                Ok(Self { spec: Arc::new(spec), shared, running })
            }
            Err(error) => {
                arbiter.stop();
                Err(error)
            }
        }
    }

    /// Returns the board that says whether this node leads.
    #[must_use]
    pub fn board(&self) -> &LeaderBoard {
        &self.shared.board
    }

    /// Returns the state, to be followed.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<LeaderState> {
        self.shared.state.subscribe()
    }

    /// Lets another node lead: gives up the lease if this node has it, and does not lead for `hold`, one time to live
    /// if nothing is said. Returns when the lease is free, or could not be given up and runs out by itself.
    pub async fn step_down(&self, hold: Option<Duration>) {
        self.give_up(Event::StepDown(hold)).await;
    }

    /// Ends this node's part for good, before it drains: the board is empty at once, the lease is given up, and the
    /// others hear of it. Returns within two seconds even when neither store nor nodes answer. Idempotent.
    pub async fn resign(&self) {
        self.give_up(Event::Resign).await;
        self.running.arbiter.stop();
    }

    /// Reports that a claim found another epoch in the database than `epoch`, in which this node leads: it steps down,
    /// and does not lead for a time to live.
    pub fn stale_epoch(&self, epoch: u64) {
        metrics::counter!("stale_epoch_rejections_total").increment(1);
        self.tell(Event::StaleEpoch(epoch));
    }

    /// Reports that the database has not answered for `away`: without it nothing can be started, so a node that
    /// reaches it must lead. This one does not for a time to live; to be called again while that lasts.
    pub fn database_unreachable(&self, away: Duration) {
        tracing::debug!(away_ms = away.as_millis(), "no leader without its database");
        self.tell(Event::DatabaseAway);
    }

    /// Says whether this node may lead. A leader that may not steps down.
    pub fn set_eligible(&self, eligible: bool) {
        self.tell(Event::Eligible(eligible));
    }

    /// Says whether there is maintenance, during which this node does not lead.
    pub fn set_maintenance(&self, maintenance: bool) {
        self.tell(Event::Maintenance(maintenance));
    }

    /// Says whether leadership stays where it is: then this node neither asks for it nor gives it to a higher priority.
    pub fn set_frozen(&self, frozen: bool) {
        self.tell(Event::Frozen(frozen));
    }

    /// Returns who leads as far as this node knows, and what this node is.
    #[must_use]
    pub fn status(&self) -> LeaderStatus {
        let view = self.shared.view.load();
        let (now, wall) = (self.spec.clock.now(), self.spec.clock.wall_ms());
        let ago = |at: BootInstant| signed(now.saturating_duration_since(at));
        let ahead = |at: BootInstant| signed(at.saturating_duration_since(now));
        let wall = i64::try_from(wall).unwrap_or(i64::MAX);
        let holder = view.holder.as_ref().filter(|(_, until)| now < *until);
        LeaderStatus {
            state: view.state.phase,
            leader: holder.map(|(node, _)| node.clone()),
            epoch: view.state.epoch,
            since_ms: wall.saturating_sub(ago(view.state.since)),
            expires_in_ms: holder.map(|(_, until)| ahead(*until)),
            this: self.spec.node_id.clone(),
            eligible: view.eligible,
            priority: self.spec.priority,
            maintenance: view.maintenance,
            frozen: view.frozen,
            hold_until_ms: view
                .hold_until
                .filter(|until| now < *until)
                .map(|until| wall.saturating_add(ahead(until))),
            trouble: self.shared.trouble.load().as_deref().map(|error| chain(error)),
        }
    }

    /// Returns why the store of the lease cannot be used; `None` when it can.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<LeaderLeaseError>> {
        self.shared.trouble.load_full()
    }

    fn tell(&self, event: Event) {
        // After the end there is nothing to be told.
        self.running.addr.do_send(Tell(event));
    }

    async fn give_up(&self, event: Event) {
        // A closed mailbox means that it ended before.
        self.running.addr.send(GiveUp(event)).await.ok();
    }
}

/// Hands the messages of other nodes to the actor, without keeping it alive.
fn listen(bus: &Bus, addr: &Mailbox<LeaderActor>) {
    let actor = addr.downgrade();
    bus.handle(move |_from, LeaderReleased { value, successor }| {
        if let Some(actor) = actor.upgrade() {
            actor.do_send(Tell(Event::ReleaseHeard { value, successor }));
        }
        std::future::ready(())
    });
    let actor = addr.downgrade();
    bus.handle(move |from, RequestHandOver { priority }| {
        let actor = actor.upgrade();
        async move {
            let Some(actor) = actor else { return HandOverAnswer::Never };
            let answer = actor.send(GiveWay { from, priority }).await;
            answer.unwrap_or(HandOverAnswer::Never)
        }
    });
}

fn signed(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Debug for LeaderHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LeaderHandle").field(&self.shared.board).finish()
    }
}
