//! Brings to the database what it does not have yet of the sessions in Redis.
//!
//! Any node does, one per bucket at a time. Each round takes some of what has waited longest, reads those sessions as they
//! are by then, writes them in one transaction, and takes off the queue what was not changed meanwhile. A node that dies at
//! any point leaves the queue as it was, and another one goes on after [`HOLD`]; one that stood still and comes back writes what is
//! older than what is there, which the database refuses, and takes nothing off that was changed.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use understudy_runtime::ids::Bucket;

use super::within;
use crate::record::{Locator, Record};
use crate::store::database::{DatabaseStore, Kept, Known, Put};
use crate::store::redis::{RedisStore, Saved, Take, Unsaved};
use crate::store::{ReadReply, SessionStore as _, StoreError};

/// Most that one transaction writes.
const BATCH: u32 = 64;
/// How many sessions are read from Redis at a time.
const READS: usize = 16;
/// How long a node that was handed something keeps others from doing the same.
const HOLD: Duration = Duration::from_secs(5);
/// How old something is before it is brought over by others than the request that made it, with `write_through`.
const REQUESTS_FIRST: Duration = Duration::from_secs(1);
/// How long what is over stays in the database: clocks differ, and accesses come late.
const OVER_FOR: Duration = Duration::from_secs(3_600);
/// Most rows that one statement takes away.
const PURGED: u32 = 1_000;

/// Brings sessions from Redis to the database.
#[derive(Debug, Clone)]
pub struct Saver {
    redis: RedisStore,
    archive: DatabaseStore,
    longest: Duration,
    name: String,
    min_age: Duration,
}

/// What one run did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SaveReport {
    /// What the database did not have when the run began, as far as it could be told.
    pub waiting: u64,
    /// How long the oldest of that had waited.
    pub oldest: Duration,
    /// Sessions that were brought there.
    pub sessions: u64,
    /// Ends that were.
    pub ends: u64,
    /// What could not be.
    pub failed: u64,
    /// Sessions in Redis that the database says were ended. They have to be ended on all nodes.
    pub ended: Vec<Locator>,
    /// Why a bucket was left, if one was: Redis or the database is away.
    pub error: Option<String>,
}

/// What a session holds by now.
enum Held {
    Record(Box<Record>),
    /// It has run out of time: its key and its place in the queue were written in one step, and only the key runs out by itself.
    Over,
    /// It was ended.
    Nothing,
    Unreadable(StoreError),
}

impl Saver {
    pub(super) fn new(redis: RedisStore, archive: DatabaseStore, longest: Duration) -> Self {
        Self { redis, archive, longest, name: String::new(), min_age: Duration::ZERO }
    }

    /// Says who it is, and whether requests bring over at once what they change: then those come first.
    pub(super) fn named(self, name: &str, at_once: bool) -> Self {
        let min_age = if at_once { REQUESTS_FIRST } else { Duration::ZERO };
        Self { name: name.to_owned(), min_age, ..self }
    }

    /// Makes one that leaves nothing to requests: for a node that stops, and has none any more.
    #[must_use]
    pub fn at_once(&self) -> Self {
        Self { min_age: Duration::ZERO, ..self.clone() }
    }

    /// Brings over what waits in all buckets that no other node is at.
    pub async fn run_once(&self) -> SaveReport {
        let mut report = SaveReport::default();
        for bucket in self.redis.buckets() {
            if let Err(error) = self.save_bucket(bucket, &mut report).await {
                report.error = Some(error.to_string());
            }
        }
        report
    }

    async fn save_bucket(&self, bucket: Bucket, report: &mut SaveReport) -> Result<(), StoreError> {
        let (saver, min_age) = (self.name.as_str(), self.min_age);
        let take = Take { saver, hold: HOLD, min_age, limit: BATCH };
        let first = self.redis.take_unsaved(bucket, &take).await?;
        report.waiting += first.waiting;
        report.oldest = report.oldest.max(first.oldest);
        if !first.mine {
            return Ok(());
        }
        // What is changed all the time, or fails, comes up again: not in this run.
        let mut rounds = first.waiting.div_ceil(BATCH.into());
        let mut some = first.some;
        let mut result = Ok(());
        while !some.is_empty() {
            result = self.save(bucket, &some, report).await;
            rounds = rounds.saturating_sub(1);
            if result.is_err() || rounds == 0 {
                break;
            }
            some = self.redis.take_unsaved(bucket, &take).await?.some;
        }
        self.redis.leave_unsaved(bucket, saver).await?;
        result
    }

    async fn save(
        &self,
        bucket: Bucket,
        some: &[Unsaved],
        report: &mut SaveReport,
    ) -> Result<(), StoreError> {
        let mut saved = Vec::with_capacity(some.len());
        let mut sessions = Vec::new();
        for unsaved in some {
            match *unsaved {
                Unsaved::Session(locator) => sessions.push(locator),
                Unsaved::End(locator) => {
                    within(self.archive.keep_end(locator, self.longest)).await?;
                    report.ends += 1;
                    metrics::counter!("session_saved_total", "what" => "end").increment(1);
                    saved.push(Saved::End(locator));
                }
            }
        }
        self.save_sessions(sessions, &mut saved, report).await?;
        self.redis.settle(bucket, &saved).await
    }

