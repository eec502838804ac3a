//! Nodes whose readers of the log are stepped by hand, on a real Redis, with clocks that move only when told.

use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};

use super::shared::Place;
use super::tail::{Look, look};
use super::*;
use crate::bus::LocalHub;
use crate::clock::{ManualClock, SystemClock};
use crate::config::Topology;
use crate::redis::Role;
use crate::redis::testing::{RedisServer, cluster, config, connected, eventually, node};

mod gate;
mod history;
mod lenient;
mod model;

const PRICES: Region = Region::new("prices").lives(Duration::from_secs(60));
const LIMIT: Duration = Duration::from_secs(10);

/// A node that looks for news when a test says so.
struct Seat {
    cache: Cache<str, u64>,
    place: Place,
    clock: Arc<ManualClock>,
}

impl Seat {
    async fn on(server: &RedisServer, name: &str) -> Self {
        Self::sharing(Self::shared(server, name).await).await
    }

    async fn sharing(shared: Shared) -> Self {
        Self::looking(shared, PRICES).await
    }

    /// One whose region has other options.
    async fn of(server: &RedisServer, name: &str, region: Region) -> Self {
        Self::looking(Self::shared(server, name).await, region).await
    }

    async fn looking(shared: Shared, region: Region) -> Self {
        let mut seat = Self::with(region, Some(shared), Arc::new(ManualClock::new()));
        seat.look().await;
        seat
    }

    /// What a node has in Redis; it tells nobody, as if all messages were lost.
    async fn shared(server: &RedisServer, name: &str) -> Shared {
        Self::shared_over(server.connect(Role::Data(0), &node(name)).await, name)
    }

    fn shared_over(redis: Redis, name: &str) -> Shared {
        Shared {
            keys: Arc::new(KeySpace::new(&"t".parse().unwrap(), redis.buckets())),
            redis,
            region: PRICES.name().to_owned(),
            bus: Bus::local(&LocalHub::new(), node(name)),
            nodes: Arc::new(Vec::new),
        }
    }

    fn alone() -> Self {
        Self::with(PRICES, None, Arc::new(ManualClock::new()))
    }

    fn with(region: Region, shared: Option<Shared>, clock: Arc<ManualClock>) -> Self {
        let core = Core::new(region, TypeId::of::<u64>(), shared, clock.clone());
        let cache = Cache { core: Arc::new(core), shape: PhantomData };
        Self { cache, place: Place::default(), clock }
    }

    /// Looks until all was read.
    async fn look(&mut self) {
        let core = &*self.cache.core;
        let shared = core.shared.as_ref().unwrap();
        while look(core, shared, &mut self.place).await.unwrap() == Look::Part {}
    }

    /// Asks for a value; what is given is what is loaded if it has to be.
    async fn get(&self, key: &str, loaded: u64) -> u64 {
        let load = || ready(Ok::<u64, Infallible>(loaded));
        *self.cache.get_with(key, load).await.unwrap()
    }

    async fn get_tagged(&self, key: &str, tags: &[&str], loaded: u64) -> u64 {
        let load = || ready(Ok::<u64, Infallible>(loaded));
        *self.cache.get_tagged(key, tags, load).await.unwrap()
    }

    fn cleared(&self) -> u64 {
        self.cache.core.report().cleared
    }
}

#[tokio::test]
async fn c3_a_hundred_who_ask_at_once_load_once() {
    let seat = Seat::alone();
    let loads = AtomicU64::new(0);
    let asked = (0..100).map(|_| {
        seat.cache.get_with("k", async || {
            tokio::task::yield_now().await;
            Ok::<u64, Infallible>(loads.fetch_add(1, Ordering::Relaxed))
        })
    });
    let given = futures_util::future::join_all(asked).await;
    assert!(given.iter().all(|given| **given.as_ref().unwrap() == 0));
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    assert_eq!(seat.get("k", 7).await, 0, "from memory");
    seat.cache.forget("k").await.unwrap();
    assert_eq!(seat.get("k", 7).await, 7, "forgotten");
    seat.clock.advance(Duration::from_secs(61));
    assert_eq!(seat.get("k", 8).await, 8, "its life is over");
    seat.cache.clear().await.unwrap();
    assert_eq!(seat.get("k", 9).await, 9);
}

