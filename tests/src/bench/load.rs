//! The clients: a few threads that keep many connections busy, as cheaply as they can.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::wire::{self, Exchange};

/// One connection of a visitor, and the request that it repeats.
#[derive(Debug, Clone)]
pub struct Line {
    address: SocketAddr,
    request: Vec<u8>,
}

impl Line {
    /// A request such as `GET /read`, with the cookie of a session.
    pub fn new(address: SocketAddr, line: &str, cookie: Option<&str>) -> Self {
        Self { address, request: wire::request(address, line, cookie) }
    }
}

/// A client that sends one request at a time; over each of its lines in turn, as a browser does
/// behind a balancer without stickiness.
pub type Visitor = Vec<Line>;

/// What came of a load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Answers with a status below 300.
    pub answered: u64,
    /// Other answers.
    pub refused: u64,
    /// Time of the clients themselves on a processor.
    pub processor: Duration,
    /// From the first request to the last answer.
    pub elapsed: Duration,
}

impl Totals {
    /// What came between an earlier look and this one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            answered: self.answered - earlier.answered,
            refused: self.refused - earlier.refused,
            processor: self.processor.saturating_sub(earlier.processor),
            elapsed: self.elapsed.saturating_sub(earlier.elapsed),
        }
    }
}

/// Counted by one thread, read by another.
#[derive(Debug, Default)]
struct Tally {
    answered: AtomicU64,
    refused: AtomicU64,
    /// Nanoseconds of the thread on a processor, noted now and then.
    processor: AtomicU64,
    stop: AtomicBool,
}

/// How often a client thread notes its processor time, in answers.
const NOTE_EVERY: u64 = 256;

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    began: Instant,
    threads: Vec<JoinHandle<Instant>>,
    tallies: Vec<Arc<Tally>>,
}

impl Load {
    /// Connects all visitors on `threads` threads, then lets them begin at the same moment; each
    /// ends after `limit` requests, or when asked to.
    pub fn begin(visitors: Vec<Visitor>, limit: u64, threads: usize) -> Self {
        let threads = threads.clamp(1, visitors.len().max(1));
        let mut groups: Vec<Vec<Visitor>> = vec![Vec::new(); threads];
        for (number, visitor) in visitors.into_iter().enumerate() {
            groups[number % threads].push(visitor);
        }
        let start = Arc::new(Barrier::new(threads + 1));
        let mut load = Self { began: Instant::now(), threads: Vec::new(), tallies: Vec::new() };
        for group in groups {
            let tally = Arc::new(Tally::default());
            load.tallies.push(Arc::clone(&tally));
            let start = Arc::clone(&start);
            let body = move || work(group, limit, &tally, &start);
            let thread = std::thread::Builder::new().name("client".to_owned());
            load.threads.push(thread.spawn(body).expect("a thread can be started"));
        }
        start.wait();
        load.began = Instant::now();
        load
    }

    /// How it stands at this moment.
    pub fn look(&self) -> Totals {
        let sum = |field: fn(&Tally) -> &AtomicU64| -> u64 {
            let values = self.tallies.iter();
            values.map(|tally| field(tally).load(Ordering::Relaxed)).sum()
        };
        Totals {
            answered: sum(|tally| &tally.answered),
            refused: sum(|tally| &tally.refused),
            processor: Duration::from_nanos(sum(|tally| &tally.processor)),
            elapsed: self.began.elapsed(),
        }
    }

    /// Lets the visitors stop after the request that each is at; returns the totals.
    pub async fn stop(self) -> Totals {
        for tally in &self.tallies {
            tally.stop.store(true, Ordering::Relaxed);
        }
        self.finish().await
    }

    /// Waits until every visitor has had its last answer.
    pub async fn finish(mut self) -> Totals {
        let threads = std::mem::take(&mut self.threads);
        let join = |thread: JoinHandle<Instant>| thread.join().expect("the clients met no error");
        let ended = tokio::task::spawn_blocking(move || threads.into_iter().map(join).max()).await;
        let ended = ended.expect("it does not panic by itself");
        let elapsed = ended.map_or(Duration::ZERO, |ended| ended.duration_since(self.began));
        Totals { elapsed, ..self.look() }
    }
}

/// One thread of clients; returns when the last of them was done.
fn work(visitors: Vec<Visitor>, limit: u64, tally: &Arc<Tally>, start: &Barrier) -> Instant {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime of one thread can be made");
    let clients: Vec<_> = runtime.block_on(async {
        let mut clients = Vec::new();
        for visitor in visitors {
            clients.push(Client::connect(visitor).await);
        }
        clients
    });
    start.wait();
    tally.note_processor();
    let visits = clients.into_iter().map(|client| client.visit(limit, Arc::clone(tally)));
    all(&runtime, visits);
    tally.note_processor();
    Instant::now()
}

fn all(runtime: &Runtime, visits: impl Iterator<Item = impl Future<Output = ()> + Send + 'static>) {
    runtime.block_on(async {
        let mut tasks: JoinSet<()> = visits.collect();
        while let Some(ended) = tasks.join_next().await {
            ended.expect("a client met no error");
        }
    });
}

struct Client {
    lines: Vec<(Exchange, Vec<u8>)>,
}

impl Client {
    async fn connect(visitor: Visitor) -> Self {
        let mut lines = Vec::new();
        for line in visitor {
            let exchange = Exchange::connect(line.address).await;
            lines.push((exchange.expect("the server listens"), line.request));
        }
        Self { lines }
    }

    async fn visit(mut self, limit: u64, tally: Arc<Tally>) {
        let count = self.lines.len();
        let mut next = 0;
        for _ in 0..limit {
            let (exchange, request) = &mut self.lines[next];
            next = if next + 1 == count { 0 } else { next + 1 };
            let status = exchange.status(request).await;
            tally.note(status.expect("the server answers"));
            if tally.stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
}

impl Tally {
    fn note(&self, status: u16) {
        let counter = if status < 300 { &self.answered } else { &self.refused };
        if counter.fetch_add(1, Ordering::Relaxed) % NOTE_EVERY == 0 {
            self.note_processor();
        }
    }

    fn note_processor(&self) {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let nanos = time.tv_sec * 1_000_000_000 + time.tv_nsec;
        let nanos = u64::try_from(nanos).unwrap_or(0);
        self.processor.store(nanos, Ordering::Relaxed);
    }
}
