//! What every store of the lease must do.

use std::time::Duration;

use understudy_scheduler::leader::{Acquire, LeaderLease, Renewal, SingleLease};

use super::fixtures::{OnDatabase, RedisServer, eventually, value};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn redis_passes() {
    let server = RedisServer::start(&[]).await;
    let lease = server.lease(0).await;
    passes(&lease).await;
    let own = value("a");
    assert_eq!(lease.acquire(&own, LONG).await.unwrap(), Acquire::Won);
    server.cli(&["flushall"]);
    put_back_after_a_loss(&lease, &own).await;
    assert_eq!(server.cli(&["get", "us:t:{leader}:lease"]).trim(), own.to_string());
    lease.release(&own).await.unwrap();
    server.cli(&["set", "us:t:{leader}:lease", "written by hand"]);
    let held = lease.peek().await.unwrap().unwrap();
    assert_eq!((held.holder, held.remaining), (None, Some(LONG)), "without an end, and unreadable");
    far_away_ends_are_cut(&server, &lease).await;
    server.cli(&["config", "set", "maxmemory", "1"]);
    server.cli(&["del", "us:t:{leader}:lease"]);
    assert_eq!(lease.acquire(&own, LONG).await.unwrap(), Acquire::Won, "on a full server, too");
}

/// As after the clock of Redis was set back by hours while the leader died: the others must not wait for as long.
async fn far_away_ends_are_cut(server: &RedisServer, lease: &dyn LeaderLease) {
    let (dead, other) = (value("dead"), value("other"));
    for by_look in [true, false] {
        server.cli(&["set", "us:t:{leader}:lease", &dead.to_string(), "px", "36000000"]);
        let held = if by_look {
            lease.peek().await.unwrap()
        } else {
            let Acquire::Held(held) = lease.acquire(&other, LONG).await.unwrap() else {
                panic!("it is held")
            };
            Some(held)
        };
        assert_eq!(held.unwrap().remaining, Some(LONG));
        let left: i64 = server.cli(&["pttl", "us:t:{leader}:lease"]).trim().parse().unwrap();
        assert!(left <= 60_000, "{left}");
    }
    // That of a cluster which is just getting a shorter one is left alone.
    server.cli(&["set", "us:t:{leader}:lease", &dead.to_string(), "px", "300000"]);
    let remaining = lease.peek().await.unwrap().unwrap().remaining.unwrap();
    assert!(remaining > LONG * 4, "{remaining:?}");
}

#[tokio::test]
async fn sqlite_passes() {
    database_passes(&OnDatabase::sqlite().await).await;
}

#[tokio::test]
async fn postgres_passes() {
    database_passes(&OnDatabase::postgres().await).await;
}

async fn database_passes(bench: &OnDatabase) {
    passes(&bench.lease).await;
    let own = value("a");
    assert_eq!(bench.lease.acquire(&own, LONG).await.unwrap(), Acquire::Won);
    bench.run("DELETE FROM us_leader_lease").await;
    put_back_after_a_loss(&bench.lease, &own).await;
}

async fn passes(lease: &dyn LeaderLease) {
    exclusive(lease).await;
    late_renewal(lease).await;
    released_once(lease).await;
    runs_out(lease).await;
    contended(lease).await;
}

async fn exclusive(lease: &dyn LeaderLease) {
    let (a, b) = (value("a"), value("b"));
    assert_eq!(lease.peek().await.unwrap(), None);
    assert_eq!(lease.acquire(&a, LONG).await.unwrap(), Acquire::Won);
    let Acquire::Held(held) = lease.acquire(&b, LONG).await.unwrap() else { panic!("two won") };
    assert_eq!(held.holder.as_ref(), Some(&a));
    let remaining = held.remaining.unwrap();
    assert!(remaining <= LONG && remaining > LONG - Duration::from_secs(10), "{remaining:?}");
    let held = lease.peek().await.unwrap().unwrap();
    assert_eq!(held.holder, Some(a.clone()));
    assert_eq!(lease.acquire(&a, LONG).await.unwrap(), Acquire::Won, "a bid may be repeated");
    assert_eq!(lease.renew(&a, LONG).await.unwrap(), Renewal::Renewed);
    assert!(lease.release(&a).await.unwrap());
}

