//! Tells what transactions left behind to be forgotten: on every node, at once when somebody here has written something, and once
//! a second in any case.
//!
//! Nodes do not wait for each other: on PostgreSQL each takes rows that no other one has in hand, tells them, and strikes them off
//! before its transaction ends. What could not be told stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::Outbox;
use super::listener;
use super::table::{self, PAGE, Row};
use crate::cache::handle::{check, forget_tag};
use crate::cache::shared::Forgotten;
use crate::cache::{Caches, ForgetError};
use crate::database::{Backend, Database, DatabaseError};
use crate::supervise::{Stopped, Supervised, spawn};

/// How often a node looks when nobody says that there is something.
const EVERY: Duration = Duration::from_secs(1);
/// How soon it looks again when somebody does: the transaction may be about to be committed.
const SOON: Duration = Duration::from_millis(20);
/// How long telling what is in hand may take. The server ends transactions that pause for longer than 2 s.
const LIMIT: Duration = Duration::from_millis(1_200);
/// From so many rows of a region on, all of it is forgotten instead.
const MANY: usize = 500;
static ALL: Forgotten = Forgotten::All;

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Look {
    /// How many rows were told, and are struck off.
    pub(super) told: usize,
    /// How many could not be told.
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
        Self { caches, database, stuck: None, is_failing: false }
    }

    fn outbox(&self) -> Arc<Outbox> {
        Arc::clone(&self.caches.inner.outbox)
    }

    async fn run(mut self) -> Stopped {
        let outbox = self.outbox();
        let mut pause = EVERY;
        loop {
            match self.look().await {
                Ok(Look { is_part: true, left: 0, .. }) => continue,
                Ok(look) => self.note(look.left > 0),
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
        let age = oldest.map_or(Duration::ZERO, |oldest| oldest.age);
        metrics::gauge!("understudy_cache_outbox_age_seconds").set(age.as_secs_f64());
        let found = oldest.map(|oldest| oldest.id);
        self.remember(found);
        if found.is_none() {
            return Ok(Look::default());
        }
        let redis = self.caches.inner.redis.as_ref();
        if redis.is_some_and(|(redis, _)| !redis.is_connected()) {
            // Others may have a way to it: they find the rows free.
            return Ok(Look { left: 1, ..Look::default() });
        }
        let look = match self.database.backend() {
            Backend::Postgres => self.tell_locked().await?,
            Backend::Sqlite => self.tell_alone().await?,
        };
        let told = u64::try_from(look.told).unwrap_or(u64::MAX);
        metrics::counter!("understudy_cache_outbox_told_total").increment(told);
        Ok(look)
    }

    /// Since when the same row has waited.
    fn remember(&mut self, oldest: Option<i64>) {
        let (outbox, now) = (&self.caches.inner.outbox, self.caches.inner.clock.now());
        if oldest.is_none() || oldest != self.stuck {
            outbox.stuck.store(0, Ordering::Relaxed);
        }
        if oldest.is_some() {
            Outbox::since(&outbox.stuck, now);
        }
        self.stuck = oldest;
    }

    /// With rows that nobody else has in hand.
    async fn tell_locked(&self) -> Result<Look, DatabaseError> {
        let caches = self.caches.clone();
        let look = self.database.transaction(move |on| {
            let caches = caches.clone();
            Box::pin(async move {
                let rows = table::pick(on, Backend::Postgres).await?;
                let told = tell(&caches, &rows).await;
                table::strike_off(on, &told).await?;
                Ok(look(rows.len(), told.len()))
            })
        });
        look.await
    }

    /// On a file nobody else is there. What is read is committed: not so within the writer's transaction, which is one for many.
    async fn tell_alone(&self) -> Result<Look, DatabaseError> {
        let rows = self.database.read(|on| Box::pin(table::pick(on, Backend::Sqlite))).await?;
        let told = tell(&self.caches, &rows).await;
        let look = look(rows.len(), told.len());
        let struck = self.database.step(move |on| {
            let told = told.clone();
            Box::pin(async move { table::strike_off(on, &told).await })
        });
        struck.await?;
        Ok(look)
    }

    /// Writes into the log when telling begins to fail, and when it does so no more.
    fn note(&mut self, is_failing: bool) {
        match (self.is_failing, is_failing) {
            (false, true) => warn!("what transactions changed cannot be told to all nodes"),
            (true, false) => info!("what transactions changed is told to all nodes again"),
            (true, true) | (false, false) => {}
        }
        self.is_failing = is_failing;
    }
}

fn look(rows: usize, told: usize) -> Look {
    Look { told, left: rows - told, is_part: rows == PAGE }
}

/// What is told in one go, for some rows.
struct Job<'a> {
    region: &'a str,
    what: &'a Forgotten,
    keep: Duration,
    rows: Vec<i64>,
}

