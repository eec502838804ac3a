//! Tells what transactions left behind to be forgotten: on every node, at once when somebody here has written something, and once
//! a second in any case.
//!
//! Nodes do not wait for each other: on PostgreSQL each takes rows that no other one has in hand, tells them, and strikes them off
//! before its transaction ends. What could not be told stays. Nor do regions wait for each other: one that cannot be told is left
//! out of the next looks, and tried with one row now and then ([`Away`]).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::Outbox;
use super::away::Away;
use super::jobs::{Told, tell};
use super::listener;
use super::table::{self, Oldest, PAGE, Pick};
use crate::cache::Caches;
use crate::cache::gate::patience;
use crate::database::{Backend, Database, DatabaseError};
use crate::supervise::{Stopped, Supervised, spawn};

/// How often a node looks when nobody says that there is something.
const EVERY: Duration = Duration::from_secs(1);
/// How soon it looks again when somebody does: the transaction may be about to be committed.
const SOON: Duration = Duration::from_millis(20);
/// How long telling what is in hand may take. The server ends transactions that pause for longer than 2 s.
const LIMIT: Duration = Duration::from_millis(1_200);

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Look {
    /// How many rows were told, and are struck off.
    pub(super) told: usize,
    /// How many could not be told, at least.
    pub(super) left: usize,
    /// Whether there may be more.
    pub(super) is_part: bool,
}

/// Tells on one node.
#[derive(Clone)]
pub(super) struct Relay {
    caches: Caches,
    database: Database,
    /// The row that had waited for longest at the last look, if that could not be told.
    stuck: Option<i64>,
    /// Regions that cannot be told just now.
    away: Away,
    is_failing: bool,
}

impl Caches {
    /// Begins to tell what transactions leave behind, and to listen to what other programs change.
    pub(crate) fn relay(&self, database: &Database) -> [Supervised; 2] {
        let _here = self.inner.runtime.enter();
        let relay = Relay::new(self, database);
        let listens = relay.clone();
        let relays = spawn("cache.relay", move || {
            let relay = relay.clone();
            async move { relay.run().await }
        });
        let listens = spawn("cache.listener", move || {
            let relay = listens.clone();
            async move { listener::listen(&relay.outbox(), &relay.database, &relay.caches).await }
        });
        [relays, listens]
    }
}

impl Relay {
    pub(super) fn new(caches: &Caches, database: &Database) -> Self {
        // Once for a node; a second time it is the same.
        caches.inner.outbox.database.set(database.clone()).ok();
        let (caches, database) = (caches.clone(), database.clone());
        Self { caches, database, stuck: None, away: Away::default(), is_failing: false }
    }

    fn outbox(&self) -> Arc<Outbox> {
        Arc::clone(&self.caches.inner.outbox)
    }

    async fn run(mut self) -> Stopped {
        let outbox = self.outbox();
        let mut pause = EVERY;
        loop {
            match self.look().await {
                Ok(look) => {
                    self.note(look.left > 0);
                    // Each time some rows go, or their region is left out.
                    if look.is_part {
                        continue;
                    }
                }
                Err(error) => {
                    debug!(%error, "nobody looked what transactions left behind");
                }
            }
            tokio::select! {
                () = outbox.wake.notified() => pause = SOON,
                () = sleep(pause) => pause = (pause * 2).min(EVERY),
            }
        }
    }

    /// Looks once, and tells what there is.
    pub(super) async fn look(&mut self) -> Result<Look, DatabaseError> {
        let oldest = table::oldest(&self.database).await?;
        let age = oldest.as_ref().map_or(Duration::ZERO, |oldest| oldest.age);
        metrics::gauge!("understudy_cache_outbox_age_seconds").set(age.as_secs_f64());
        let is_none = oldest.is_none();
        self.remember(oldest);
        if is_none {
            self.away.clear();
            return Ok(Look::default());
        }
        if let Some((redis, _)) = &self.caches.inner.redis {
            if !redis.is_connected() {
                // Others may have a way to it: they find the rows free.
                return Ok(Look { left: 1, ..Look::default() });
            }
            self.away.over(*redis.connects().borrow());
        }
        let (rows, told) = self.tell(Pick::AllBut(self.away.names()), LIMIT).await?;
        let told_of_all = told.rows.len();
        self.put_off(told.failed);
        let tried = self.try_again().await?;
        Ok(Look {
            told: told_of_all + tried,
            left: (rows - told_of_all).max(self.away.count()),
            is_part: rows == PAGE || tried > 0,
        })
    }

