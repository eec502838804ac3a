//! One round of the scheduler: what is due is claimed, what waits is taken.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use sea_orm::DbErr;
use tokio::sync::Notify;
use tracing::{debug, error, warn};
use understudy_runtime::database::DatabaseError;
use understudy_runtime::error::chain;
use understudy_runtime::ids::NodeId;

use super::SchedulerTools;
use crate::jobs::CancelHere;
use crate::leader::Term;
use crate::plan::{self, Moment};
use crate::store::{ClaimOutcome, Claimant, Cursor, Definition, JobPlan, Need, Room, Taker};
use crate::worker::Begin;

/// So many jobs are decided in one claim.
const BATCH: u32 = 500;
/// So many runs and decisions are written in one claim, or a few more.
const MOST_ROWS: usize = 2_000;
/// How soon due times are looked at again that could not be decided.
const LEFT: Duration = Duration::from_millis(250);
/// So many claims follow each other before the round looks at other things.
const MOST_CLAIMS: usize = 200;
/// The pause after a round that failed.
const AFTER_FAILURE: Duration = Duration::from_millis(250);
/// Timers fire up to this late; a round that is a little early finds nothing due.
const EARLIEST: Duration = Duration::from_millis(1);

/// What a round came to.
type Result<T> = std::result::Result<T, DatabaseError>;

/// Spans of time: from, to, in ms.
type Gaps = Arc<Vec<(i64, i64)>>;

/// The scheduler's work, and the little it remembers between rounds.
pub(crate) struct Core {
    pub(super) tools: SchedulerTools,
    room: Room,
    closed: Cell<bool>,
    running: Cell<bool>,
    idle: Notify,
    /// When nobody led, as known at the beginning of this term.
    leaderless: RefCell<Option<(u64, Gaps)>>,
    told: Cell<bool>,
    /// Something due was left undecided in this round.
    left: Cell<bool>,
}

/// A round that panicked is one that failed: the next one reads everything anew. What it said was logged where it
/// happened.
fn panicked() -> DatabaseError {
    DatabaseError::Refused(DbErr::Custom("a round of the scheduler panicked".into()))
}

impl Core {
    pub(super) fn new(tools: SchedulerTools) -> Self {
        let room = Room {
            slots: tools.config().concurrency,
            handlers: Arc::new(tools.registry.handler_names().map(str::to_owned).collect()),
            labels: Arc::new(tools.node.config.node.labels.clone()),
        };
        Self {
            tools,
            room,
            closed: Cell::new(false),
            running: Cell::new(false),
            idle: Notify::new(),
            leaderless: RefCell::new(None),
            told: Cell::new(false),
            left: Cell::new(false),
        }
    }

