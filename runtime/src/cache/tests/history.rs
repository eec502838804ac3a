//! Random histories: changes, loads that fail or take long, values past their life, nodes that look late, a Redis that loses things.
//! What is given is compared with what had been forgotten by then, and a stale value with when it was loaded.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::loads;
use super::*;
use crate::clock::BootInstant;
use crate::clock::Clock as _;

const STEPS: u32 = 900;
const SEEDS: u64 = 4;
const KEYS: [&str; 3] = ["k", "l", "m"];
/// Which of them is asked for by those who would rather have a stale value than none.
const LENIENT: usize = 2;
const LIVES: Duration = Duration::from_secs(1);
const STALE: Duration = Duration::from_secs(5);
/// Redis counts in whole milliseconds.
const SLACK: Duration = Duration::from_millis(5);
/// A node does not wait for others, and loads take as long as they like: they go on only when this history says so.
const REGION: Region = PRICES
    .waits(Duration::ZERO)
    .load_limit(Duration::from_secs(300))
    .lives(LIVES)
    .stale_for(STALE)
    .soft_limit(Duration::from_millis(5))
    .hard_limit(Duration::from_millis(20));
/// The lives of values in Redis go on with the clock of this history.
const PASS: &str = "for i = 1, #KEYS do \
    local left = redis.call('PTTL', KEYS[i]) \
    if left > tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[i], left - ARGV[1]) \
    elseif left > 0 then redis.call('DEL', KEYS[i]) end end";

/// What there is to load of a key, and when it was.
struct Truth {
    /// It only grows.
    number: AtomicU64,
    /// When which number was loaded last; 0 when it never was.
    loaded: Vec<AtomicU64>,
    clock: Arc<ManualClock>,
}

impl Truth {
    fn new(clock: &Arc<ManualClock>) -> Arc<Self> {
        let loaded = (0..STEPS + 2).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { number: AtomicU64::new(1), loaded, clock: Arc::clone(clock) })
    }

    fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    fn change(&self) {
        self.number.fetch_add(1, Ordering::Relaxed);
    }

    /// Loading ends, with this number.
    fn is_loaded(&self, number: u64) -> u64 {
        let now = self.clock.now().as_nanos().max(1);
        self.loaded[usize::try_from(number).unwrap()].store(now, Ordering::Relaxed);
        number
    }

    /// How long ago a number was loaded last.
    fn age_of(&self, number: u64) -> Duration {
        let loaded = self.loaded[usize::try_from(number).unwrap()].load(Ordering::Relaxed);
        assert!(loaded > 0, "{number} was never loaded");
        self.clock.now().saturating_duration_since(BootInstant::from_nanos(loaded))
    }
}

/// A load that goes on when it is told to.
struct Slow {
    seat: usize,
    key: usize,
    goes_on: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

struct World {
    rng: StdRng,
    server: RedisServer,
    clock: Arc<ManualClock>,
    seats: Vec<Seat>,
    /// What carries out the loads that nobody waits for.
    _loads: Vec<Supervised>,
    /// By key.
    truth: [Arc<Truth>; 3],
    /// When which value was forgotten everywhere, by key.
    forgotten: [Vec<(BootInstant, u64)>; 3],
    /// What each node has forgotten itself.
    own: [[u64; 3]; 3],
    slow: Vec<Slow>,
    given: u64,
    from_memory: u64,
    stale: u64,
}

impl World {
    async fn new(seed: u64) -> Self {
        let (server, clock) = (RedisServer::start().await, Arc::new(ManualClock::new()));
        let (mut seats, mut carried_out) = (Vec::new(), Vec::new());
        for name in ["a", "b", "c"] {
            let shared = Seat::shared(&server, name).await;
            let mut seat = Seat::with(REGION, Some(shared), Arc::clone(&clock));
            seat.look().await;
            carried_out.push(loads::start(&seat.cache.core));
            seats.push(seat);
        }
        Self {
            rng: StdRng::seed_from_u64(seed),
            server,
            truth: [Truth::new(&clock), Truth::new(&clock), Truth::new(&clock)],
            clock,
            seats,
            _loads: carried_out,
            forgotten: [Vec::new(), Vec::new(), Vec::new()],
            own: [[0; 3]; 3],
            slow: Vec::new(),
            given: 0,
            from_memory: 0,
            stale: 0,
        }
    }

    async fn step(&mut self) {
        let (seat, key) = (self.rng.random_range(0..3), self.rng.random_range(0..KEYS.len()));
        match self.rng.random_range(0..100) {
            0..22 => self.get(seat, key % LENIENT).await,
            22..42 => self.get_or_stale(seat).await,
            42..62 => self.seats[seat].look().await,
            62..66 => self.change(seat, key).await,
            66..71 => self.begin_slow(seat, key).await,
            71..81 => self.end_slow().await,
            81..97 => self.pass().await,
            97..98 => drop(self.server.cli(&["DEL", "us:t:{cprices}:v:m"])),
            98..99 => drop(self.server.cli(&["XTRIM", "us:t:{cprices}:l", "MAXLEN", "1"])),
            _ => drop(self.server.cli(&["FLUSHALL"])),
        }
    }

    /// Some time goes by.
    async fn pass(&mut self) {
        // What is loaded while nobody waits is so before.
        let cores = || self.seats.iter().map(|seat| &seat.cache.core);
        eventually("nothing is under way", || {
            cores().all(|core| core.report().background.under_way == 0)
        })
        .await;
        let ms = self.rng.random_range(1..700);
        self.clock.advance(Duration::from_millis(ms));
        let keys = KEYS.map(|key| format!("us:t:{{cprices}}:v:{key}"));
        let ms = ms.to_string();
        let mut args = vec!["EVAL", PASS, "3"];
        args.extend(keys.iter().map(String::as_str));
        args.push(&ms);
        self.server.cli(&args);
    }