async fn late_renewal(lease: &dyn LeaderLease) {
    let old = value("a");
    // Another term of the same life of the same node.
    let new = understudy_scheduler::leader::LeaseValue::new(old.node().clone(), u128::MAX);
    lease.acquire(&old, LONG).await.unwrap();
    lease.release(&old).await.unwrap();
    lease.acquire(&new, LONG / 2).await.unwrap();
    let lost = Renewal::Lost { holder: Some(new.clone()) };
    assert_eq!(lease.renew(&old, LONG).await.unwrap(), lost);
    let held = lease.peek().await.unwrap().unwrap();
    assert!(held.holder == Some(new.clone()) && held.remaining.unwrap() <= LONG / 2, "{held:?}");
    assert!(!lease.release(&old).await.unwrap());
    assert!(lease.release(&new).await.unwrap());
}

async fn released_once(lease: &dyn LeaderLease) {
    let own = value("a");
    assert!(!lease.release(&own).await.unwrap());
    lease.acquire(&own, LONG).await.unwrap();
    assert!(lease.release(&own).await.unwrap());
    assert!(!lease.release(&own).await.unwrap(), "who hears of a release hears of it once");
    assert_eq!(lease.peek().await.unwrap(), None);
}

async fn runs_out(lease: &dyn LeaderLease) {
    let (a, b) = (value("a"), value("b"));
    lease.acquire(&a, SHORT).await.unwrap();
    // Time itself is what is tested.
    for attempt in 0..2_000 {
        match lease.acquire(&b, LONG).await.unwrap() {
            Acquire::Won => break,
            Acquire::Held(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
        assert!(attempt < 1_999, "it never ran out");
    }
    assert_eq!(lease.renew(&a, LONG).await.unwrap(), Renewal::Lost { holder: Some(b.clone()) });
    assert!(lease.release(&b).await.unwrap());
}

async fn contended(lease: &dyn LeaderLease) {
    for _ in 0..20 {
        let bidders: Vec<_> = (0..8).map(|_| value("x")).collect();
        let bids = bidders.iter().map(|bidder| lease.acquire(bidder, LONG));
        let answers = futures_util::future::join_all(bids).await;
        let won: Vec<_> = (bidders.iter().zip(&answers))
            .filter(|(_, answer)| *answer.as_ref().unwrap() == Acquire::Won)
            .collect();
        assert_eq!(won.len(), 1);
        assert!(lease.release(won[0].0).await.unwrap());
    }
}

async fn put_back_after_a_loss(
    lease: &dyn LeaderLease,
    own: &understudy_scheduler::leader::LeaseValue,
) {
    assert_eq!(lease.peek().await.unwrap(), None);
    assert_eq!(lease.renew(own, LONG).await.unwrap(), Renewal::Reasserted);
    assert_eq!(lease.peek().await.unwrap().unwrap().holder.as_ref(), Some(own));
}

#[tokio::test]
async fn alone_a_lease_is_always_won() {
    let lease = SingleLease::new();
    let (first, second) = (value("a"), value("a"));
    assert_eq!(lease.acquire(&first, LONG).await.unwrap(), Acquire::Won);
    assert_eq!(lease.renew(&first, LONG).await.unwrap(), Renewal::Renewed);
    assert_eq!(lease.acquire(&second, LONG).await.unwrap(), Acquire::Won);
    assert!(!lease.release(&first).await.unwrap(), "a late release of an old term");
    assert_eq!(lease.peek().await.unwrap().unwrap().holder, Some(second.clone()));
    assert!(lease.release(&second).await.unwrap());
    assert!(!lease.release(&second).await.unwrap());
    assert_eq!(lease.peek().await.unwrap(), None);
}

#[tokio::test]
async fn a_lease_that_too_few_replicas_know_of_is_given_back() {
    let server = RedisServer::start(&[]).await;
    let lease = server.lease(1).await;
    let own = value("a");
    let answer = lease.acquire(&own, LONG).await.unwrap();
    assert!(matches!(answer, Acquire::Held(ref held) if held.holder.is_none()), "{answer:?}");
    assert_eq!(lease.peek().await.unwrap(), None);
    assert_eq!(lease.renew(&own, LONG).await.unwrap(), Renewal::Lost { holder: None });
    let port = server.port().to_string();
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &port]).await;
    eventually("the replica follows", || {
        server.cli(&["info", "replication"]).contains("state=online")
    })
    .await;
    // It may still be loading what it was sent.
    let mut attempts = 0;
    while lease.acquire(&own, LONG).await.unwrap() != Acquire::Won {
        attempts += 1;
        assert!(attempts < 100, "the replica is never counted");
    }
    assert_eq!(replica.cli(&["get", "us:t:{leader}:lease"]).trim(), own.to_string());
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let server = RedisServer::start(&[]).await;
    let lease = server.lease(0).await;
    server.cli(&["config", "set", "min-replicas-to-write", "1"]);
    let error = lease.acquire(&value("a"), LONG).await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("min-replicas"), "{error}");
}
