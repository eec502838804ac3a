use std::sync::atomic::{AtomicBool, Ordering};

use super::super::{Knowledge, LEASE, LeaseHandle, RedisLeases};
use super::*;
use crate::actors::Probe;
use crate::clock::{Clock as _, SystemClock};
use crate::keys::KeySpace;
use crate::membership::{Membership, MembershipSpec, record_for_test};
use crate::redis::testing::{RedisServer, cluster, config, eventually, node, stays};
use crate::redis::{ConnectError, Redis, Role};
use crate::secret::Secret;

const B: Bucket = Bucket(0);
const TTL: Duration = Duration::from_secs(2);

fn keys(buckets: u16) -> KeySpace {
    KeySpace::new(&"t".parse().unwrap(), buckets)
}

/// Knows the nodes it is told of, and is known when it is told so.
#[derive(Debug)]
struct Told {
    others: Option<Vec<NodeId>>,
    known: AtomicBool,
}

impl Knowledge for Told {
    fn others(&self) -> Option<Vec<NodeId>> {
        self.others.clone()
    }

    fn known_to_all(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }
}

fn told(others: Option<Vec<NodeId>>) -> Option<Arc<Told>> {
    Some(Arc::new(Told { others, known: AtomicBool::new(true) }))
}

async fn start(
    config: crate::config::RedisConfig,
    node_id: &NodeId,
    knowledge: Option<Arc<Told>>,
) -> LeaseHandle {
    start_with(config, node_id, knowledge.map(|told| told as Arc<dyn Knowledge>)).await
}

async fn start_with(
    config: crate::config::RedisConfig,
    node_id: &NodeId,
    knowledge: Option<Arc<dyn Knowledge>>,
) -> LeaseHandle {
    let buckets = if config.targets.hosts.len() > 1 { 64 } else { 1 };
    let spec = LeaseSpec {
        node_id: node_id.clone(),
        clock: SystemClock::shared(),
        ttl: TTL,
        buckets,
        knowledge,
        probe: Probe::unlisted(&LEASE),
    };
    let node_id = node_id.clone();
    let connect = move || async move {
        let redis = Redis::connect(&config, Role::Lease, &node_id).await?;
        Ok::<Arc<dyn LeaseStore>, ConnectError>(Arc::new(RedisLeases::new(redis, keys(buckets))))
    };
    LeaseHandle::start(spec, connect).await.unwrap()
}

async fn held(handle: &LeaseHandle) -> LeaseStamp {
    tokio::time::timeout(TTL * 3, handle.first_renewal(&SystemClock::shared())).await.unwrap();
    handle.board().current(B, SystemClock.now()).unwrap()
}

fn lease_of(server: &RedisServer, node: &NodeId) -> Option<u64> {
    server.cli(&["hget", "us:t:{0}:L", &format!("n:{node}")]).trim().parse().ok()
}

#[actix_rt::test]
async fn a_lease_is_held_for_as_long_as_it_is_renewed_and_given_back_in_the_end() {
    let server = RedisServer::start().await;
    let id = node("a");
    let handle = start(server.config(), &id, None).await;
    let stamp = held(&handle).await;
    let changes = handle.subscribe();
    stays("the lease is held, without a gap", TTL * 2, || {
        handle.board().holds(B, stamp, SystemClock.now())
    })
    .await;
    assert!(!changes.has_changed().unwrap());
    let behind = SystemClock.wall_ms().abs_diff(handle.board().server_now_ms(&SystemClock));
    assert!(behind < 50, "the store's clock is known: {behind}");
    assert!(server.cli(&["client", "list"]).contains("name=us-a-lease"));
    handle.release().await;
    assert_eq!(handle.board().current(B, SystemClock.now()), None);
    assert_eq!(lease_of(&server, &id), None);
    handle.release().await;
    stays_without_a_lease(&handle, &server, &id).await;
}

/// In the time of a lease it would be renewed three times.
async fn stays_without_a_lease(handle: &LeaseHandle, server: &RedisServer, id: &NodeId) {
    stays("there is no lease", TTL, || {
        handle.board().current(B, SystemClock.now()).is_none() && lease_of(server, id).is_none()
    })
    .await;
}

#[actix_rt::test]
async fn the_first_renewal_waits_for_the_connection_and_is_no_failure() {
    let server = RedisServer::start().await;
    server.freeze();
    let handle = start(server.config(), &node("a"), None).await;
    stays("nothing has failed", TTL / 3, || handle.trouble().is_none()).await;
    eventually("that none comes is told", || handle.trouble().is_some()).await;
    server.thaw();
    held(&handle).await;
    handle.release().await;
}