    /// Writes sessions as they are by now, in the order of their locators.
    async fn save_sessions(
        &self,
        mut sessions: Vec<Locator>,
        saved: &mut Vec<Saved>,
        report: &mut SaveReport,
    ) -> Result<(), StoreError> {
        sessions.sort_unstable();
        let reads = sessions.iter().map(|locator| self.held(*locator)).collect::<Vec<_>>();
        let held: Vec<Result<Held, StoreError>> =
            stream::iter(reads).buffered(READS).collect().await;
        let (mut puts, mut those) = (Vec::new(), Vec::new());
        for (locator, held) in sessions.into_iter().zip(held) {
            match held? {
                Held::Over => {
                    self.end_older_copy(locator, report).await?;
                    saved.push(Saved::Nothing(locator));
                }
                Held::Nothing => saved.push(Saved::Nothing(locator)),
                Held::Unreadable(error) => saved.push(fail(locator, &error, report)),
                Held::Record(record) => match self.archive.prepare(locator, &record) {
                    Err(error) => saved.push(fail(locator, &error, report)),
                    Ok(put) => {
                        puts.push(put);
                        those.push((locator, record));
                    }
                },
            }
        }
        let kept = self.put_all(puts).await?;
        for ((locator, record), kept) in those.into_iter().zip(kept) {
            match kept {
                Err(error) => {
                    saved.push(fail(locator, &error, report));
                    continue;
                }
                Ok(Kept::Put) => {
                    report.sessions += 1;
                    metrics::counter!("session_saved_total", "what" => "session").increment(1);
                }
                Ok(Kept::Later) => {}
                Ok(Kept::Ended) => report.ended.push(locator),
            }
            saved.push(Saved::Session {
                locator,
                epoch: record.epoch,
                version: record.version,
                last_access_ms: Some(record.last_access_ms),
            });
        }
        Ok(())
    }

    /// Ends in the database what ran out of time in Redis before it was brought over: the older copy may last longer, for a
    /// login may have made the times shorter.
    async fn end_older_copy(
        &self,
        locator: Locator,
        report: &mut SaveReport,
    ) -> Result<(), StoreError> {
        if matches!(within(self.archive.known_of(locator)).await?, Known::Version(_)) {
            within(self.archive.keep_end(locator, self.longest)).await?;
            report.ends += 1;
            metrics::counter!("session_saved_total", "what" => "end").increment(1);
        }
        Ok(())
    }

    async fn held(&self, locator: Locator) -> Result<Held, StoreError> {
        match self.redis.read(locator).await {
            Ok(ReadReply::Found(record)) => Ok(Held::Record(record)),
            Ok(ReadReply::Missing) => Ok(Held::Over),
            // An end has a mark of its own in the queue.
            Ok(ReadReply::Revoked) => Ok(Held::Nothing),
            Err(error @ StoreError::Unavailable(_)) => Err(error),
            Err(error @ (StoreError::Refused(_) | StoreError::Unreadable(_))) => {
                Ok(Held::Unreadable(error))
            }
        }
    }

    /// Writes all in one transaction; when the database refuses that, each by itself, so that one holds no others up.
    async fn put_all(&self, puts: Vec<Put>) -> Result<Vec<Result<Kept, StoreError>>, StoreError> {
        if puts.is_empty() {
            return Ok(Vec::new());
        }
        match self.archive.put_all(puts.clone()).await {
            Ok(kept) => return Ok(kept.into_iter().map(Ok).collect()),
            Err(error @ StoreError::Unavailable(_)) => return Err(error),
            Err(error @ (StoreError::Refused(_) | StoreError::Unreadable(_))) => {
                tracing::debug!(%error, "sessions are brought to the database one by one");
            }
        }
        let mut kept = Vec::with_capacity(puts.len());
        for put in puts {
            match self.archive.put(put).await {
                Ok(one) => kept.push(Ok(one)),
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
                Err(error @ (StoreError::Refused(_) | StoreError::Unreadable(_))) => {
                    kept.push(Err(error));
                }
            }
        }
        Ok(kept)
    }

    /// Takes away what has been over for long; gives how many rows that were.
    ///
    /// # Errors
    /// [`StoreError`] when the database is away or refuses.
    pub async fn purge(&self) -> Result<u64, StoreError> {
        let mut purged = 0;
        loop {
            let some = self.archive.purge(OVER_FOR, PURGED).await?;
            purged += some;
            if some < u64::from(PURGED) {
                return Ok(purged);
            }
        }
    }
}

/// Notes that a session cannot be brought over. It stays in the queue, behind all others.
fn fail(locator: Locator, error: &StoreError, report: &mut SaveReport) -> Saved {
    report.failed += 1;
    metrics::counter!("session_save_failures_total").increment(1);
    let session = locator.id_for_logs();
    tracing::debug!(session.id = session, %error, "a session cannot be brought to the database");
    Saved::Failed(Unsaved::Session(locator))
}
