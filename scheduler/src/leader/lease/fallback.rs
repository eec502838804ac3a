//! The lease in Redis, with one in the database for the time that Redis is away.
//!
//! The leader keeps both: Redis decides while it answers, and the row in the database tells a node that is cut off
//! from Redis that somebody leads, so that it takes nothing away. While Redis is away the leader goes on by the
//! database alone; when it dies then, the others elect there once Redis has been away for a time to live. Before
//! anybody takes the key in Redis it looks into the database, so Redis that comes back empty changes no leader either.
//!
//! When the database is away, Redis alone decides. When the two contradict each other (each was away for somebody
//! else), the holder in Redis gives way; should both believe in themselves for a moment, the epoch tells them apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use understudy_runtime::clock::SharedClock;

use super::{Acquire, Held, LeaderLease, LeaderLeaseError, LeaseValue, Renewal};

/// A lease in two places.
#[derive(Debug)]
pub struct FallbackLease {
    redis: Arc<dyn LeaderLease>,
    database: Arc<dyn LeaderLease>,
    clock: SharedClock,
    patience: Duration,
    /// When Redis was first found away, ns since boot; 0: it answered last time.
    away_since: AtomicU64,
}

impl FallbackLease {
    /// Puts the two together. Redis must have been away for `ttl` before anybody is elected without it.
    #[must_use]
    pub fn new(
        redis: Arc<dyn LeaderLease>,
        database: Arc<dyn LeaderLease>,
        clock: SharedClock,
        ttl: Duration,
    ) -> Self {
        Self { redis, database, clock, patience: ttl, away_since: AtomicU64::new(0) }
    }

    /// Notes whether Redis answered, and hands the answer on.
    fn heard<T>(&self, answer: Result<T, LeaderLeaseError>) -> Result<T, LeaderLeaseError> {
        if answer.is_ok() {
            self.away_since.store(0, Ordering::Release);
        } else {
            let now = self.clock.now().as_nanos();
            // Only the first failure counts, and boot itself is no moment of an outage.
            self.away_since.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire).ok();
        }
        answer
    }

    /// Whether Redis has been away for so long that the database may elect.
    fn is_redis_given_up(&self) -> bool {
        let since = self.away_since.load(Ordering::Acquire);
        let waited = Duration::from_nanos(self.clock.now().as_nanos().saturating_sub(since));
        since > 0 && waited >= self.patience
    }

    /// Returns who else has the lease in the database, as far as the database answers.
    async fn rival(&self, value: &LeaseValue) -> Option<Held> {
        let held = self.database.peek().await.ok().flatten()?;
        (held.holder.as_ref() != Some(value)).then_some(held)
    }
}

#[async_trait]
impl LeaderLease for FallbackLease {
    async fn acquire(
        &self,
        value: &LeaseValue,
        ttl: Duration,
    ) -> Result<Acquire, LeaderLeaseError> {
        if let Some(rival) = self.rival(value).await {
            return Ok(Acquire::Held(rival));
        }
        match self.heard(self.redis.acquire(value, ttl).await) {
            Ok(Acquire::Won) => match self.database.acquire(value, ttl).await {
                Ok(Acquire::Held(rival)) => {
                    self.redis.release(value).await?;
                    Ok(Acquire::Held(rival))
                }
                Ok(Acquire::Won) | Err(_) => Ok(Acquire::Won),
            },
            Ok(Acquire::Held(held)) => Ok(Acquire::Held(held)),
            Err(_) if self.is_redis_given_up() => self.database.acquire(value, ttl).await,
            Err(error) => Err(error),
        }
    }

    async fn peek(&self) -> Result<Option<Held>, LeaderLeaseError> {
        match self.heard(self.redis.peek().await) {
            Ok(Some(held)) => Ok(Some(held)),
            // Its database may be away too: then Redis's word stands.
            Ok(None) => Ok(self.database.peek().await.ok().flatten()),
            Err(error) => match self.database.peek().await {
                Ok(Some(held)) => Ok(Some(held)),
                Ok(None) if self.is_redis_given_up() => Ok(None),
                // That nobody is there says nothing while the leader may be one without this database.
                Ok(None) | Err(_) => Err(error),
            },
        }
    }

    async fn renew(&self, value: &LeaseValue, ttl: Duration) -> Result<Renewal, LeaderLeaseError> {
        let (redis, database) = futures_util::future::join(
            self.redis.renew(value, ttl),
            // Also puts the row back that another leader's end left behind.
            self.database.acquire(value, ttl),
        )
        .await;
        match (self.heard(redis), database) {
            (Ok(Renewal::Lost { holder }), _) => {
                self.database.release(value).await.ok();
                Ok(Renewal::Lost { holder })
            }
            (redis, Ok(Acquire::Held(rival))) => {
                if redis.is_ok() {
                    self.redis.release(value).await.ok();
                }
                Ok(Renewal::Lost { holder: rival.holder })
            }
            (Ok(kept), Ok(Acquire::Won) | Err(_)) => Ok(kept),
            (Err(_), Ok(Acquire::Won)) => Ok(Renewal::Renewed),
            (Err(error), Err(_)) => Err(error),
        }
    }

    async fn release(&self, value: &LeaseValue) -> Result<bool, LeaderLeaseError> {
        let (redis, database) =
            futures_util::future::join(self.redis.release(value), self.database.release(value))
                .await;
        match (self.heard(redis), database) {
            (Ok(in_redis), Ok(in_database)) => Ok(in_redis || in_database),
            (Ok(released), Err(_)) | (Err(_), Ok(released)) => Ok(released),
            (Err(error), Err(_)) => Err(error),
        }
    }

    fn reconnects(&self) -> Option<watch::Receiver<u64>> {
        self.redis.reconnects()
    }
}
