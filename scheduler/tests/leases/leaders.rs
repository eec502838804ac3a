//! Whole leaders, each with its thread and its connection, on a real Redis; they hear each other on a bus within the
//! process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use understudy_runtime::actors::Probe;
use understudy_runtime::bus::{Bus, LocalHub};
use understudy_runtime::clock::{Clock as _, SystemClock};
use understudy_runtime::ids::NodeId;
use understudy_runtime::redis::{ConnectError, Redis, Role};
use understudy_scheduler::leader::{
    Acquire, Held, Inauguration, InaugurationError, LEADER, LeaderHandle, LeaderLease,
    LeaderLeaseError, LeaderPhase, LeaderSpec, LeaseValue, RedisLease, Renewal, SingleLease,
};

use super::fixtures::{RedisServer, eventually, keys, node};

const TTL: Duration = Duration::from_secs(2);

/// Counts terms in memory; may be told to keep its caller waiting.
#[derive(Debug, Default)]
struct Counter {
    epoch: AtomicU64,
    stalled: AtomicBool,
    ended: dashmap::DashMap<u64, String>,
}

#[async_trait]
impl Inauguration for Counter {
    async fn inaugurate(&self, _: &NodeId, _: &str) -> Result<u64, InaugurationError> {
        if self.stalled.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        Ok(self.epoch.fetch_add(1, Ordering::Relaxed) + 1)
    }

    async fn end_term(&self, epoch: u64, reason: &str) -> Result<(), InaugurationError> {
        self.ended.insert(epoch, reason.to_owned());
        Ok(())
    }
}

/// What the nodes of one cluster share.
#[derive(Default)]
struct Cluster {
    hub: LocalHub,
    terms: Arc<Counter>,
}

impl Cluster {
    fn spec(name: &str) -> LeaderSpec {
        LeaderSpec {
            maintenance: false,
            frozen: false,
            node_id: node(name),
            clock: SystemClock::shared(),
            ttl: TTL,
            renew: TTL / 3,
            margin: Duration::from_millis(500),
            eligible: true,
            priority: 0,
            probe: Probe::unlisted(&LEADER),
        }
    }

    async fn start(&self, server: &RedisServer, spec: LeaderSpec) -> LeaderHandle {
        let (config, node_id) = (spec.redis(&server.config()), spec.node_id.clone());
        let bus = Bus::local(&self.hub, spec.node_id.clone());
        let connect = move || async move {
            let redis = Redis::connect(&config, Role::Leader, &node_id).await?;
            let lease: Arc<dyn LeaderLease> = Arc::new(RedisLease::new(redis, &keys(), 0, TTL));
            Ok::<_, ConnectError>(lease)
        };
        LeaderHandle::start(spec, bus, self.terms.clone(), connect).await.unwrap()
    }
}

fn epoch(handle: &LeaderHandle) -> Option<u64> {
    handle.board().leading(SystemClock.now()).map(|term| term.epoch)
}

async fn leads(handle: &LeaderHandle) -> u64 {
    eventually("it leads", || epoch(handle).is_some()).await;
    epoch(handle).unwrap()
}

#[actix_rt::test]
async fn one_leads_every_node_knows_who_and_another_takes_over_when_it_resigns() {
    let (server, cluster) = (RedisServer::start(&[]).await, Cluster::default());
    let a = cluster.start(&server, Cluster::spec("a")).await;
    assert_eq!(leads(&a).await, 1);
    assert!(server.cli(&["client", "list"]).contains("name=us-a-leader"));
    let b = cluster.start(&server, Cluster::spec("b")).await;
    eventually("b knows a", || b.status().leader.is_some_and(|leader| leader == a.status().this))
        .await;
    assert_eq!((b.status().state, epoch(&b)), (LeaderPhase::Standby, None));
    let term = a.board().leading(SystemClock.now()).unwrap();
    let begin = SystemClock.now();
    a.resign().await;
    assert!(term.ended.is_cancelled() && epoch(&a).is_none());
    assert_eq!(leads(&b).await, 2);
    let took = SystemClock.now().saturating_duration_since(begin);
    println!("taken over after {took:?}");
    assert!(took < Duration::from_millis(250), "{took:?}");
    assert_eq!(a.status().state, LeaderPhase::Stopped);
    assert_eq!(cluster.terms.ended.get(&1).unwrap().as_str(), "resigned");
    a.resign().await;
    b.resign().await;
    assert_eq!(server.cli(&["exists", "us:t:{leader}:lease"]).trim(), "0");
}