    /// Tells one row each of the regions that could not be told, when it is time; returns how many were.
    async fn try_again(&mut self) -> Result<usize, DatabaseError> {
        let due = self.away.due(self.caches.inner.clock.now());
        if due.is_empty() {
            return Ok(0);
        }
        let waiting = table::waiting(&self.database, &due).await?;
        for region in due.iter().filter(|region| !waiting.contains(*region)) {
            self.away.is_back(region);
        }
        if waiting.is_empty() {
            return Ok(0);
        }
        let (_, told) = self.tell(Pick::FirstOf(waiting.clone()), self.trial()).await?;
        told.regions.iter().for_each(|region| self.away.is_back(region));
        // Also those whose row another node has in hand, which tries them too.
        self.put_off(waiting.into_iter().filter(|region| !told.regions.contains(region)));
        Ok(told.rows.len())
    }

    /// How long trying regions may take that could not be told, which all others wait for: as long as one that is slow may take to
    /// answer, or it would be put off for ever.
    fn trial(&self) -> Duration {
        let redis = self.caches.inner.redis.as_ref();
        redis.map_or(LIMIT, |(redis, _)| patience(redis).min(LIMIT))
    }

    fn put_off(&mut self, regions: impl IntoIterator<Item = String>) {
        let now = self.caches.inner.clock.now();
        regions.into_iter().for_each(|region| self.away.failed(region, now));
    }

    /// Tells some rows; returns how many there were, and what became of them.
    async fn tell(&self, pick: Pick, limit: Duration) -> Result<(usize, Told), DatabaseError> {
        let (rows, told) = match self.database.backend() {
            Backend::Postgres => self.tell_locked(pick, limit).await?,
            Backend::Sqlite => self.tell_alone(pick, limit).await?,
        };
        let count = u64::try_from(told.rows.len()).unwrap_or(u64::MAX);
        metrics::counter!("understudy_cache_outbox_told_total").increment(count);
        Ok((rows, told))
    }

    /// Since when the same row has waited, and which regions cannot be told; where none is known to be so, that of the row.
    fn remember(&mut self, oldest: Option<Oldest>) {
        let (outbox, now) = (&self.caches.inner.outbox, self.caches.inner.clock.now());
        let row = oldest.as_ref().map(|oldest| oldest.id);
        if row.is_none() || row != self.stuck {
            outbox.stuck.store(0, Ordering::Relaxed);
        }
        if let Some(Oldest { region, .. }) = oldest {
            Outbox::since(&outbox.stuck, now);
            let away = self.away.names();
            outbox.regions.store(Arc::new(if away.is_empty() { vec![region] } else { away }));
        }
        self.stuck = row;
    }

    /// With rows that nobody else has in hand.
    async fn tell_locked(
        &self,
        pick: Pick,
        limit: Duration,
    ) -> Result<(usize, Told), DatabaseError> {
        let caches = self.caches.clone();
        let telling = self.database.transaction(move |on| {
            let (caches, pick) = (caches.clone(), pick.clone());
            Box::pin(async move {
                let rows = table::pick(on, Backend::Postgres, &pick).await?;
                let told = tell(&caches, &rows, limit).await;
                table::strike_off(on, &told.rows).await?;
                Ok((rows.len(), told))
            })
        });
        telling.await
    }

    /// On a file nobody else is there. What is read is committed: not so within the writer's transaction, which is one for many.
    async fn tell_alone(
        &self,
        pick: Pick,
        limit: Duration,
    ) -> Result<(usize, Told), DatabaseError> {
        let reading = self.database.read(move |on| {
            let pick = pick.clone();
            Box::pin(async move { table::pick(on, Backend::Sqlite, &pick).await })
        });
        let rows = reading.await?;
        let told = tell(&self.caches, &rows, limit).await;
        let gone = told.rows.clone();
        let struck = self.database.step(move |on| {
            let gone = gone.clone();
            Box::pin(async move { table::strike_off(on, &gone).await })
        });
        struck.await?;
        Ok((rows.len(), told))
    }

    /// Writes into the log when telling begins to fail, and when it does so no more.
    fn note(&mut self, is_failing: bool) {
        match (self.is_failing, is_failing) {
            (false, true) => {
                // None is named while there is no connection at all.
                let regions = self.away.names().join(" ");
                warn!(
                    cache.regions = regions.as_str(),
                    "what transactions changed cannot be told to all nodes"
                );
            }
            (true, false) => info!("what transactions changed is told to all nodes again"),
            (true, true) | (false, false) => {}
        }
        self.is_failing = is_failing;
    }
}
