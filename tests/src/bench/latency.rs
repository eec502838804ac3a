//! What one client notices: how long a request takes when nobody else asks, with sessions in Redis and in memory.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::case::session;
use super::run::Options;
use super::stage::{Site, Stage, site};

const READY_LIMIT: Duration = Duration::from_secs(60);
/// Requests before those that are timed.
const WARM_UP: usize = 500;
/// Requests of each kind.
const TIMED: usize = 4_000;
/// Requests of one kind before those of the next have their turn.
const TURN: usize = 200;

/// A kind of request, and how long it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Latency {
    /// What was asked of whom.
    pub what: &'static str,
    /// Half of the requests took no longer, µs.
    pub p50_us: f64,
    /// 99 of 100 took no longer, µs.
    pub p99_us: f64,
}

impl Latency {
    /// Judges the times of some requests, one at least.
    pub(super) fn of(what: &'static str, mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e6;
        Self { what, p50_us: at(50), p99_us: at(99) }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| {} | {:.0} | {:.0} |", self.what, self.p50_us, self.p99_us)
    }
}

/// Asks one node of the cluster and one that keeps sessions in memory, one request at a time, by turns.
pub(super) async fn measure(stage: &Stage, options: &Options) -> Vec<Latency> {
    let spec = crate::NodeSpec::new("node-in-memory");
    let mut node = spec
        .program(crate::Program::Fixture)
        .env("UNDERSTUDY_SESSION_STORE", "memory")
        .envs(options.environment.clone())
        .start();
    node.ready(READY_LIMIT).await;
    let (in_redis, in_memory) = (stage.node(0), site(&node));
    let mut lines = [
        Line::new("no session", in_redis, "GET /nothing").await,
        Line::new("read, sessions in memory", in_memory, "GET /read").await,
        Line::new("read at the owner, sessions in Redis", in_redis, "GET /read").await,
        Line::new("write, sessions in memory", in_memory, "POST /incr").await,
        Line::new("write at the owner, sessions in Redis", in_redis, "POST /incr").await,
    ];
    for line in &mut lines {
        line.ask(WARM_UP).await;
        line.times.clear();
    }
    for _ in 0..TIMED / TURN {
        for line in &mut lines {
            line.ask(TURN).await;
        }
    }
    lines.into_iter().map(Line::judge).collect()
}

struct Line {
    what: &'static str,
    connection: super::Exchange,
    request: Vec<u8>,
    times: Vec<Duration>,
}

impl Line {
    async fn new(what: &'static str, site: Site, line: &str) -> Self {
        let cookie = session(site).await;
        let request = super::wire::request(site.address, line, Some(&cookie));
        Self { what, connection: site.connect().await, request, times: Vec::new() }
    }

    async fn ask(&mut self, requests: usize) {
        for _ in 0..requests {
            let sent = Instant::now();
            let status = self.connection.status(&self.request).await.expect("the server answers");
            self.times.push(sent.elapsed());
            assert!(status < 300, "{}: {status}", self.what);
        }
    }

    fn judge(self) -> Latency {
        Latency::of(self.what, self.times)
    }
}