#[actix_rt::test]
async fn a_leader_that_is_gone_without_a_word_is_replaced_after_its_time() {
    let (server, cluster) = (RedisServer::start(&[]).await, Cluster::default());
    let a = cluster.start(&server, Cluster::spec("a")).await;
    leads(&a).await;
    let b = cluster.start(&server, Cluster::spec("b")).await;
    eventually("b knows a", || b.status().leader.is_some()).await;
    let term = a.board().leading(SystemClock.now()).unwrap();
    drop(a);
    let begin = SystemClock.now();
    leads(&b).await;
    let took = SystemClock.now().saturating_duration_since(begin);
    assert!(took < TTL + Duration::from_millis(500), "{took:?}");
    drop(term);
    b.resign().await;
}

#[actix_rt::test]
async fn redis_that_restarts_empty_changes_no_leader() {
    let (mut server, cluster) = (RedisServer::start(&[]).await, Cluster::default());
    let a = cluster.start(&server, Cluster::spec("a")).await;
    leads(&a).await;
    let b = cluster.start(&server, Cluster::spec("b")).await;
    eventually("b knows a", || b.status().leader.is_some()).await;
    let term = a.board().leading(SystemClock.now()).unwrap();
    for _ in 0..3 {
        server.kill();
        server.launch().await;
        eventually("a puts its lease back", || {
            server.cli(&["get", "us:t:{leader}:lease"]).starts_with("a#")
        })
        .await;
    }
    assert!(!term.ended.is_cancelled() && epoch(&a) == Some(term.epoch));
    assert_eq!(cluster.terms.epoch.load(Ordering::Relaxed), 1);
    a.resign().await;
    b.resign().await;
}

#[actix_rt::test]
async fn a_leader_without_redis_steps_down_before_its_lease_can_end_and_leads_again_afterwards() {
    let (mut server, cluster) = (RedisServer::start(&[]).await, Cluster::default());
    let a = cluster.start(&server, Cluster::spec("a")).await;
    leads(&a).await;
    let term = a.board().leading(SystemClock.now()).unwrap();
    server.kill();
    let begin = SystemClock.now();
    tokio::time::timeout(TTL, term.ended.cancelled()).await.unwrap();
    assert!(SystemClock.now().saturating_duration_since(begin) < TTL);
    eventually("it is noted", || {
        cluster.terms.ended.get(&1).is_some_and(|reason| *reason == "self_fenced")
    })
    .await;
    assert!(a.status().trouble.is_some());
    eventually("it knows of no leader", || a.status().leader.is_none()).await;
    server.launch().await;
    assert_eq!(leads(&a).await, 2);
    assert!(a.status().trouble.is_none());
    a.resign().await;
}

#[actix_rt::test]
async fn a_database_that_does_not_answer_keeps_nobody_from_renewing_and_is_left_to_another_node() {
    let (server, cluster) = (RedisServer::start(&[]).await, Cluster::default());
    cluster.terms.stalled.store(true, Ordering::Relaxed);
    let a = cluster.start(&server, Cluster::spec("a")).await;
    eventually("it has the lease", || a.status().state == LeaderPhase::Acquired).await;
    let mut deadlines = std::collections::BTreeSet::new();
    eventually("it renewed, and gave up", || {
        let status = a.status();
        if status.state == LeaderPhase::Acquired {
            deadlines.insert(server.cli(&["pexpiretime", "us:t:{leader}:lease"]));
        }
        status.state == LeaderPhase::Standby
    })
    .await;
    assert!(deadlines.len() >= 2, "{deadlines:?}");
    assert!(a.status().hold_until_ms.is_some() && epoch(&a).is_none());
    assert_eq!(server.cli(&["exists", "us:t:{leader}:lease"]).trim(), "0");
    cluster.terms.stalled.store(false, Ordering::Relaxed);
    let b = cluster.start(&server, Cluster::spec("b")).await;
    leads(&b).await;
    a.resign().await;
    b.resign().await;
}

