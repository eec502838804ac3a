//! Locks on SQLite and on a real PostgreSQL, with two nodes in one process where two are needed.

use std::sync::atomic::{AtomicU64, Ordering};

use sea_orm::DbErr;
use tokio::time::Instant;

use super::table::Taken;
use super::*;
use crate::bus::LocalHub;
use crate::clock::{ManualClock, SystemClock};
use crate::config::{DatabaseUrl, MigrateMode};
use crate::database::DatabaseError;
use crate::database::test_postgres::{TestPostgres, test_config};
use crate::membership::record_for_test;
use crate::redis::testing::{eventually, node};

const LONG: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// Two nodes on one database; the locks of each.
struct Bench {
    database: Database,
    a: ClusterLocks,
    b: ClusterLocks,
    _postgres: Option<TestPostgres>,
    _folder: Option<tempfile::TempDir>,
}

impl Bench {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = test_config(DatabaseUrl::Sqlite(folder.path().join("locks.sqlite3")));
        let database = Database::connect(&config).await.unwrap();
        Self::on(database, None, Some(folder)).await
    }

    async fn postgres() -> Self {
        let server = TestPostgres::start();
        let database = Database::connect(&server.config()).await.unwrap();
        Self::on(database, Some(server), None).await
    }

    async fn on(
        database: Database,
        postgres: Option<TestPostgres>,
        folder: Option<tempfile::TempDir>,
    ) -> Self {
        database.migrate(MigrateMode::Auto, &[], &|_| {}).await.unwrap();
        let hub = LocalHub::new();
        let locks = |name: &str| {
            let id = node(name);
            let bus = Bus::local(&hub, id.clone());
            let membership = Membership::single(record_for_test(id));
            ClusterLocks::new(&database, &bus, &membership, &SystemClock::shared())
        };
        let (a, b) = (locks("a"), locks("b"));
        Self { a, b, database, _postgres: postgres, _folder: folder }
    }

    /// Each test stands for both databases.
    async fn both() -> [Self; 2] {
        [Self::sqlite().await, Self::postgres().await]
    }
}

fn options(ttl: Duration, wait: Duration) -> LockOptions {
    LockOptions::default().ttl(ttl).wait(wait)
}