/// Tells all nodes what rows say; returns those that were told.
async fn tell(caches: &Caches, rows: &[Row]) -> Vec<i64> {
    let told = join_all(jobs(rows).into_iter().map(|job| tell_one(caches, job))).await;
    told.into_iter().flatten().collect()
}

async fn tell_one(caches: &Caches, job: Job<'_>) -> Vec<i64> {
    let told = timeout(LIMIT, caches.told(&job)).await;
    match told {
        // Nothing is cached by a key that cannot be one: what was written past all checks is not told for ever.
        Ok(Ok(()) | Err(ForgetError::BadKey(_))) => job.rows,
        Ok(Err(ForgetError::Untold(error))) => {
            debug!(cache.region = job.region, %error, "what a transaction changed waits");
            Vec::new()
        }
        Err(_late) => Vec::new(),
    }
}

/// Puts rows together that say the same; many of one region are one for all of it.
fn jobs(rows: &[Row]) -> Vec<Job<'_>> {
    let mut regions: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        regions.entry(&row.region).or_default().push(row);
    }
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for (region, rows) in regions {
        let is_all = rows.len() > MANY || rows.iter().any(|row| row.what == Forgotten::All);
        let first = jobs.len();
        for row in rows {
            let what = if is_all { &ALL } else { &row.what };
            let same = |job: &&mut Job<'_>| job.what == what;
            match jobs[first..].iter_mut().find(same) {
                Some(job) => {
                    job.keep = job.keep.max(row.keep);
                    job.rows.push(row.id);
                }
                None => jobs.push(Job { region, what, keep: row.keep, rows: vec![row.id] }),
            }
        }
    }
    jobs
}

impl Caches {
    /// Has all nodes forget what some rows say, whether the region was opened here or not.
    async fn told(&self, job: &Job<'_>) -> Result<(), ForgetError> {
        match job.what {
            Forgotten::One(key) => self.forget(job.region, Some(key)).await,
            Forgotten::All => self.forget(job.region, None).await,
            Forgotten::Tagged(tag) => self.forget_tag(job.region, tag, job.keep).await,
        }
    }

    async fn forget_tag(&self, region: &str, tag: &str, keep: Duration) -> Result<(), ForgetError> {
        if let Some(core) = self.find(region) {
            return forget_tag(&core, tag).await;
        }
        let Some(shared) = self.shared(region) else { return Ok(()) };
        check(tag)?;
        let told = shared.forget_tag(tag, keep).await;
        shared.tell();
        told.map_err(ForgetError::Untold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, region: &str, what: Forgotten) -> Row {
        Row { id, region: region.to_owned(), what, keep: Duration::from_millis(id.unsigned_abs()) }
    }

    #[test]
    fn rows_that_say_the_same_are_told_once_and_many_clear_their_region() {
        let one = |key: usize| Forgotten::One(key.to_string());
        let rows =
            [row(1, "a", one(1)), row(2, "b", one(1)), row(3, "a", one(1)), row(4, "a", one(2))];
        let told = |rows: &[Row]| {
            let told = |job: Job<'_>| (job.region.to_owned(), job.what.clone(), job.rows);
            jobs(rows).into_iter().map(told).collect::<Vec<(String, Forgotten, Vec<i64>)>>()
        };
        assert_eq!(
            told(&rows),
            [
                ("a".to_owned(), one(1), vec![1, 3]),
                ("a".to_owned(), one(2), vec![4]),
                ("b".to_owned(), one(1), vec![2]),
            ]
        );
        let cleared = [row(1, "a", one(1)), row(2, "a", Forgotten::All)];
        assert_eq!(told(&cleared), [("a".to_owned(), Forgotten::All, vec![1, 2])]);
        let many: Vec<Row> = (0..=MANY).map(|key| row(7, "a", one(key))).collect();
        assert_eq!(told(&many), [("a".to_owned(), Forgotten::All, vec![7; MANY + 1])]);
        assert_eq!(told(&many[1..]).len(), MANY, "as many as that one by one");
    }
}