#[actix_rt::test]
async fn stepping_down_and_a_stale_epoch_hand_leadership_to_the_other() {
    let (server, cluster) = (RedisServer::start(&[]).await, Cluster::default());
    let a = cluster.start(&server, Cluster::spec("a")).await;
    leads(&a).await;
    let b = cluster.start(&server, Cluster::spec("b")).await;
    eventually("b knows a", || b.status().leader.is_some()).await;
    a.step_down(Some(Duration::from_secs(60))).await;
    assert!(epoch(&a).is_none() && a.status().hold_until_ms.is_some());
    assert_eq!(leads(&b).await, 2);
    let mut states = b.subscribe();
    b.stale_epoch(1);
    b.stale_epoch(2);
    states.wait_for(|state| state.phase == LeaderPhase::Fenced).await.unwrap();
    eventually("it is noted", || {
        cluster.terms.ended.get(&2).is_some_and(|reason| *reason == "stale_epoch")
    })
    .await;
    assert_eq!(cluster.terms.ended.get(&1).unwrap().as_str(), "stepped_down");
    b.set_maintenance(true);
    a.resign().await;
    b.resign().await;
}

#[actix_rt::test]
async fn alone_a_node_leads_at_once_and_for_as_long_as_it_likes() {
    let cluster = Cluster::default();
    let spec = Cluster::spec("a");
    let bus = Bus::local(&cluster.hub, spec.node_id.clone());
    let connect = || async {
        let lease: Arc<dyn LeaderLease> = Arc::new(SingleLease::new());
        Ok::<_, std::convert::Infallible>(lease)
    };
    let a = LeaderHandle::start(spec, bus, cluster.terms.clone(), connect).await.unwrap();
    assert_eq!(leads(&a).await, 1);
    let status = serde_json::to_value(a.status()).unwrap();
    assert_eq!(status["state"], "leading");
    assert_eq!((&status["leader"], &status["epoch"]), (&status["this"], &1.into()));
    a.set_eligible(false);
    eventually("it does not lead", || a.status().state == LeaderPhase::Standby).await;
    a.set_eligible(true);
    assert_eq!(leads(&a).await, 2);
    a.resign().await;
}

/// A lease whose connection is made when the test says so.
#[derive(Debug)]
struct Late {
    inner: SingleLease,
    connects: watch::Sender<u64>,
    /// How often it was asked before that.
    too_early: AtomicU64,
}

impl Late {
    fn look(&self) {
        if *self.connects.borrow() == 0 {
            self.too_early.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[async_trait]
impl LeaderLease for Late {
    async fn acquire(
        &self,
        value: &LeaseValue,
        ttl: Duration,
    ) -> Result<Acquire, LeaderLeaseError> {
        self.look();
        self.inner.acquire(value, ttl).await
    }

    async fn peek(&self) -> Result<Option<Held>, LeaderLeaseError> {
        self.look();
        self.inner.peek().await
    }

    async fn renew(&self, value: &LeaseValue, ttl: Duration) -> Result<Renewal, LeaderLeaseError> {
        self.look();
        self.inner.renew(value, ttl).await
    }

    async fn release(&self, value: &LeaseValue) -> Result<bool, LeaderLeaseError> {
        self.inner.release(value).await
    }

    fn reconnects(&self) -> Option<watch::Receiver<u64>> {
        Some(self.connects.subscribe())
    }
}

#[actix_rt::test]
async fn the_first_question_waits_for_the_connection() {
    let cluster = Cluster::default();
    // So that there are 1.5 s for it.
    let spec = LeaderSpec { ttl: Duration::from_secs(5), ..Cluster::spec("a") };
    let bus = Bus::local(&cluster.hub, spec.node_id.clone());
    let (inner, connects) = (SingleLease::new(), watch::Sender::new(0));
    let late = Arc::new(Late { inner, connects, too_early: AtomicU64::new(0) });
    let lease: Arc<dyn LeaderLease> = Arc::<Late>::clone(&late);
    let connect = move || async move { Ok::<_, std::convert::Infallible>(lease) };
    let a = LeaderHandle::start(spec, bus, cluster.terms.clone(), connect).await.unwrap();
    // Nothing is to happen meanwhile.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(epoch(&a), None);
    late.connects.send_replace(1);
    assert_eq!(leads(&a).await, 1);
    assert_eq!(late.too_early.load(Ordering::Relaxed), 0, "it would have failed at once");
    a.resign().await;
}