    /// What a node must know of a key that is asked for it at a moment.
    fn least(&self, seat: usize, key: usize, asked: BootInstant) -> u64 {
        let told = self.forgotten[key].iter();
        let due = told.filter(|(at, _)| asked.saturating_duration_since(*at) > BOUND);
        due.map(|(_, number)| *number).max().unwrap_or(0).max(self.own[seat][key])
    }

    /// Asks a node, unless it would wait for a load that goes on only when it is told to.
    async fn get(&mut self, seat: usize, key: usize) {
        if self.slow.iter().any(|slow| (slow.seat, slow.key) == (seat, key)) {
            return;
        }
        let (core, now) = (Arc::clone(&self.seats[seat].cache.core), self.clock.now());
        let before = core.report().memory;
        let truth = Arc::clone(&self.truth[key]);
        let load = || ready(Ok::<u64, Infallible>(truth.is_loaded(truth.number())));
        let given = *self.seats[seat].cache.get_with(KEYS[key], load).await.unwrap();
        self.given += 1;
        self.from_memory += core.report().memory - before;
        let least = self.least(seat, key, now);
        assert!(given >= least, "node {seat} gave {given} of key {key}, not {least}");
        assert!(given <= truth.number(), "what there never was");
        let age = truth.age_of(given);
        assert!(age <= LIVES + SLACK, "node {seat} gave {given} of key {key}, loaded {age:?} ago");
    }

    /// Asks a node for a value that often cannot be loaded; it may be one that loads go on for meanwhile.
    async fn get_or_stale(&mut self, seat: usize) {
        let (cache, now) = (self.seats[seat].cache.clone(), self.clock.now());
        let (truth, fails) = (Arc::clone(&self.truth[LENIENT]), self.rng.random_bool(0.6));
        let loads = Arc::clone(&truth);
        let load = move || {
            let loaded = || Ok::<u64, String>(loads.is_loaded(loads.number()));
            ready(if fails { Err("no".to_owned()) } else { loaded() })
        };
        let given = match cache.get_or_stale(KEYS[LENIENT], &[], load).await {
            Ok(given) => given,
            // There was none that could be given: that is not wrong at any time.
            Err(CacheError::Load(_) | CacheError::TooLong(_)) => return,
            Err(error) => panic!("{error:?}"),
        };
        self.given += 1;
        let (number, least) = (*given, self.least(seat, LENIENT, now));
        assert!(number >= least, "node {seat} gave {given:?}, not {least}");
        assert!(number <= truth.number(), "what there never was");
        let loaded = truth.age_of(number);
        match given.age() {
            None => assert!(loaded <= LIVES + SLACK, "{number} of {loaded:?} ago is not flagged"),
            Some(age) => {
                self.stale += 1;
                assert!(age >= LIVES && age < LIVES + STALE, "{number} is stale since {age:?}");
                assert!(loaded <= age + SLACK, "{number} of {loaded:?} ago says {age:?}");
            }
        }
    }

    async fn change(&mut self, seat: usize, key: usize) {
        let truth = Arc::clone(&self.truth[key]);
        let cache = self.seats[seat].cache.clone();
        if self.rng.random_bool(0.5) {
            truth.change();
            cache.forget(KEYS[key]).await.unwrap();
        } else {
            let change = || {
                truth.change();
                ready(Ok::<(), Infallible>(()))
            };
            cache.change_with(KEYS[key], change).await.unwrap();
        }
        let number = self.truth[key].number();
        self.own[seat][key] = number;
        self.forgotten[key].push((self.clock.now(), number));
    }

    /// Begins a load that has read what there is by now.
    async fn begin_slow(&mut self, seat: usize, key: usize) {
        if self.slow.iter().any(|slow| (slow.seat, slow.key) == (seat, key)) {
            return;
        }
        let (cache, truth) = (self.seats[seat].cache.clone(), Arc::clone(&self.truth[key]));
        let (goes_on, waits) = oneshot::channel::<()>();
        let (begun, loading) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let load = || async move {
                let number = truth.number();
                begun.send(()).ok();
                waits.await.ok();
                Ok::<u64, Infallible>(truth.is_loaded(number))
            };
            cache.get_with(KEYS[key], load).await.unwrap();
        });
        // Fails when it need not be loaded: whoever would have begun is gone then.
        if loading.await.is_ok() {
            self.slow.push(Slow { seat, key, goes_on, task });
        } else {
            task.await.unwrap();
        }
    }

    async fn end_slow(&mut self) {
        if self.slow.is_empty() {
            return;
        }
        let which = self.rng.random_range(0..self.slow.len());
        let slow = self.slow.swap_remove(which);
        slow.goes_on.send(()).ok();
        slow.task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_no_history_gives_what_was_forgotten_longer_ago_than_the_bound() {
    let (mut given, mut from_memory, mut stale) = (0, 0, 0);
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let mut world = World::new(seed).await;
        for _ in 0..STEPS {
            world.step().await;
        }
        while !world.slow.is_empty() {
            world.end_slow().await;
        }
        given += world.given;
        from_memory += world.from_memory;
        stale += world.stale;
    }
    println!("{given} values were given, {from_memory} of them from memory and {stale} stale");
    assert!(from_memory > 50, "else this shows nothing: {from_memory} of {given}");
    assert!(stale > 20, "else this shows nothing of stale ones: {stale} of {given}");
}