#[actix_rt::test]
async fn r4_a_lease_lapses_without_the_store_and_comes_back_as_another_one() {
    let server = RedisServer::start().await;
    let handle = start(server.config(), &node("a"), None).await;
    let before = held(&handle).await;
    server.freeze();
    let frozen = SystemClock.now();
    while handle.board().current(B, SystemClock.now()).is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(SystemClock.now() < frozen + TTL, "it lapses before the store lets others in");
    }
    assert!(handle.trouble().is_some());
    server.thaw();
    let back = SystemClock.now();
    let after = held(&handle).await;
    assert_eq!((after.generation, after.rid_epoch), (before.generation + 1, before.rid_epoch));
    assert!(SystemClock.now() < back + Duration::from_millis(1500));
    assert!(handle.trouble().is_none());
    handle.release().await;
}

#[actix_rt::test]
async fn k5_r6_a_store_that_restarted_within_the_lease_is_noticed_and_is_no_gap() {
    let mut server = RedisServer::start().await;
    let handle = start(server.config(), &node("a"), None).await;
    let before = held(&handle).await;
    let changes = handle.subscribe();
    server.kill();
    server.launch().await;
    eventually("the other run id is seen", || changes.has_changed().unwrap()).await;
    let after = handle.board().current(B, SystemClock.now()).unwrap();
    assert_eq!((after.generation, after.rid_epoch), (before.generation, before.rid_epoch + 1));
    handle.release().await;
}

#[actix_rt::test]
async fn the_grace_of_a_restarted_store_ends_when_all_who_knew_each_other_have_put_back_what_they_own()
 {
    let mut server = RedisServer::start().await;
    let (a, b) = (node("a"), node("b"));
    let first = start(server.config(), &a, told(Some(vec![b.clone()]))).await;
    let second = start(server.config(), &b, told(Some(vec![a.clone()]))).await;
    let (may_finish, finish) = watch::channel(false);
    first.before_settling(Arc::new(|_, _| Box::pin(async {})));
    second.before_settling(Arc::new(move |_, _| {
        let mut finish = finish.clone();
        Box::pin(async move {
            finish.wait_for(|finish| *finish).await.unwrap();
        })
    }));
    held(&first).await;
    held(&second).await;
    server.kill();
    server.launch().await;
    let grace = || server.cli(&["hget", "us:t:{0}:L", "grace"]).trim().parse::<u64>().ok();
    let now = || SystemClock.wall_ms();
    eventually("a waits for b", || {
        server.cli(&["hkeys", "us:t:{0}:L"]).contains(&format!("w:{b}"))
    })
    .await;
    assert!(grace().unwrap() > now() + 200, "b has not put back what it owns");
    may_finish.send(true).unwrap();
    eventually("the grace is over", || grace().unwrap() <= now()).await;
    assert!(lease_of(&server, &a).is_some_and(|end| end > now()), "long before the leases ran out");
    first.release().await;
    second.release().await;
}

#[actix_rt::test]
async fn a_node_that_does_not_know_the_others_puts_back_what_it_owns_and_leaves_the_grace_alone() {
    let mut server = RedisServer::start().await;
    let handle = start(server.config(), &node("a"), told(None)).await;
    let put_back = Arc::new(AtomicBool::new(false));
    let done = put_back.clone();
    handle.before_settling(Arc::new(move |_, _| {
        done.store(true, Ordering::Relaxed);
        Box::pin(async {})
    }));
    held(&handle).await;
    server.kill();
    server.launch().await;
    eventually("what it owns is put back", || put_back.load(Ordering::Relaxed)).await;
    // One that settles does so at once, and three times as long would be enough for a second attempt.
    stays("the grace is left alone", Duration::from_millis(300), || {
        !server.cli(&["hkeys", "us:t:{0}:L"]).lines().any(|field| field == "c")
    })
    .await;
    handle.release().await;
}

#[actix_rt::test]
async fn a_lease_is_not_trusted_before_everybody_knows_the_node() {
    let server = RedisServer::start().await;
    let (id, told) = (node("a"), told(Some(vec![])));
    told.as_ref().unwrap().known.store(false, Ordering::Relaxed);
    let handle = start(server.config(), &id, told.clone()).await;
    eventually("it is renewed", || lease_of(&server, &id).is_some()).await;
    // In this time it is renewed three times, and each time could be believed.
    stays("nothing is published", TTL, || {
        handle.board().current(B, SystemClock.now()).is_none() && lease_of(&server, &id).is_some()
    })
    .await;
    told.unwrap().known.store(true, Ordering::Relaxed);
    held(&handle).await;
    handle.release().await;
}

#[actix_rt::test]
async fn an_evicted_node_stops_at_once_and_for_good() {
    let server = RedisServer::start().await;
    let id = node("a");
    let handle = start(server.config(), &id, None).await;
    held(&handle).await;
    server.cli(&["hset", "us:t:{0}:L", &format!("n:{id}"), "dead"]);
    eventually("it stops", || handle.board().current(B, SystemClock.now()).is_none()).await;
    server.cli(&["hdel", "us:t:{0}:L", &format!("n:{id}")]);
    stays_without_a_lease(&handle, &server, &id).await;
    handle.release().await;
}