#[tokio::test]
async fn c7_what_was_read_before_a_change_is_not_kept_after_it() {
    let seat = Seat::alone();
    let (begun, loading) = tokio::sync::oneshot::channel();
    let (goes_on, waits) = tokio::sync::oneshot::channel::<()>();
    let slow = seat.cache.get_with("k", async move || {
        begun.send(()).unwrap();
        waits.await.unwrap();
        Ok::<u64, Infallible>(1)
    });
    let change = async {
        loading.await.unwrap();
        seat.cache.forget("k").await.unwrap();
        assert_eq!(seat.get("k", 2).await, 2, "nobody waits for what was read before");
        seat.cache.forget("k").await.unwrap();
        goes_on.send(()).unwrap();
    };
    let (old, ()) = tokio::join!(slow, change);
    assert_eq!(*old.unwrap(), 1, "who asked before may be given it");
    assert_eq!(seat.get("k", 3).await, 3);
}

#[tokio::test]
async fn loading_that_fails_or_takes_too_long_is_told_to_all_who_wait_and_nothing_is_kept() {
    let limit = Duration::from_millis(20);
    let region = PRICES.load_limit(limit);
    let seat = Seat::with(region, None, Arc::new(ManualClock::new()));
    let failing = || {
        seat.cache.get_with("k", || async {
            tokio::task::yield_now().await;
            Err::<u64, String>("no".to_owned())
        })
    };
    let (one, other) = tokio::join!(failing(), failing());
    for result in [one, other] {
        assert!(matches!(result, Err(CacheError::Load(error)) if *error == "no"));
    }
    let slow = || seat.cache.get_with("k", pending::<Result<u64, String>>);
    let (one, other) = tokio::join!(slow(), slow());
    for result in [one, other] {
        assert!(matches!(result, Err(CacheError::TooLong(most)) if most == limit));
    }
    assert_eq!(seat.get("k", 5).await, 5);
}

#[tokio::test]
async fn who_goes_away_while_it_loads_leaves_it_to_the_next() {
    let seat = Seat::alone();
    let mut gone = Box::pin(seat.cache.get_with("k", pending::<Result<u64, Infallible>>));
    assert!(futures_util::poll!(gone.as_mut()).is_pending());
    let mut next = Box::pin(seat.get("k", 4));
    assert!(futures_util::poll!(next.as_mut()).is_pending(), "it waits");
    drop(gone);
    assert_eq!(next.await, 4);
}