fn is_lost<T>(result: &Result<T, LockError>) -> bool {
    matches!(result, Err(LockError::Lost { .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_of_a_name_grows_whatever_happens_to_the_lock() {
    for bench in Bench::both().await {
        let mut last = 0;
        let mut next = async |how: &str| {
            let lock = bench.b.acquire("t", options(LONG, LONG)).await.unwrap();
            assert!(lock.token() > last, "after {how}: {} after {last}", lock.token());
            last = lock.token();
            lock
        };
        next("nothing").await.release().await.unwrap();
        let lock = next("a release").await;
        bench.a.clear("t").await.unwrap().unwrap();
        assert!(is_lost(&lock.release().await));
        next("an operator took it away").await.release().await.unwrap();
        bench.a.free_all().await.unwrap();
        drop(next("all were freed").await);
        let lock = next("it was dropped").await;
        lock.release().await.unwrap();
        // A lock of another name must not be swept, and the greatest token must not be forgotten.
        let other = bench.a.try_acquire("other", LONG).await.unwrap().unwrap();
        assert_eq!(bench.a.inner.table.sweep(Duration::ZERO).await.unwrap(), 1);
        assert!(other.is_held() && bench.a.inner.table.sweep(Duration::ZERO).await.unwrap() == 0);
        next("its row was swept away").await.release().await.unwrap();
        assert_eq!(bench.a.inner.table.sweep(LONG).await.unwrap(), 0, "not for long enough");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn j17_two_nodes_never_hold_one_lock_at_the_same_time() {
    const TASKS: u64 = 12;
    const ROUNDS: u64 = 10;
    for bench in Bench::both().await {
        let (count, inside) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let tasks = (0..TASKS).map(|number| {
            let locks = if number % 2 == 0 { bench.a.clone() } else { bench.b.clone() };
            let (count, inside) = (count.clone(), inside.clone());
            tokio::spawn(async move {
                let mut tokens = Vec::new();
                for _ in 0..ROUNDS {
                    let lock = locks.acquire("one", options(LONG, LONG)).await.unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "somebody else is inside");
                    let before = count.load(Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    count.store(before + 1, Ordering::SeqCst);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    tokens.push(lock.token());
                    lock.release().await.unwrap();
                }
                tokens
            })
        });
        let mut tokens = Vec::new();
        for task in tasks.collect::<Vec<_>>() {
            tokens.extend(task.await.unwrap());
        }
        assert_eq!(count.load(Ordering::SeqCst), TASKS * ROUNDS, "an update was lost");
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len() as u64, TASKS * ROUNDS, "each holder has a token of its own");
        eventually("nobody waits any more", || {
            bench.a.inner.gates.is_empty() && bench.b.inner.gates.is_empty()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_on_another_node_is_woken_by_the_release() {
    for bench in Bench::both().await {
        let lock = bench.a.acquire("w", options(LONG, LONG)).await.unwrap();
        let b = bench.b.clone();
        let waiter = tokio::spawn(async move {
            let lock = b.acquire("w", options(LONG, LONG)).await.unwrap();
            (lock, Instant::now())
        });
        let wanted = || bench.a.inner.held.iter().any(|hold| !hold.wanted.is_empty());
        eventually("the holder knows that somebody waits", wanted).await;
        let released_at = Instant::now();
        lock.release().await.unwrap();
        let (lock, acquired_at) = waiter.await.unwrap();
        let took = acquired_at.saturating_duration_since(released_at);
        println!("woken and acquired after {took:?}");
        assert!(took < Duration::from_millis(700), "{took:?}, as if it had polled");
        lock.release().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_learns_who_has_it_and_gives_up_in_time() {
    for bench in Bench::both().await {
        let lock = bench.a.try_acquire("x", LONG).await.unwrap().unwrap();
        assert!(bench.b.try_acquire("x", LONG).await.unwrap().is_none());
        assert!(bench.a.try_acquire("x", LONG).await.unwrap().is_none(), "nor twice on one node");
        let begin = Instant::now();
        let error = bench.b.acquire("x", options(LONG, SECOND / 5)).await.unwrap_err();
        assert!(begin.elapsed() < SECOND * 5, "{:?}", begin.elapsed());
        let node = bench.a.inner.bus.node_id().to_string();
        assert!(
            matches!(&error, LockError::Busy { node: Some(it), .. } if *it == node),
            "{error:?}"
        );
        let listed = bench.b.list().await.unwrap();
        let [listed] = &listed[..] else { panic!("{listed:?}") };
        assert_eq!((&*listed.name, listed.token, &listed.node), ("x", lock.token(), &node));
        assert!(listed.remaining_ms > 50_000 && listed.acquired_ms > 1_700_000_000_000);
        lock.release().await.unwrap();
        assert!(bench.b.list().await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j17_of_a_holder_that_died_a_lock_is_free_after_its_time_and_not_before() {
    for bench in Bench::both().await {
        let ttl = SECOND;
        let begin = Instant::now();
        // Nobody extends this one, and nobody will answer for it.
        let dead = node("dead").to_string();
        let taken = bench.a.inner.table.take("d", "h", &dead, ttl).await.unwrap();
        assert!(matches!(taken, Taken::Granted { is_new: true, .. }), "{taken:?}");
        let lock = bench.b.acquire("d", options(LONG, LONG)).await.unwrap();
        let took = begin.elapsed();
        // A ms for the rounding of the database's clock.
        assert!(took + Duration::from_millis(2) >= ttl && took < 3 * ttl, "{took:?}");
        assert!(!bench.a.inner.table.extend("d", "h", ttl).await.unwrap(), "it is another's now");
        assert!(!bench.a.inner.table.free("d", "h").await.unwrap());
        assert!(lock.is_held());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_held_is_extended() {
    for bench in Bench::both().await {
        let ttl = SHORTEST_TTL;
        let lock = bench.a.acquire("e", options(ttl, LONG)).await.unwrap();
        let acquired = bench.a.list().await.unwrap()[0].acquired_ms;
        // Until it has lived for three times as long as it would have without.
        loop {
            assert!(lock.is_held());
            let listed = bench.b.list().await.unwrap();
            let [listed] = &listed[..] else { panic!("it ran out: {listed:?}") };
            assert_eq!(listed.token, lock.token());
            let now = listed.acquired_ms + lived(&bench, listed).await;
            if now - acquired > 1_500 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        lock.release().await.unwrap();
    }
}

/// For how long a lock has been held, by the database's clock.
async fn lived(bench: &Bench, lock: &LockInfo) -> i64 {
    let backend = bench.database.backend();
    let query = backend.statement(&format!("SELECT {}", backend.now_ms()), []);
    let row = bench.database.read(move |executor| {
        let query = query.clone();
        Box::pin(async move {
            use sea_orm::ConnectionTrait as _;
            executor.query_one_raw(query).await
        })
    });
    let now: i64 = row.await.unwrap().unwrap().try_get_by(0).unwrap();
    now - lock.acquired_ms
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j17_a_lock_that_an_operator_takes_away_is_lost_at_once() {
    for bench in Bench::both().await {
        assert_eq!(bench.a.clear("c").await.unwrap(), None, "nobody has it");
        let lock = bench.a.acquire("c", options(LONG, LONG)).await.unwrap();
        let lost = lock.lost();
        let cleared = bench.a.clear("c").await.unwrap().unwrap();
        assert_eq!(cleared.token, lock.token());
        tokio::time::timeout(SECOND * 5, lost).await.expect("its holder is told");
        assert!(!lock.is_held());
        let next = bench.b.try_acquire("c", LONG).await.unwrap().unwrap();
        assert!(next.token() > lock.token());
        assert!(is_lost(&lock.release().await));
        assert!(next.is_held() && bench.a.list().await.unwrap().len() == 1, "the next one stays");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_dropped_is_released() {
    for bench in Bench::both().await {
        drop(bench.a.acquire("p", options(LONG, LONG)).await.unwrap());
        let lock = bench.b.acquire("p", options(LONG, SECOND * 20)).await.unwrap();
        drop(lock);
        eventually("nothing is held", || bench.b.inner.held.is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_gives_up_leaves_no_lock_behind() {
    for bench in Bench::both().await {
        for round in 0..40 {
            // Given up at every possible moment.
            let short = Duration::from_micros(round * 100);
            let acquire = bench.a.acquire("g", options(LONG, LONG));
            tokio::time::timeout(short, acquire).await.ok();
            let lock = bench.b.acquire("g", options(LONG, SECOND * 20)).await.unwrap();
            lock.release().await.unwrap();
        }
        let gone = || bench.a.inner.held.is_empty() && bench.a.inner.gates.is_empty();
        eventually("nothing is left", gone).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_guarded_fails_when_the_lock_is_lost() {
    for bench in Bench::both().await {
        let lock = bench.a.acquire("f", options(LONG, LONG)).await.unwrap();
        let guarded = async || {
            let fence = lock.fence();
            let work = bench.database.transaction(move |transaction| {
                let fence = fence.clone();
                Box::pin(async move { Ok::<_, DbErr>(fence.guard(transaction).await?) })
            });
            work.await
        };
        guarded().await.unwrap();
        bench.b.clear("f").await.unwrap().unwrap();
        let error = guarded().await.unwrap_err();
        assert!(matches!(error, DatabaseError::Refused(_)), "{error:?}");
        assert!(crate::error::chain(&error).contains("`f` was lost"), "{error:?}");
    }
}

#[tokio::test]
async fn what_can_never_work_is_told_before_anything_is_asked() {
    let bench = Bench::sqlite().await;
    let long = "n".repeat(201);
    for bad in ["", "a\nb", "a\u{0}", "\u{7f}", long.as_str()] {
        let error = bench.a.try_acquire(bad, LONG).await.unwrap_err();
        assert!(matches!(error, LockError::BadName) && !error.is_retryable(), "{bad:?}");
        assert!(matches!(bench.a.clear(bad).await, Err(LockError::BadName)), "{bad:?}");
    }
    for good in ["a", "order/4711", "Ärger & Söhne: 'x' -- \"y\"", &"ü".repeat(200)] {
        bench.a.try_acquire(good, LONG).await.unwrap().unwrap().release().await.unwrap();
    }
    for ttl in [Duration::ZERO, Duration::from_millis(499), Duration::from_secs(86_401)] {
        let error = bench.a.acquire("a", options(ttl, LONG)).await.unwrap_err();
        assert!(error.to_string().contains("500 ms to 24 h"), "{error}");
    }
}

/// What a node knows of a lock that was granted for ten seconds.
fn hold_of_ten_seconds() -> (Arc<ManualClock>, Hold) {
    let clock = Arc::new(ManualClock::new());
    let shared: SharedClock = clock.clone();
    let sent_at = shared.now();
    let names = [Arc::from("n"), Arc::from("h")];
    (clock, Hold::new(names, 1, SECOND * 10, (shared, sent_at)))
}

#[test]
fn a_lock_is_trusted_from_its_sending_and_less_a_margin() {
    let (clock, hold) = hold_of_ten_seconds();
    clock.advance(Duration::from_millis(8_999));
    assert!(hold.is_held());
    clock.advance(Duration::from_millis(1));
    assert!(!hold.is_held());
}

#[test]
fn an_extension_counts_from_its_sending_and_never_shortens() {
    use crate::clock::Clock as _;

    let (clock, hold) = hold_of_ten_seconds();
    let first = clock.now();
    clock.advance(SECOND * 3);
    let second = clock.now();
    clock.advance(SECOND * 5);
    assert!(hold.extended(second), "until 12 s");
    assert!(hold.extended(first), "an older one changes nothing");
    clock.advance(Duration::from_millis(3_999));
    assert!(hold.is_held());
    clock.advance(Duration::from_millis(1));
    assert!(!hold.is_held());
}

#[test]
fn a_lock_that_was_lost_does_not_come_back_with_a_late_answer() {
    use crate::clock::Clock as _;

    let (clock, hold) = hold_of_ten_seconds();
    let sent_at = clock.now() + SECOND * 8;
    clock.advance(SECOND * 9);
    assert!(!hold.extended(sent_at), "the answer came when it was over");
    assert!(!hold.is_held());
    let (clock, hold) = hold_of_ten_seconds();
    hold.lose("as a test wants");
    assert!(!hold.extended(clock.now()) && !hold.is_held());
}