    pub(super) fn close(&self) {
        self.closed.set(true);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Leads no more while an operator has the node out of service, and may lead again afterwards.
    pub(super) fn serve_or_rest(&self) {
        let node = &self.tools.node;
        let may = node.config.leader.eligible && node.lifecycle.drained().is_none();
        if self.tools.leader.status().eligible != may {
            self.tools.leader.set_eligible(may);
        }
    }

    pub(super) async fn idle(&self) {
        while self.running.get() {
            self.idle.notified().await;
        }
    }

    /// Does one round; gives the pause until the next.
    pub(super) async fn round(&self) -> Duration {
        self.running.set(true);
        let round = AssertUnwindSafe(self.try_round()).catch_unwind().await;
        let pause = match round.unwrap_or_else(|_| Err(panicked())) {
            Ok(pause) => {
                self.tools
                    .shared
                    .last_round
                    .store(self.tools.clock.boot().as_nanos(), Ordering::Release);
                self.told.set(false);
                pause
            }
            Err(error) => {
                // Once: signs of life tell the rest.
                if self.told.replace(true) {
                    debug!(error = chain(&error), "a round of the scheduler failed");
                } else {
                    warn!(error = chain(&error), "a round of the scheduler failed");
                }
                AFTER_FAILURE
            }
        };
        self.running.set(false);
        self.idle.notify_waiters();
        pause
    }

    async fn try_round(&self) -> Result<Duration> {
        let name = self.tools.node.node_id.name().as_str();
        self.left.set(false);
        if self.claims("") {
            self.claim_due("").await?;
        }
        if self.claims(name) {
            self.claim_due(name).await?;
        }
        self.take().await?;
        self.pause(name).await
    }

    /// Whether this node decides about due times of a scope at present.
    fn claims(&self, scope: &str) -> bool {
        let able = !self.closed.get() && self.tools.clock.is_known();
        able && (!scope.is_empty() || self.term().is_some())
    }

    fn term(&self) -> Option<Term> {
        self.tools.leader.board().leading(self.tools.node.clock.now())
    }

    /// Claims all that is due in a scope.
    async fn claim_due(&self, scope: &str) -> Result<()> {
        for _ in 0..MOST_CLAIMS {
            let now_ms = self.tools.clock.now_ms();
            let due = self.tools.store.due_cursors(scope, now_ms, BATCH).await?;
            if due.is_empty() || self.closed.get() {
                return Ok(());
            }
            let claimant = if scope.is_empty() {
                // The moment that counts: from here on the epoch protects what is written.
                let Some(term) = self.term() else { return Ok(()) };
                Claimant { epoch: Some(term.epoch), ..self.claimant() }
            } else {
                self.claimant()
            };
            let epoch = claimant.epoch;
            let count = due.len();
            let outcome = self.claim_all(claimant, &due, now_ms).await?;
            if !outcome.epoch_ok {
                if let Some(epoch) = epoch {
                    self.tools.leader.stale_epoch(epoch);
                }
                return Ok(());
            }
            self.publish(&outcome).await;
            // Cursors that moved, or that this node cannot decide about, are left for a while; if all are, for now.
            self.left.set(self.left.get() || outcome.stale_plans > 0);
            if outcome.stale_plans >= count {
                return Ok(());
            }
        }
        Ok(())
    }

    fn claimant(&self) -> Claimant {
        let mut room = self.room.clone();
        room.slots = self.free_slots();
        Claimant { node: self.tools.node.node_id.to_string(), epoch: None, room }
    }

    /// How many ordinary runs may begin here.
    fn free_slots(&self) -> usize {
        let rests = self.tools.shared.surroundings.load().maintenance;
        if self.closed.get() || rests || !self.tools.node.lifecycle.takes_work() {
            return 0;
        }
        self.room.slots.saturating_sub(self.tools.busy.load(Ordering::Acquire))
    }

    /// Claims a batch. One that the database refuses is divided, so that a job that cannot be stored stops no other.
    async fn claim_all(
        &self,
        claimant: Claimant,
        due: &[Cursor],
        now_ms: i64,
    ) -> Result<ClaimOutcome> {
        let refused = match self.claim(claimant.clone(), due, now_ms).await {
            Err(error) if !error.is_retryable() => error,
            done => return done,
        };
        let (first, second) = due.split_at(due.len() / 2);
        if first.is_empty() {
            let job = due.first().map(|cursor| cursor.job.to_string());
            error!(job.name = job, error = chain(&refused), "a due time of a job cannot be stored");
            return Ok(ClaimOutcome {
                epoch_ok: true,
                stale_plans: due.len(),
                ..ClaimOutcome::default()
            });
        }
        let mut outcome = Box::pin(self.claim_all(claimant.clone(), first, now_ms)).await?;
        if outcome.epoch_ok {
            let mut claimant = claimant;
            claimant.room.slots = claimant.room.slots.saturating_sub(outcome.started.len());
            let rest = Box::pin(self.claim_all(claimant, second, now_ms)).await?;
            outcome.add(rest);
        }
        Ok(outcome)
    }

    async fn claim(&self, claimant: Claimant, due: &[Cursor], now_ms: i64) -> Result<ClaimOutcome> {
        let store = &self.tools.store;
        let wanted = due.iter().map(|cursor| (&cursor.job, cursor.revision));
        let definitions = store.definitions_of(wanted).await?;
        let by_name: HashMap<&str, &Arc<Definition>> =
            definitions.iter().map(|one| (one.spec.name.as_str(), one)).collect();
        let config = self.tools.config();
        let leaderless = self.leaderless(claimant.epoch).await?;
        let at = Moment {
            now_ms,
            misfire_after: config.misfire_after,
            misfire_grace: config.misfire_grace,
            leaderless: &leaderless,
        };
        let (mut plans, mut size): (Vec<(JobPlan, Arc<Definition>)>, usize) = (Vec::new(), 0);
        let mut left_out = 0;
        for cursor in due {
            // Changed between the two reads, or of a newer program: the next round has both anew.
            let definition = by_name.get(cursor.job.as_str());
            let Some(definition) = definition.filter(|one| one.revision == cursor.revision) else {
                left_out += 1;
                continue;
            };
            match plan::plan(definition, cursor, at) {
                Some(plan) => {
                    size += plan.starts.len() + plan.decisions.len();
                    plans.push((plan, Arc::clone(definition)));
                }
                None => left_out += 1,
            }
            // What is left is still due, and comes with the next claim.
            if size >= MOST_ROWS {
                break;
            }
            tokio::task::yield_now().await;
        }
        let needs = plans.iter().map(|(_, definition)| Need::of(&definition.spec));
        let mut unmet = self.tools.shared.surroundings.load().unmet(needs);
        // What this node has told the others may be older than what it has.
        unmet.retain(|need| !self.room.meets(need));
        let grace_ms = plan::millis(config.misfire_grace);
        let mut outcome = store.claim(claimant, plans, unmet, grace_ms).await?;
        outcome.stale_plans += left_out;
        Ok(outcome)
    }

    /// When nobody led before this term.
    async fn leaderless(&self, epoch: Option<u64>) -> Result<Gaps> {
        let Some(epoch) = epoch else { return Ok(Arc::default()) };
        if let Some((known, gaps)) = &*self.leaderless.borrow()
            && *known == epoch
        {
            return Ok(Arc::clone(gaps));
        }
        let gaps = Arc::new(self.tools.store.leaderless().await?);
        self.leaderless.replace(Some((epoch, Arc::clone(&gaps))));
        Ok(gaps)
    }

    /// Begins what was started here, and tells the others what waits for them.
    async fn publish(&self, outcome: &ClaimOutcome) {
        for (what, count) in &outcome.decided {
            let count = u64::try_from(*count).unwrap_or(0);
            metrics::counter!("fire_decisions_total", "outcome" => what.as_str()).increment(count);
        }
        if !outcome.started.is_empty() {
            // Waited for, so that the next claim counts them as busy.
            self.tools.worker.send(Begin(outcome.started.clone())).await.ok();
        }
        for (run, node) in &outcome.cancelled {
            // Should it not hear, it learns of it with its next sign of life.
            if let Ok(node) = node.parse::<NodeId>() {
                let message = CancelHere { run: run.0, by: "overlap".to_owned() };
                self.tools.node.bus.send(&node, &message);
            }
        }
        if outcome.queued > 0 {
            crate::jobs::look_again(&self.tools.node.bus, &self.tools.node.membership);
        }
    }

    /// Takes from the queue what there is room for.
    async fn take(&self) -> Result<()> {
        // What a node takes that is about to go would only have to be handed back.
        if self.closed.get() || !self.tools.node.lifecycle.takes_work() {
            return Ok(());
        }
        loop {
            let mut room = self.room.clone();
            room.slots = self.free_slots();
            let taker = Taker {
                node: self.tools.node.node_id.to_string(),
                name: self.tools.node.node_id.name().as_str().to_owned(),
                epoch: self.term().map(|term| term.epoch),
                room,
            };
            let taken = self.tools.store.take(taker).await?;
            if taken.is_empty() {
                return Ok(());
            }
            // What the worker counts a moment later is counted by it; one at a time until it has.
            let ordinary = taken.iter().filter(|run| !run.definition.spec.system).count();
            if self.tools.worker.send(Begin(taken)).await.is_err() || ordinary == 0 {
                return Ok(());
            }
        }
    }

    /// How long until something is due.
    async fn pause(&self, name: &str) -> Result<Duration> {
        let tick = self.tools.config().tick;
        let waiting = self.tools.store.next_waiting().await?;
        let mut next = self.tools.store.next_due(name).await?.into_iter().chain(waiting).min();
        if self.term().is_some() {
            let of_leader = self.tools.store.next_due("").await?;
            next = next.into_iter().chain(of_leader).min();
        }
        let Some(next) = next else { return Ok(tick) };
        let until = u64::try_from(next - self.tools.clock.now_ms()).unwrap_or(0);
        let earliest = if self.left.get() { LEFT } else { EARLIEST };
        Ok(Duration::from_millis(until).clamp(earliest, tick.max(earliest)))
    }
}
