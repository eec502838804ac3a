//! Random histories: changes, loads that take long, nodes that look late, a Redis that loses things. What is given is compared
//! with what had been forgotten by then.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::clock::BootInstant;
use crate::clock::Clock as _;

const STEPS: u32 = 600;
const SEEDS: u64 = 4;
const KEYS: [&str; 2] = ["k", "l"];
/// A node does not wait for others, and loads take as long as they like: they go on only when this history says so.
const REGION: Region = PRICES.waits(Duration::ZERO).load_limit(Duration::from_secs(300));

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
    /// What there is to load, by key: it only grows.
    truth: [Arc<AtomicU64>; 2],
    /// When which value was forgotten everywhere, by key.
    forgotten: [Vec<(BootInstant, u64)>; 2],
    /// What each node has forgotten itself.
    own: [[u64; 2]; 3],
    slow: Vec<Slow>,
    given: u64,
    from_memory: u64,
}

impl World {
    async fn new(seed: u64) -> Self {
        let (server, clock) = (RedisServer::start().await, Arc::new(ManualClock::new()));
        let mut seats = Vec::new();
        for name in ["a", "b", "c"] {
            let shared = Seat::shared(&server, name).await;
            let mut seat = Seat::with(REGION, Some(shared), Arc::clone(&clock));
            seat.look().await;
            seats.push(seat);
        }
        Self {
            rng: StdRng::seed_from_u64(seed),
            server,
            clock,
            seats,
            truth: [Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(1))],
            forgotten: [Vec::new(), Vec::new()],
            own: [[0; 2]; 3],
            slow: Vec::new(),
            given: 0,
            from_memory: 0,
        }
    }

    async fn step(&mut self) {
        let (seat, key) = (self.rng.random_range(0..3), self.rng.random_range(0..2));
        match self.rng.random_range(0..100) {
            0..45 => self.get(seat, key).await,
            45..60 => self.seats[seat].look().await,
            60..68 => self.change(seat, key).await,
            68..74 => self.begin_slow(seat, key).await,
            74..86 => self.end_slow().await,
            86..97 => {
                let ms = self.rng.random_range(1..700);
                self.clock.advance(Duration::from_millis(ms));
            }
            97..99 => drop(self.server.cli(&["XTRIM", "us:t:{cprices}:l", "MAXLEN", "1"])),
            _ => drop(self.server.cli(&["FLUSHALL"])),
        }
    }

    /// Asks a node, unless it would wait for a load that goes on only when it is told to.
    async fn get(&mut self, seat: usize, key: usize) {
        if self.slow.iter().any(|slow| (slow.seat, slow.key) == (seat, key)) {
            return;
        }
        let (core, now) = (Arc::clone(&self.seats[seat].cache.core), self.clock.now());
        let before = core.report().memory;
        let truth = self.truth[key].load(Ordering::Relaxed);
        let given = self.seats[seat].get(KEYS[key], truth).await;
        self.given += 1;
        self.from_memory += core.report().memory - before;
        let told = self.forgotten[key].iter();
        let due = told.filter(|(at, _)| now.saturating_duration_since(*at) > BOUND);
        let least = due.map(|(_, number)| *number).max().unwrap_or(0).max(self.own[seat][key]);
        assert!(given >= least, "node {seat} gave {given} of key {key}, not {least}");
        assert!(given <= truth, "what there never was");
    }

    async fn change(&mut self, seat: usize, key: usize) {
        let truth = Arc::clone(&self.truth[key]);
        let cache = self.seats[seat].cache.clone();
        if self.rng.random_bool(0.5) {
            truth.fetch_add(1, Ordering::Relaxed);
            cache.forget(KEYS[key]).await.unwrap();
        } else {
            let change = || {
                truth.fetch_add(1, Ordering::Relaxed);
                ready(Ok::<(), Infallible>(()))
            };
            cache.change_with(KEYS[key], change).await.unwrap();
        }
        let number = self.truth[key].load(Ordering::Relaxed);
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
                let number = truth.load(Ordering::Relaxed);
                begun.send(()).ok();
                waits.await.ok();
                Ok::<u64, Infallible>(number)
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
    let (mut given, mut from_memory) = (0, 0);
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
    }
    println!("{given} values were given, {from_memory} of them from memory");
    assert!(from_memory > 50, "else this shows nothing: {from_memory} of {given}");
}
