//! Sessions that begin, and waiting for a store that is away for a moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use dashmap::DashMap;
use understudy_runtime::clock::BootInstant;
use understudy_runtime::lease::LeaseStamp;

use super::{BROKE_WITHIN, SessionHandle};
use crate::engine::{Engine, Owned, RETRY, Refusal};
use crate::ownership::Held;
use crate::record::{Attributes, Fence, Locator, RecentOps, Record, Seal, SecretHash, Token};
use crate::state::{Ask, Op, Outcome, Task, plan};
use crate::store::{CreateReply, StoreError};

/// How often a locator is drawn anew when it is taken: with 128 random bits once is never needed.
const DRAWS: usize = 3;

/// When and under which lease a session is put in.
#[derive(Clone, Copy)]
struct Attempt {
    locator: Locator,
    sent_at: BootInstant,
    stamp: LeaseStamp,
    /// How long it lives at most.
    lifetime_ms: u64,
}

/// A session that this node is just putting in. Somebody may end it before there is an actor to be told: whoever does
/// takes the note away (see `SessionHandle::hear_ends`), and it is looked for once there is one.
struct Beginning<'a> {
    all: &'a DashMap<Locator, ()>,
    locator: Locator,
}

impl<'a> Beginning<'a> {
    fn note(all: &'a DashMap<Locator, ()>, locator: Locator) -> Self {
        all.insert(locator, ());
        Self { all, locator }
    }

    fn was_ended(&self) -> bool {
        !self.all.contains_key(&self.locator)
    }
}

impl Drop for Beginning<'_> {
    /// Also when whoever asked is gone.
    fn drop(&mut self) {
        self.all.remove(&self.locator);
    }
}

impl SessionHandle {
    /// Begins a session, owned by this node, with `ops` already applied; gives its locator and their outcomes. When they
    /// change nothing, or all are rejected, no session begins and there is no locator.
    ///
    /// # Errors
    /// [`Refusal`]; nothing is left behind that a client could use.
    pub async fn create(
        &self,
        secret: SecretHash,
        ops: Vec<Op>,
    ) -> Result<(Option<Locator>, Vec<Outcome>), Refusal> {
        self.create_after(secret, ops, async |_| Ok::<(), Refusal>(())).await
    }

    /// The same, after `prepare` has done what must be done before there is a session of that locator; called again for
    /// another one when the store did not answer.
    pub(crate) async fn create_after<E: From<Refusal>>(
        &self,
        secret: SecretHash,
        ops: Vec<Op>,
        prepare: impl AsyncFn(Locator) -> Result<(), E>,
    ) -> Result<(Option<Locator>, Vec<Outcome>), E> {
        let inner = &self.0;
        let token = Token::new(&inner.node_id);
        let record = self.blank(secret, &token);
        let mut asks: Vec<Ask> =
            ops.into_iter().map(|op| Ask { secret, task: Task::Op(op), remote: None }).collect();
        let now_ms = inner.board.server_now_ms(&*inner.clock);
        let planned =
            plan(&record, &mut asks.iter_mut().collect::<Vec<_>>(), &inner.options.limits, now_ms);
        let Some((change, after)) = planned.write else {
            return Ok((None, planned.outcomes)); // nothing to keep: no session
        };
        let lives = change.absolute_ms.map(|absolute_ms| absolute_ms.saturating_sub(now_ms));
        let lifetime_ms = lives.unwrap_or_else(|| self.lifetime_ms());
        let record = Record { version: 1, ..after };
        let (began, mut draws) = (inner.clock.now(), 0);
        while draws < DRAWS {
            let locator = Locator::random();
            let bucket = inner.keys.bucket_of(locator.as_bytes());
            let sent_at = inner.clock.now();
            let Some(stamp) = inner.board.current(bucket, sent_at) else {
                self.outlast(sent_at, began).await?;
                continue;
            };
            prepare(locator).await?;
            match self.put_in(Attempt { locator, sent_at, stamp, lifetime_ms }, &record).await {
                Ok(true) => return Ok((Some(locator), planned.outcomes)),
                Ok(false) => draws += 1,
                Err(StoreError::Refused(_) | StoreError::Unreadable(_)) => {
                    return Err(Refusal::Refused.into());
                }
                // Should it be there all the same, nobody has its secret, and it runs out.
                Err(StoreError::Unavailable(_)) => self.outlast(sent_at, began).await?,
            }
        }
        Err(Refusal::Refused.into())
    }

    /// Puts a session in and owns it; gives false when the locator is taken.
    async fn put_in(&self, attempt: Attempt, record: &Record) -> Result<bool, StoreError> {
        let inner = &self.0;
        let Attempt { locator, sent_at, stamp, lifetime_ms } = attempt;
        let beginning = Beginning::note(&inner.beginning, locator);
        let reply = self.store(locator).create(locator, record, lifetime_ms).await;
        let Ok(CreateReply::Created { now_ms }) = reply else {
            return reply.map(|_exists| false);
        };
        let mut record = record.clone();
        record.created_ms = now_ms;
        record.last_access_ms = now_ms;
        record.absolute_ms = now_ms.saturating_add(lifetime_ms);
        if let Some(token) = record.owner.clone() {
            let held = Held { fence: Fence { token, epoch: 1 }, stamp, version: 1 };
            let record = Arc::new(record);
            let owned = Owned { held, record: Arc::clone(&record), base: (sent_at, now_ms) };
            let engine = Engine::owning(inner.node_id.clone(), inner.options.limits, owned);
            // Should there be no room for it in memory, the next request claims it.
            let resident = self.resident(locator, || engine);
            if let Some(resident) = &resident
                && resident.cell.seen_is_due(inner.clock.now(), inner.options.touch_every())
            {
                self.note_seen(locator, &record);
            }
            if let Some(resident) = resident.filter(|_| beginning.was_ended()) {
                resident.cell.end();
            }
        }
        inner.counters.created.increment(1);
        Ok(true)
    }

    /// How long a session lives at most if nobody asks for longer, ms.
    pub(crate) fn lifetime_ms(&self) -> u64 {
        u64::try_from(self.0.options.absolute.as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits a moment after an attempt of `sent_at` that failed because a connection broke or a lease is due; refuses
    /// when the store was silent, or everything has taken long enough since `began`.
    pub(crate) async fn outlast(
        &self,
        sent_at: BootInstant,
        began: BootInstant,
    ) -> Result<(), Refusal> {
        let now = self.0.clock.now();
        if now >= sent_at + BROKE_WITHIN || now >= began + self.0.options.store_patience {
            return Err(Refusal::Unavailable);
        }
        tokio::time::sleep(RETRY).await;
        Ok(())
    }

    pub(super) fn blank(&self, secret: SecretHash, token: &Token) -> Record {
        Record {
            owner: Some(token.clone()),
            epoch: 1,
            version: 0,
            last_op: None,
            created_ms: 0,
            absolute_ms: 0,
            last_access_ms: 0,
            idle_ms: u64::try_from(self.0.options.idle.as_millis()).unwrap_or(u64::MAX),
            user: None,
            secret,
            previous_secret: None,
            attributes: Arc::new(Attributes::new()),
            recent: RecentOps::default(),
            unknown: BTreeMap::new(),
            seal: Seal::Open,
        }
    }
}
