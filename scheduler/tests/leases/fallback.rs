//! The lease in Redis and the database together.

use std::sync::Arc;
use std::time::Duration;

use understudy_runtime::clock::ManualClock;
use understudy_scheduler::leader::{Acquire, FallbackLease, LeaderLease as _, Renewal};

use super::fixtures::{OnDatabase, RedisServer, value};

const TTL: Duration = Duration::from_secs(60);

struct Pair {
    server: RedisServer,
    database: OnDatabase,
    clock: Arc<ManualClock>,
}

impl Pair {
    async fn start() -> Self {
        Self {
            server: RedisServer::start(&[]).await,
            database: OnDatabase::sqlite().await,
            clock: Arc::new(ManualClock::new()),
        }
    }

    /// As one node has it.
    async fn lease(&self) -> FallbackLease {
        let redis = Arc::new(self.server.lease(0).await);
        let database = Arc::new(self.database.lease.clone());
        FallbackLease::new(redis, database, self.clock.clone(), TTL)
    }
}

#[tokio::test]
async fn a_leader_goes_on_by_the_database_while_redis_is_away_and_nobody_takes_it_when_it_is_back()
{
    let mut pair = Pair::start().await;
    let (first, second) = (pair.lease().await, pair.lease().await);
    let (a, b) = (value("a"), value("b"));
    assert_eq!(first.acquire(&a, TTL).await.unwrap(), Acquire::Won);
    pair.server.kill();
    assert_eq!(first.renew(&a, TTL).await.unwrap(), Renewal::Renewed);
    assert_eq!(second.peek().await.unwrap().unwrap().holder, Some(a.clone()));
    pair.clock.advance(TTL * 2);
    let Acquire::Held(held) = second.acquire(&b, TTL).await.unwrap() else { panic!("taken") };
    assert_eq!(held.holder, Some(a.clone()));
    pair.server.launch().await;
    // Empty: the lease is not there.
    let mut connects = second.reconnects().unwrap();
    connects.wait_for(|count| *count > 1).await.unwrap();
    let Acquire::Held(held) = second.acquire(&b, TTL).await.unwrap() else { panic!("taken") };
    assert_eq!(held.holder, Some(a.clone()));
    first.reconnects().unwrap().wait_for(|count| *count > 1).await.unwrap();
    assert_eq!(first.renew(&a, TTL).await.unwrap(), Renewal::Reasserted);
    assert_eq!(pair.server.cli(&["get", "us:t:{leader}:lease"]).trim(), a.to_string());
    assert!(first.release(&a).await.unwrap());
    assert_eq!(second.acquire(&b, TTL).await.unwrap(), Acquire::Won);
}

#[tokio::test]
async fn without_redis_somebody_is_elected_only_after_a_time_to_live() {
    let mut pair = Pair::start().await;
    let lease = pair.lease().await;
    let own = value("a");
    pair.server.kill();
    assert!(lease.peek().await.unwrap_err().is_retryable());
    assert!(lease.acquire(&own, TTL).await.is_err());
    pair.clock.advance(TTL - Duration::from_millis(1));
    assert!(lease.acquire(&own, TTL).await.is_err());
    pair.clock.advance(Duration::from_millis(1));
    assert_eq!(lease.peek().await.unwrap(), None);
    assert_eq!(lease.acquire(&own, TTL).await.unwrap(), Acquire::Won);
}

#[tokio::test]
async fn a_leader_in_redis_gives_way_to_one_that_the_database_knows() {
    let pair = Pair::start().await;
    let lease = pair.lease().await;
    let (own, other) = (value("a"), value("b"));
    assert_eq!(lease.acquire(&own, TTL).await.unwrap(), Acquire::Won);
    // Its row ran out while it could not reach the database, and another took it.
    pair.database.run("DELETE FROM us_leader_lease").await;
    assert_eq!(pair.database.lease.acquire(&other, TTL).await.unwrap(), Acquire::Won);
    let lost = Renewal::Lost { holder: Some(other.clone()) };
    assert_eq!(lease.renew(&own, TTL).await.unwrap(), lost);
    assert_eq!(pair.server.cli(&["exists", "us:t:{leader}:lease"]).trim(), "0");
    assert_eq!(lease.renew(&other, TTL).await.unwrap(), Renewal::Reasserted, "it takes the key");
}

#[tokio::test]
async fn without_the_database_redis_alone_decides() {
    let mut database = OnDatabase::postgres().await;
    let server = RedisServer::start(&[]).await;
    let clock = Arc::new(ManualClock::new());
    let limited = Arc::new(database.lease.clone());
    let lease = FallbackLease::new(Arc::new(server.lease(0).await), limited, clock, TTL);
    database.server.as_mut().unwrap().kill();
    let own = value("a");
    assert_eq!(lease.acquire(&own, TTL).await.unwrap(), Acquire::Won);
    assert_eq!(lease.renew(&own, TTL).await.unwrap(), Renewal::Renewed);
    assert!(lease.release(&own).await.unwrap());
    assert_eq!(lease.peek().await.unwrap(), None);
}
