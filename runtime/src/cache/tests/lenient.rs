//! Values past their life, loads that nobody waits for, and what must not come of either: what was forgotten.

use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::super::core::PAUSE;
use super::super::loads::{self, MOST};
use super::*;

const SOON: Duration = Duration::from_millis(20);
const STALE: Duration = Duration::from_secs(3_600);
const LENIENT: Region = PRICES.stale_for(STALE);
/// One that waits for no load whose end a test does not decide about.
const SOFT: Region = LENIENT.soft_limit(SOON);
/// Its values are due in the last 12 s of 54 to 60; nodes wait for each other longer than a machine stands still.
const EAGER: Region = PRICES.refreshes_from(80).waits(LIMIT);
/// After which the life of each value is over.
const LIFE: Duration = Duration::from_secs(61);
const VALUE: &str = "us:t:{cprices}:v:k";

type Answer = Result<Given<u64>, CacheError<String>>;

/// A node, and what carries out its loads.
struct Stage {
    seat: Seat,
    loads: Supervised,
}

impl Stage {
    fn alone(region: Region) -> Self {
        Self::of(Seat::with(region, None, Arc::new(ManualClock::new())))
    }

    async fn on(server: &RedisServer, name: &str, region: Region) -> Self {
        let shared = Seat::shared(server, name).await;
        let mut seat = Seat::with(region, Some(shared), Arc::new(ManualClock::new()));
        seat.look().await;
        Self::of(seat)
    }

    fn of(seat: Seat) -> Self {
        let loads = loads::start(&seat.cache.core);
        Self { seat, loads }
    }

    async fn ask<Fut>(&self, load: Fut) -> Answer
    where
        Fut: Future<Output = Result<u64, String>> + Send + 'static,
    {
        self.ask_for("k", load).await
    }

    async fn ask_for<Fut>(&self, key: &str, load: Fut) -> Answer
    where
        Fut: Future<Output = Result<u64, String>> + Send + 'static,
    {
        self.seat.cache.get_or_stale(key, &[], move || load).await
    }

    fn report(&self) -> RegionReport {
        self.seat.cache.core.report()
    }

    async fn ended(&self, done: u64, failed: u64) {
        eventually("what is loaded while nobody waits has ended", || {
            let of = self.report().background;
            (of.done, of.failed, of.under_way) == (done, failed, 0)
        })
        .await;
    }
}

fn is_no(answer: &Answer) -> bool {
    matches!(answer, Err(CacheError::Load(error)) if **error == "no")
}

/// What is given, and whether it is stale.
fn given(answer: Answer) -> (u64, bool) {
    let given = answer.unwrap();
    (*given, given.is_stale())
}

async fn no() -> Result<u64, String> {
    Err("no".to_owned())
}

async fn loaded(number: u64) -> Result<u64, String> {
    Ok(number)
}

async fn panics() -> Result<u64, String> {
    panic!("a load that panics")
}

/// A load that says when it begins, and goes on when it is told to.
fn slow(number: u64) -> (impl Future<Output = Result<u64, String>> + Send + 'static, Slow) {
    let (tell, begun) = oneshot::channel::<()>();
    let (goes_on, waits) = oneshot::channel::<()>();
    let load = async move {
        tell.send(()).ok();
        waits.await.map_err(|_| "no".to_owned())?;
        Ok::<u64, String>(number)
    };
    (load, Slow { begun, goes_on })
}

struct Slow {
    begun: oneshot::Receiver<()>,
    goes_on: oneshot::Sender<()>,
}

#[tokio::test]
async fn c3_a_value_past_its_life_is_given_while_it_is_loaded() {
    let stage = Stage::alone(SOFT);
    assert_eq!(given(stage.ask(loaded(1)).await), (1, false));
    stage.seat.clock.advance(LIFE);
    let (load, slow) = slow(2);
    let stale = stage.ask(load).await.unwrap();
    let age = stale.age().unwrap();
    assert_eq!(*stale, 1);
    // It lived for 54 to 60 s, and is said to have lived for 60.
    assert!(age >= LIFE && age <= LIFE + Duration::from_secs(6), "{age:?}");
    assert_eq!(stage.report().background.under_way, 1);
    assert_eq!(given(stage.ask(no()).await), (1, true), "nobody else waits for that");
    slow.goes_on.send(()).unwrap();
    stage.ended(2, 0).await;
    assert_eq!(given(stage.ask(no()).await), (2, false), "it was kept");
    assert_eq!(stage.report().stale, 2);
}

#[tokio::test]
async fn c3_a_load_goes_on_after_the_hard_limit_and_is_kept() {
    let stage = Stage::alone(PRICES.hard_limit(SOON));
    let (load, slow) = slow(5);
    let late = stage.ask(load).await;
    assert!(matches!(late, Err(CacheError::TooLong(limit)) if limit == SOON), "{late:?}");
    let joined = stage.ask(no()).await;
    assert!(matches!(joined, Err(CacheError::TooLong(_))), "it waits for the same: {joined:?}");
    slow.goes_on.send(()).unwrap();
    stage.ended(1, 0).await;
    assert_eq!(given(stage.ask(no()).await), (5, false));
}