#[tokio::test]
async fn keys_and_regions_that_cannot_be_are_refused() {
    let seat = Seat::alone();
    let long = "x".repeat(LONGEST_KEY + 1);
    for (key, bytes) in [("", 0), (&*long, LONGEST_KEY + 1)] {
        let refused = seat.cache.get_with(key, || ready(Ok::<u64, Infallible>(1))).await;
        assert!(matches!(refused, Err(CacheError::BadKey(bad)) if bad.bytes == bytes));
        assert_eq!(seat.cache.forget(key).await, Err(BadKey { bytes }.into()));
    }
    let bus = Bus::local(&LocalHub::new(), node("a"));
    let nodes: Targets = Arc::new(Vec::new);
    let caches = Caches::among(None, (&bus, nodes), &SystemClock::shared());
    caches.open::<u64, u64>(PRICES).unwrap();
    caches.open::<str, u64>(PRICES).unwrap();
    assert_eq!(caches.open::<u64, String>(PRICES).unwrap_err(), OpenError { region: "prices" });
    assert!(caches.open::<u64, u64>(PRICES.bytes(1)).is_err());
    assert_eq!(caches.reports().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_what_is_forgotten_on_one_node_is_gone_on_the_others_though_no_message_arrives() {
    let server = RedisServer::start().await;
    let (a, mut b) = (Seat::on(&server, "a").await, Seat::on(&server, "b").await);
    assert_eq!(a.get("k", 1).await, 1);
    assert_eq!(b.get("k", 2).await, 1, "another node has loaded it");
    a.cache.forget("k").await.unwrap();
    assert_eq!(a.get("k", 3).await, 3, "here it is gone at once");
    assert_eq!(b.get("k", 4).await, 1, "not heard of yet");
    b.look().await;
    assert_eq!(b.get("k", 4).await, 3);
    a.cache.clear().await.unwrap();
    b.look().await;
    assert_eq!(b.get("k", 5).await, 5, "neither tier has it");
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_a_node_that_hears_nothing_gives_nothing_older_than_the_bound() {
    let mut server = RedisServer::start().await;
    let mut a = Seat::on(&server, "a").await;
    assert_eq!(a.get("k", 1).await, 1);
    server.kill();
    a.clock.advance(BOUND);
    assert_eq!(a.get("k", 2).await, 1, "no older than the bound");
    a.clock.advance(Duration::from_nanos(1));
    assert_eq!(a.get("k", 2).await, 2, "beyond the bound it is loaded");
    assert_eq!(a.get("k", 3).await, 3, "and not kept");
    let mut slow = Box::pin(a.cache.get_with("slow", pending::<Result<u64, Infallible>>));
    assert!(futures_util::poll!(slow.as_mut()).is_pending());
    a.clock.advance(BOUND);
    let mut waits = Box::pin(a.get("slow", 4));
    assert!(futures_util::poll!(waits.as_mut()).is_pending(), "once at a time");
    a.clock.advance(Duration::from_nanos(1));
    assert_eq!(a.get("slow", 5).await, 5, "what it has read may have been forgotten since");
    drop((slow, waits));
    let untold = a.cache.forget("k").await;
    assert!(matches!(&untold, Err(error) if error.is_retryable()), "{untold:?}");
    let change = a.cache.change_with("other", || ready(Ok::<(), Infallible>(()))).await;
    assert!(matches!(change, Err(ChangeError::NotBegun(_))), "{change:?}");
    server.launch().await;
    let shared = a.cache.core.shared.as_ref().unwrap();
    tokio::time::timeout(LIMIT, shared.redis.connects().wait_for(|connects| *connects > 1))
        .await
        .unwrap()
        .unwrap();
    a.look().await;
    assert_eq!(a.get("k", 4).await, 4, "what was in memory is gone: the server is another one");
    assert_eq!(a.get("k", 5).await, 4, "and it is kept again");
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_gap_in_the_log_and_a_server_that_forgot_clear_the_memory() {
    let server = RedisServer::start().await;
    let (a, mut b) = (Seat::on(&server, "a").await, Seat::on(&server, "b").await);
    let log = "us:t:{cprices}:l";
    let before = b.cleared();
    assert_eq!((a.get("k", 1).await, b.get("k", 1).await), (1, 1));
    a.cache.forget("k").await.unwrap();
    a.cache.forget("other").await.unwrap();
    server.cli(&["XTRIM", log, "MAXLEN", "1"]);
    b.look().await;
    assert_eq!(b.cleared(), before + 1, "an entry is missing");
    assert_eq!(b.get("k", 2).await, 2);
    a.cache.forget("other").await.unwrap();
    b.look().await;
    assert_eq!(b.cleared(), before + 1, "none is missing");
    assert_eq!(b.get("k", 3).await, 2);
    server.cli(&["FLUSHALL"]);
    // As many entries as there were: the numbers alone would tell nothing.
    for _ in 0..3 {
        a.cache.forget("k").await.unwrap();
    }
    b.look().await;
    assert_eq!(b.cleared(), before + 2, "another life of the region");
    assert_eq!(b.get("k", 4).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_promoted_replica_gives_nothing_that_the_primary_may_have_forgotten() {
    let primary = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]).await;
    let port = primary.port.to_string();
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]).await;
    // A primary takes another identity when its first replica comes.
    eventually("the replica follows", || {
        replica.cli(&["INFO", "replication"]).contains("master_link_status:up")
    })
    .await;
    let mut a = Seat::on(&primary, "a").await;
    assert_eq!(a.get("k", 1).await, 1);
    let value = "us:t:{cprices}:v:k";
    eventually("the replica has the value", || replica.cli(&["EXISTS", value]).trim() == "1").await;
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    let b = Seat::on(&replica, "b").await;
    assert_eq!(b.get("k", 2).await, 2, "the value is of an earlier life");
    a.look().await;
    assert_eq!(a.get("k", 3).await, 1, "nothing happened to the primary");
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_nobody_keeps_what_is_loaded_during_a_change() {
    let server = RedisServer::start().await;
    let (a, mut b) = (Seat::on(&server, "a").await, Seat::on(&server, "b").await);
    assert_eq!((a.get("k", 1).await, b.get("k", 1).await), (1, 1));
    let changed = a.cache.change_with("k", async || {
        b.look().await;
        assert_eq!(b.get("k", 1).await, 1, "what is there before the commit");
        assert_eq!(b.get("k", 2).await, 2, "is kept by nobody");
        Ok::<&str, Infallible>("committed")
    });
    assert_eq!(changed.await.unwrap(), "committed");
    b.look().await;
    assert_eq!((b.get("k", 3).await, a.get("k", 4).await), (3, 3));
    let failed = a.cache.change_with("f", || ready(Err::<(), &str>("no answer"))).await;
    assert!(matches!(failed, Err(ChangeError::Failed("no answer"))), "{failed:?}");
    // It may have been made all the same, or still will be.
    assert_eq!((b.get("f", 1).await, b.get("f", 2).await), (1, 2), "held up");
    // One that ends in the middle: its process is gone, or whoever asked for it.
    let mut lost = Box::pin(a.cache.change_with("k", pending::<Result<(), Infallible>>));
    let writers = "us:t:{cprices}:b:k";
    tokio::select! {
        changed = &mut lost => panic!("{changed:?}"),
        () = eventually("it has begun", || server.cli(&["EXISTS", writers]).trim() == "1") => {}
    }
    drop(lost);
    b.look().await;
    assert_eq!((b.get("k", 5).await, b.get("k", 6).await), (5, 6), "held up");
    let hold: u128 = server.cli(&["PTTL", writers]).trim().parse().unwrap();
    assert!(hold <= HOLD.as_millis(), "{hold}");
    server.cli(&["PEXPIRE", writers, "0"]);
    assert_eq!((b.get("k", 7).await, b.get("k", 8).await), (7, 7), "the hold is over");
    server.cli(&["HSET", writers, "dead", "1"]);
    b.cache.change_with("k", || ready(Ok::<(), Infallible>(()))).await.unwrap();
    assert_eq!((b.get("k", 9).await, b.get("k", 10).await), (9, 9), "the dead hold up nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_a_change_is_not_gone_on_with_too_late_and_is_held_up_anew() {
    let server = RedisServer::start().await;
    let (a, mut b) = (Seat::on(&server, "a").await, Seat::on(&server, "b").await);
    let (writers, went_on) = ("us:t:{cprices}:b:k", AtomicU64::new(0));
    let changed = a.cache.change_with("k", async || {
        // As if the process stood still until nobody waits for its change any more.
        server.cli(&["PEXPIRE", writers, "0"]);
        b.look().await;
        assert_eq!(
            (b.get("k", 1).await, b.get("k", 2).await),
            (1, 1),
            "kept, since the hold is over"
        );
        a.clock.advance(LONGEST_CHANGE);
        tokio::task::yield_now().await;
        went_on.fetch_add(1, Ordering::Relaxed);
        Ok::<(), Infallible>(())
    });
    let late = changed.await;
    assert!(matches!(late, Err(ChangeError::TooLong)), "{late:?}");
    assert_eq!(went_on.load(Ordering::Relaxed), 0, "it was gone on with");
    // A commit that it had sent may still be carried out.
    b.look().await;
    assert_eq!((b.get("k", 3).await, b.get("k", 4).await), (3, 4), "held up");
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_the_end_of_a_change_is_told_when_it_can_be() {
    let server = RedisServer::start().await;
    let (a, mut b) = (Seat::on(&server, "a").await, Seat::on(&server, "b").await);
    let told = || server.cli(&["HGET", "us:t:{cprices}:h", "seq"]).trim().to_owned();
    // On a thread that ends before, as those of a node's workers do.
    let change = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let changed = a.cache.change_with("k", async || {
            server.cli(&["ACL", "SETUSER", "default", "-evalsha", "-eval"]);
            Ok::<&str, Infallible>("committed")
        });
        runtime.block_on(changed)
    };
    let changed = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| scope.spawn(change).join().unwrap())
    });
    assert_eq!(changed.unwrap(), "committed", "it was made");
    assert_eq!(told(), "1", "that it begins");
    server.cli(&["ACL", "SETUSER", "default", "+evalsha", "+eval"]);
    eventually("that it is over is told", || told() == "2").await;
    b.look().await;
    assert_eq!((b.get("k", 1).await, a.get("k", 2).await), (1, 1), "nothing is held up");
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_a_change_that_was_refused_and_had_begun_all_the_same_holds_up_nobody() {
    let server = RedisServer::start().await;
    let a = Seat::on(&server, "a").await;
    // The server knows the script from now on.
    a.cache.forget("k").await.unwrap();
    server.freeze();
    let change = a.cache.change_with("k", || ready(Ok::<(), Infallible>(()))).await;
    server.thaw();
    assert!(matches!(change, Err(ChangeError::NotBegun(_))), "{change:?}");
    let noted =
        || -> u64 { server.cli(&["HGET", "us:t:{cprices}:h", "seq"]).trim().parse().unwrap() };
    eventually("its beginning was noted, and its end is", || noted() >= 3).await;
    let writers = server.cli(&["EXISTS", "us:t:{cprices}:b:k"]);
    assert_eq!(writers.trim(), "0", "it is held up");
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_what_is_loaded_during_a_change_is_waited_for_no_longer_than_the_bound() {
    let server = RedisServer::start().await;
    let region = PRICES.load_limit(Duration::from_secs(300));
    let (a, mut b) = (Seat::on(&server, "a").await, Seat::of(&server, "b", region).await);
    // Its process dies in the middle, so that nobody tells its end.
    let mut lost = Box::pin(a.cache.change_with("k", pending::<Result<(), Infallible>>));
    let writers = "us:t:{cprices}:b:k";
    tokio::select! {
        changed = &mut lost => panic!("{changed:?}"),
        () = eventually("it has begun", || server.cli(&["EXISTS", writers]).trim() == "1") => {}
    }
    drop(lost);
    // However long this machine takes.
    assert_eq!(server.cli(&["PEXPIRE", writers, "300000"]).trim(), "1");
    b.look().await;
    let (begun, loading) = tokio::sync::oneshot::channel();
    let (goes_on, waits) = tokio::sync::oneshot::channel::<()>();
    let cache = b.cache.clone();
    let slow = tokio::spawn(async move {
        let load = || async move {
            begun.send(()).unwrap();
            waits.await.unwrap();
            Ok::<u64, Infallible>(1)
        };
        *cache.get_with("k", load).await.unwrap()
    });
    loading.await.unwrap();
    // The change is committed now.
    b.clock.advance(BOUND + Duration::from_nanos(1));
    b.look().await;
    let given = tokio::time::timeout(LIMIT, b.get("k", 2)).await.expect("nobody waits for it");
    assert_eq!(given, 2, "what began before the commit is too old by now");
    goes_on.send(()).unwrap();
    assert_eq!(slow.await.unwrap(), 1, "who asked before may be given it");
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_what_another_node_loads_for_long_is_loaded_once_on_each_of_the_others() {
    let server = RedisServer::start().await;
    // However long this machine takes.
    let region = PRICES.waits(Duration::ZERO).load_limit(Duration::from_secs(300));
    let (a, mut b) = (Seat::of(&server, "a", region).await, Seat::of(&server, "b", region).await);
    let slow = |cache: Cache<str, u64>, number: u64| {
        let (begun, loading) = tokio::sync::oneshot::channel::<()>();
        let (goes_on, waits) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let load = || async move {
                begun.send(()).unwrap();
                waits.await.unwrap();
                Ok::<u64, Infallible>(number)
            };
            *cache.get_with("k", load).await.unwrap()
        });
        (task, loading, goes_on)
    };
    let (for_all, begun, end_for_all) = slow(a.cache.clone(), 1);
    begun.await.unwrap();
    let (beside, begun, end_beside) = slow(b.cache.clone(), 2);
    begun.await.unwrap();
    b.clock.advance(BOUND + Duration::from_nanos(1));
    b.look().await;
    let later = async {
        end_beside.send(()).unwrap();
        beside.await.unwrap()
    };
    let (given, first) = tokio::join!(b.get("k", 3), later);
    assert_eq!((given, first), (2, 2), "no change was under way, so it is waited for");
    end_for_all.send(()).unwrap();
    assert_eq!(for_all.await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_a_value_whose_loading_began_before_a_change_elsewhere_is_refused() {
    let server = RedisServer::start().await;
    let (a, mut b) = (Seat::on(&server, "a").await, Seat::on(&server, "b").await);
    let old = a.cache.get_with("k", async || {
        b.cache.forget("k").await.unwrap();
        Ok::<u64, Infallible>(1)
    });
    assert_eq!(*old.await.unwrap(), 1);
    b.look().await;
    assert_eq!(b.get("k", 2).await, 2, "it was not stored");
    assert_eq!(a.get("k", 3).await, 2, "nor kept in memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_who_asks_before_the_first_look_loads_for_all_nodes_too() {
    let server = RedisServer::start().await;
    let shared = Seat::shared(&server, "a").await;
    let mut seat = Seat::with(PRICES, Some(shared), Arc::new(ManualClock::new()));
    let cache = seat.cache.clone();
    let first = cache.get_with("k", || ready(Ok::<u64, Infallible>(1)));
    let (first, ()) = tokio::join!(first, seat.look());
    assert_eq!(*first.unwrap(), 1);
    assert_eq!(seat.get("k", 2).await, 1, "it was kept");
    assert_eq!(Seat::on(&server, "b").await.get("k", 3).await, 1, "for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_in_redis_that_is_of_another_type_is_replaced() {
    let server = RedisServer::start().await;
    let (a, b) = (Seat::on(&server, "a").await, Seat::on(&server, "b").await);
    assert_eq!(a.get("k", 1).await, 1);
    server.cli(&["HSET", "us:t:{cprices}:v:k", "d", "\"of a newer release\""]);
    assert_eq!(b.get("k", 2).await, 2, "it is loaded");
    assert_eq!(b.get("k", 3).await, 2, "and kept in memory");
    assert_eq!(Seat::on(&server, "c").await.get("k", 4).await, 2, "and in Redis, for all");
    server.cli(&["HSET", "us:t:{cprices}:v:k", "d", "[]"]);
    let c = Seat::on(&server, "c").await;
    let old = c.cache.get_with("k", async || {
        a.cache.forget("k").await.unwrap();
        Ok::<u64, Infallible>(5)
    });
    assert_eq!(*old.await.unwrap(), 5);
    assert_eq!(
        Seat::on(&server, "d").await.get("k", 6).await,
        6,
        "under the same rules as any other"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_another_type_that_another_node_replaces_is_taken_from_there() {
    let server = RedisServer::start().await;
    let region = PRICES.waits(Duration::from_secs(300)).load_limit(Duration::from_secs(300));
    let (a, b) = (Seat::of(&server, "a", region).await, Seat::of(&server, "b", region).await);
    assert_eq!(a.get("other", 1).await, 1);
    assert_eq!(b.get("k", 1).await, 1);
    b.cache.core.forget("k");
    server.cli(&["HSET", "us:t:{cprices}:v:k", "d", "[]"]);
    let before = gate::calls(&server);
    let (begun, loading) = tokio::sync::oneshot::channel::<()>();
    let (goes_on, waits) = tokio::sync::oneshot::channel::<()>();
    let replaces = a.cache.get_with("k", async move || {
        begun.send(()).unwrap();
        waits.await.unwrap();
        Ok::<u64, Infallible>(2)
    });
    let asks = async {
        loading.await.unwrap();
        b.get("k", 3).await
    };
    let opens = async {
        // Three are those of who replaces it, who looks twice; the other one has looked, and waits.
        let waits = || gate::calls(&server) >= before + 5;
        eventually("the other one waits for it", waits).await;
        goes_on.send(()).unwrap();
    };
    let (replaced, given, ()) = tokio::join!(replaces, asks, opens);
    assert_eq!((*replaced.unwrap(), given), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_three_nodes_load_once_together() {
    let server = RedisServer::start().await;
    let loads = Arc::new(AtomicU64::new(0));
    let mut asked = Vec::new();
    for name in ["a", "b", "c"] {
        let cache = Seat::on(&server, name).await.cache;
        asked.extend((0..34).map(|_| {
            let (cache, loads) = (cache.clone(), Arc::clone(&loads));
            tokio::spawn(async move {
                let load = || async move {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Ok::<u64, Infallible>(loads.fetch_add(1, Ordering::Relaxed))
                };
                *cache.get_with("k", load).await.unwrap()
            })
        }));
    }
    for one in asked {
        assert_eq!(one.await.unwrap(), 0);
    }
    assert_eq!(loads.load(Ordering::Relaxed), 1, "of 102 on three nodes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_is_opened_reads_its_log_by_itself() {
    let server = RedisServer::start().await;
    let mut caches = Vec::new();
    for name in ["a", "b"] {
        let redis = server.connect(Role::Data(0), &node(name)).await;
        let keys = Arc::new(KeySpace::new(&"t".parse().unwrap(), redis.buckets()));
        let bus = Bus::local(&LocalHub::new(), node(name));
        let nodes: Targets = Arc::new(Vec::new);
        caches.push(Caches::among(Some((redis, keys)), (&bus, nodes), &SystemClock::shared()));
    }
    let opened: Vec<Cache<str, u64>> =
        caches.iter().map(|caches| caches.open(PRICES).unwrap()).collect();
    for caches in &caches {
        assert!(matches!(caches.caught_up("prices", LIMIT).await, Caught::Up(_)));
    }
    assert_eq!(caches[0].caught_up("nothing", LIMIT).await, Caught::Unopened);
    let get = async |at: usize, loaded: u64| {
        *opened[at].get_with("k", || ready(Ok::<u64, Infallible>(loaded))).await.unwrap()
    };
    assert_eq!((get(0, 1).await, get(1, 2).await), (1, 1));
    caches[0].forget("prices", Some("k")).await.unwrap();
    assert!(matches!(caches[1].caught_up("prices", LIMIT).await, Caught::Up(_)));
    assert_eq!(get(1, 3).await, 3);
    let report = caches[1].reports().remove(0);
    assert!(report.trusted && report.entries == 1 && report.bytes > 0, "{report:?}");
    assert_eq!((report.redis, report.loaded, report.forgotten), (1, 1, 1), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_works_on_a_redis_cluster_where_a_script_has_one_slot() {
    let servers = cluster().await;
    let ports = servers.iter().map(|server| server.port).collect();
    let config = config(ports, Topology::Cluster);
    let mut seats = Vec::new();
    for name in ["a", "b"] {
        let redis = Redis::connect(&config, Role::Data(0), &node(name)).await.unwrap();
        connected(&redis).await;
        seats.push(Seat::sharing(Seat::shared_over(redis, name)).await);
    }
    assert_eq!((seats[0].get("{k}", 1).await, seats[1].get("{k}", 2).await), (1, 1));
    let change = || ready(Ok::<(), Infallible>(()));
    seats[0].cache.change_with("{k}", change).await.unwrap();
    seats[1].look().await;
    assert_eq!((seats[1].get("{k}", 3).await, seats[0].get("{k}", 4).await), (3, 3));
    seats[0].cache.clear().await.unwrap();
    seats[1].look().await;
    assert_eq!(seats[1].get("{k}", 5).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn c8_two_clusters_on_one_redis_share_no_value_and_forget_none_of_each_other() {
    let server = RedisServer::start().await;
    let red = Seat::on(&server, "a").await;
    let mut shared = Seat::shared(&server, "a").await;
    shared.keys = Arc::new(KeySpace::new(&"u".parse().unwrap(), shared.redis.buckets()));
    let mut blue = Seat::sharing(shared).await;
    assert_eq!(red.get("k", 1).await, 1);
    assert_eq!(blue.get("k", 2).await, 2, "what the other one has is not there");
    red.cache.clear().await.unwrap();
    blue.look().await;
    assert_eq!(blue.get("k", 3).await, 2, "it is still there");
    assert_eq!(red.get("k", 4).await, 4);
    let keys = server.cli(&["KEYS", "*"]);
    let of = |cluster: &str| keys.lines().filter(|key| key.starts_with(cluster)).count();
    let (reds, blues) = (of("us:t:{cprices}:"), of("us:u:{cprices}:"));
    assert!(reds >= 3 && blues >= 2, "head, value, and the log of what was cleared: {keys}");
    assert_eq!(keys.lines().count(), reds + blues, "{keys}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_a_tag_forgets_all_values_that_carry_it_and_no_others() {
    let server = RedisServer::start().await;
    let (a, mut b) = (Seat::on(&server, "a").await, Seat::on(&server, "b").await);
    let tagged: [(&str, &[&str]); 3] = [("k", &["x"]), ("l", &["y"]), ("m", &["y", "x"])];
    for (key, tags) in tagged {
        assert_eq!(a.get_tagged(key, tags, 1).await, 1);
        assert_eq!(b.get_tagged(key, tags, 2).await, 1);
    }
    a.cache.forget_tag("x").await.unwrap();
    b.look().await;
    for ((key, tags), given) in tagged.into_iter().zip([3, 1, 3]) {
        assert_eq!(b.get_tagged(key, tags, 3).await, given, "{key}");
        assert_eq!(a.get_tagged(key, tags, 4).await, given, "{key}");
    }
    let old = a.cache.get_tagged("n", &["x"], async || {
        b.cache.forget_tag("x").await.unwrap();
        Ok::<u64, Infallible>(1)
    });
    assert_eq!(*old.await.unwrap(), 1);
    assert_eq!(b.get_tagged("n", &["x"], 2).await, 2, "it was not stored");
    assert_eq!(a.get_tagged("n", &["x"], 3).await, 2, "nor kept in memory");
    let kept: u128 = server.cli(&["PTTL", "us:t:{cprices}:t:x"]).trim().parse().unwrap();
    assert!(kept > PRICES.longest_life().as_millis(), "longer than any value: {kept}");
}