#[actix_rt::test]
async fn k9_a_user_without_info_is_told_what_is_missing() {
    let server = RedisServer::start().await;
    server.cli(&[
        "acl",
        "setuser",
        "app",
        "on",
        ">s3cret",
        "~us:*",
        "&us:*",
        "+@all",
        "-@dangerous",
    ]);
    let mut config = server.config();
    config.targets.username = Some("app".to_owned());
    config.targets.password = Some(Secret::new("s3cret".to_owned()));
    let handle = start(config, &node("a"), None).await;
    eventually("it is told", || {
        handle.trouble().is_some_and(|trouble| trouble.to_string().contains("+info"))
    })
    .await;
    server.cli(&["acl", "setuser", "app", "+info"]);
    held(&handle).await;
    assert!(handle.trouble().is_none());
    handle.release().await;
}

#[actix_rt::test]
async fn a_node_starts_while_the_store_is_away_and_holds_its_lease_once_it_is_there() {
    let mut server = RedisServer::start().await;
    server.kill();
    let handle = start(server.config(), &node("a"), None).await;
    eventually("it tells what it waits for", || {
        handle.trouble().is_some_and(|trouble| matches!(*trouble, LeaseError::Unavailable(_)))
    })
    .await;
    server.launch().await;
    held(&handle).await;
    handle.release().await;
}

#[actix_rt::test]
async fn all_64_buckets_of_a_cluster_are_held() {
    let servers = cluster().await;
    let ports = servers.iter().map(|server| server.port).collect();
    let id = node("a");
    let handle = start(config(ports, crate::config::Topology::Cluster), &id, None).await;
    held(&handle).await;
    stays("all are held", TTL * 2, || handle.board().all_held(SystemClock.now())).await;
    assert_eq!(handle.board().current(Bucket(63), SystemClock.now()).unwrap().generation, 1);
    handle.release().await;
    let held: usize =
        servers.iter().map(|server| server.cli(&["dbsize"]).trim().parse::<usize>().unwrap()).sum();
    assert_eq!(held, 64, "one table per bucket");
}

#[actix_rt::test]
async fn b13_leases_are_renewed_on_a_full_server() {
    let server = RedisServer::start().await;
    server.cli(&["config", "set", "maxmemory", "1"]);
    let handle = start(server.config(), &node("a"), None).await;
    held(&handle).await;
    handle.release().await;
    assert!(handle.trouble().is_none());
}

#[actix_rt::test]
async fn a_handle_that_is_lost_stops_renewing_as_a_crash_would() {
    let server = RedisServer::start().await;
    let id = node("a");
    let handle = start(server.config(), &id, None).await;
    held(&handle).await;
    drop(handle);
    eventually("the connection closes", || !server.cli(&["client", "list"]).contains("us-a-lease"))
        .await;
    let end = lease_of(&server, &id).expect("not given back");
    // Half of its time, in which it would be renewed at least once.
    stays("it runs out", TTL / 2, || lease_of(&server, &id) == Some(end)).await;
}

/// The real thing: two nodes that know each other by the list, and a store that comes back empty.
#[actix_rt::test]
async fn nodes_that_know_each_other_by_the_list_end_the_grace_early() {
    let mut server = RedisServer::start().await;
    let mut handles = Vec::new();
    for name in ["a", "b"] {
        let id = node(name);
        let redis = server.connect(Role::Data(0), &id).await;
        let spec = MembershipSpec {
            heartbeat: Duration::from_millis(500),
            ttl: TTL,
            clock: SystemClock::shared(),
        };
        let membership =
            Membership::join(redis, &keys(1), record_for_test(id.clone()), spec).await.unwrap();
        let handle = start_with(server.config(), &id, Some(Arc::new(membership.clone()))).await;
        handle.before_settling(Arc::new(|_, _| Box::pin(async {})));
        held(&handle).await;
        handles.push((membership, handle));
    }
    let steady = SystemClock.now() + TTL * 5;
    while !handles
        .iter()
        .all(|(membership, _)| membership.others().is_some_and(|all| all.len() == 1))
    {
        assert!(SystemClock.now() < steady, "they become sure of each other");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.kill();
    server.launch().await;
    let back = SystemClock.now();
    let grace = || server.cli(&["hget", "us:t:{0}:L", "grace"]).trim().parse::<u64>().ok();
    eventually("the grace is over", || grace().is_some_and(|end| end <= SystemClock.wall_ms()))
        .await;
    let took = SystemClock.now().saturating_duration_since(back);
    println!("grace over {took:?} after the restart");
    assert!(took < TTL, "{took:?}");
    assert!(server.cli(&["hkeys", "us:t:{0}:L"]).lines().any(|field| field == "c"));
    for (_, handle) in handles {
        handle.release().await;
    }
}