#[tokio::test]
async fn c3_a_stale_value_is_given_instead_of_an_error_only_where_the_region_says_so() {
    let strict = Stage::alone(PRICES.hard_limit(LIMIT));
    assert_eq!(given(strict.ask(loaded(1)).await), (1, false));
    strict.seat.clock.advance(LIFE);
    assert!(is_no(&strict.ask(no()).await), "off by default");

    let stage = Stage::alone(LENIENT);
    assert_eq!(given(stage.ask(loaded(1)).await), (1, false));
    stage.seat.clock.advance(LIFE);
    assert_eq!(given(stage.ask(no()).await), (1, true));
    assert_eq!(given(stage.ask(loaded(2)).await), (1, true), "not tried again at once");
    stage.seat.clock.advance(PAUSE);
    assert_eq!(given(stage.ask(loaded(2)).await), (2, false));
    stage.seat.clock.advance(LIFE);
    assert_eq!(given(stage.ask(no()).await), (2, true));
    stage.seat.clock.advance(STALE);
    assert!(is_no(&stage.ask(no()).await), "not for ever");
    assert_eq!(stage.seat.get("k", 3).await, 3, "who does not ask for it gets nothing stale");
}

#[tokio::test]
async fn c1_what_was_forgotten_while_it_was_loaded_in_vain_is_not_given() {
    let stage = Stage::alone(LENIENT);
    for (number, clears) in [(1, false), (2, true)] {
        assert_eq!(given(stage.ask(loaded(number)).await), (number, false));
        stage.seat.clock.advance(LIFE);
        let cache = stage.seat.cache.clone();
        let fails = async move {
            if clears {
                cache.clear().await.unwrap();
            } else {
                cache.forget("k").await.unwrap();
            }
            no().await
        };
        assert!(is_no(&Box::pin(stage.ask(fails)).await), "clears: {clears}");
        assert!(is_no(&stage.ask(no()).await), "clears: {clears}");
    }
    // One that is forgotten while a stale value is given for it is not kept either.
    let stage = Stage::alone(SOFT);
    assert_eq!(given(stage.ask(loaded(3)).await), (3, false));
    stage.seat.clock.advance(LIFE);
    let (load, slow) = slow(4);
    assert_eq!(given(stage.ask(load).await), (3, true));
    stage.seat.cache.forget("k").await.unwrap();
    let before = stage.report().background.done;
    slow.goes_on.send(()).unwrap();
    eventually("it has ended", || stage.report().background.done > before).await;
    assert!(is_no(&stage.ask(no()).await), "what was read before is not kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_a_stale_value_that_another_node_has_forgotten_is_given_no_longer_than_the_bound() {
    let server = RedisServer::start().await;
    let a = Stage::on(&server, "a", LENIENT).await;
    let mut b = Stage::on(&server, "b", LENIENT).await;
    assert_eq!(given(b.ask(loaded(1)).await), (1, false));
    server.cli(&["PEXPIRE", VALUE, "0"]);
    b.seat.clock.advance(LIFE);
    b.seat.look().await;
    assert_eq!(given(b.ask(no()).await), (1, true));
    b.seat.clock.advance(BOUND);
    assert_eq!(given(b.ask(no()).await), (1, true), "nobody has forgotten it");
    b.seat.clock.advance(Duration::from_nanos(1));
    assert!(is_no(&b.ask(no()).await), "it hears nothing, so somebody may have");
    b.seat.look().await;
    assert_eq!(given(b.ask(no()).await), (1, true));
    a.seat.cache.forget("k").await.unwrap();
    b.seat.look().await;
    assert!(is_no(&b.ask(no()).await), "somebody has");
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_a_value_that_is_due_is_loaded_anew_once_for_all_nodes() {
    let server = RedisServer::start().await;
    let mut stages = Vec::new();
    for name in ["a", "b", "c"] {
        let mut stage = Stage::on(&server, name, EAGER).await;
        assert_eq!(stage.seat.get("k", 1).await, 1);
        stage.seat.clock.advance(Duration::from_secs(50));
        stage.seat.look().await;
        stages.push(stage);
    }
    let [a, b, c] = stages.as_slice() else { panic!("three") };
    // The clock of the server stood still meanwhile.
    server.cli(&["PEXPIRE", VALUE, "11000"]);
    let (load, slow) = slow(2);
    assert_eq!(given(a.ask(load).await), (1, false), "nobody waits for it");
    slow.begun.await.unwrap();
    assert_eq!(given(a.ask(no()).await), (1, false), "it is under way here");
    assert_eq!(given(b.ask(no()).await), (1, false), "and there, as this one finds out");
    assert_eq!(server.cli(&["EXISTS", VALUE]).trim(), "1", "others are still given it");
    slow.goes_on.send(()).unwrap();
    a.ended(1, 0).await;
    b.ended(1, 0).await;
    assert_eq!(given(c.ask(no()).await), (1, false));
    c.ended(1, 0).await;
    for (stage, redis) in [(a, 0), (b, 2), (c, 2)] {
        assert_eq!(stage.seat.get("k", 9).await, 2);
        assert_eq!(stage.report().redis, redis, "loaded by another one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_what_is_loaded_anew_while_it_is_changed_is_not_kept() {
    let server = RedisServer::start().await;
    let mut a = Stage::on(&server, "a", EAGER).await;
    let b = Stage::on(&server, "b", EAGER).await;
    assert_eq!(a.seat.get("k", 1).await, 1);
    a.seat.clock.advance(Duration::from_secs(50));
    a.seat.look().await;
    server.cli(&["PEXPIRE", VALUE, "11000"]);
    let (load, slow) = slow(1);
    assert_eq!(given(a.ask(load).await), (1, false));
    slow.begun.await.unwrap();
    b.seat.cache.change_with("k", || ready(Ok::<(), Infallible>(()))).await.unwrap();
    slow.goes_on.send(()).unwrap();
    a.ended(1, 0).await;
    assert_eq!(b.seat.get("k", 2).await, 2, "it was not stored");
    a.seat.look().await;
    assert_eq!(a.seat.get("k", 3).await, 2, "nor kept in memory");
}

#[tokio::test]
async fn loads_that_nobody_waits_for_are_bounded_and_end_with_the_node() {
    let stage = Stage::alone(PRICES.hard_limit(SOON));
    let alive = Arc::new(());
    let keys: Vec<String> = (0..MOST).map(|number| format!("key-{number}")).collect();
    let asked = keys.iter().map(|key| {
        let alive = Arc::clone(&alive);
        stage.ask_for(key, async move {
            pending::<()>().await;
            drop(alive);
            no().await
        })
    });
    for answer in join_all(asked).await {
        assert!(matches!(answer, Err(CacheError::TooLong(_))), "{answer:?}");
    }
    assert_eq!(stage.report().background.under_way, MOST as u64);
    assert_eq!(given(stage.ask(loaded(7)).await), (7, false), "loaded by who asks for it");
    assert_eq!(stage.report().background.no_room, 1);
    let Stage { seat, loads } = stage;
    drop(loads);
    eventually("they are gone", || Arc::strong_count(&alive) == 1).await;
    let of = seat.cache.core.report().background;
    assert_eq!((of.failed, of.under_way), (MOST as u64, 0));
    let late = seat.cache.get_or_stale("l", &[], move || loaded(8)).await;
    assert_eq!(given(late), (8, false), "it is loaded all the same");
}

#[tokio::test]
async fn a_load_that_panics_is_told_to_who_waits_and_takes_nothing_else_along() {
    let stage = Stage::alone(LENIENT);
    let lost = stage.ask(panics()).await;
    assert!(matches!(lost, Err(CacheError::Lost)), "{lost:?}");
    assert_eq!(given(stage.ask(loaded(1)).await), (1, false));
    stage.ended(1, 1).await;
}

#[tokio::test]
async fn c3_a_load_that_takes_longer_than_the_bound_is_waited_for_while_nothing_is_forgotten() {
    let seat = Seat::alone();
    let (goes_on, waits) = oneshot::channel::<()>();
    let mut first = Box::pin(seat.cache.get_with("k", async move || {
        waits.await.unwrap();
        Ok::<u64, Infallible>(1)
    }));
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    seat.clock.advance(BOUND * 2);
    let mut next = Box::pin(seat.get("k", 2));
    assert!(futures_util::poll!(next.as_mut()).is_pending(), "it waits");
    goes_on.send(()).unwrap();
    assert_eq!((*first.await.unwrap(), next.await), (1, 1));
    assert_eq!(seat.get("k", 3).await, 1, "and it is kept");
}

#[tokio::test]
async fn c3_what_is_not_there_is_known_for_a_life_of_its_own_and_not_all_lives_end_at_once() {
    let region = PRICES.absent_lives(Duration::from_secs(5));
    let clock = Arc::new(ManualClock::new());
    let core = Core::new(region, TypeId::of::<Option<u64>>(), None, clock.clone());
    let cache = Cache::<u64, Option<u64>> { core: Arc::new(core), shape: PhantomData };
    let get = async |key: u64, loaded: Option<u64>| {
        *cache.get_with(&key, || ready(Ok::<Option<u64>, Infallible>(loaded))).await.unwrap()
    };
    assert_eq!((get(0, None).await, get(0, Some(1)).await), (None, None));
    for key in 1..65 {
        assert_eq!(get(key, Some(1)).await, Some(1));
    }
    clock.advance(Duration::from_secs(5));
    assert_eq!(get(0, Some(2)).await, Some(2), "looked for again");
    assert_eq!(get(1, Some(2)).await, Some(1), "what is there lives on");
    // 57 s of 54 to 60.
    clock.advance(Duration::from_secs(52));
    let mut anew = 0;
    for key in 1..65 {
        anew += u64::from(get(key, Some(2)).await == Some(2));
    }
    assert!((1..64).contains(&anew), "{anew} of 64 lives are over");
}
