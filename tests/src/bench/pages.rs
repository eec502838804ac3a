//! What it costs to tell many open pages something: one event for a user who has a page open in each of many sessions, at two
//! nodes.
//!
//! The floor is as many requests at the same moment to the same nodes, which ask for no session: each is a read and a write of
//! a socket, and a page that is told is a write.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::latency::Latency;
use super::meter::Meter;
use super::peers::WORKERS;
use super::run::Options;
use super::stage::{Site, site};
use super::wire::{self, Exchange};
use crate::Cluster;

/// How many pages are open. Each is a connection of the benchmark and of a node, and 1,024 open files are what a shell gives.
const PAGES: [usize; 3] = [1, 100, 500];
/// Pages that are told something, in all, for each of these.
const TOLD: usize = 10_000;
/// How often at most and at least something is told.
const TELLS: [usize; 2] = [20, 500];
/// Before those that are timed.
const WARM_UP: usize = 5;
/// How long one event may be under way.
const LIMIT: Duration = Duration::from_secs(30);

/// What came of asking or telling many at the same moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Burst {
    /// How long each took.
    pub each: Latency,
    /// How long it took until the last of them.
    pub last: Latency,
    /// Processor time of the nodes for each, µs.
    pub server_us: f64,
    /// Processor time of Redis for all of them, µs.
    pub redis_us: f64,
    /// Commands to Redis for all of them.
    pub commands: f64,
}

/// What it costs to tell so many pages.
#[derive(Debug, Clone, PartialEq)]
pub struct FanOut {
    /// How many are open.
    pub pages: usize,
    /// From asking for it until the page has it.
    pub told: Burst,
    /// As many requests.
    pub floor: Burst,
}

/// All of it; shown as a table in Markdown.
#[derive(Debug, Clone, PartialEq)]
pub struct PagesReport(Vec<FanOut>);

/// Measures on a cluster of two nodes; `progress` is told each measurement.
pub async fn measure(options: &Options, mut progress: impl FnMut(String)) -> PagesReport {
    let mut builder = Cluster::builder().nodes(2);
    builder = builder.env("UNDERSTUDY_HTTP_WORKERS", &WORKERS.to_string());
    // An open page is no use of its session, which stays in memory all the same.
    builder = builder.env("UNDERSTUDY_SESSION_PASSIVATE_AFTER_MS", "3600000");
    for (name, value) in &options.environment {
        builder = builder.env(name, value);
    }
    let cluster = builder.start().await;
    let sites: Vec<Site> = cluster.nodes.iter().map(site).collect();
    let meter = Meter::connect(cluster.redis.primary_port()).await;
    let mut meter = meter.expect("Redis was started a moment ago");
    let mut all = Vec::new();
    for pages in PAGES {
        let told = tell(&sites, pages, &mut meter).await;
        let fan_out = FanOut { pages, told, floor: ask(&sites, pages, &mut meter).await };
        progress(format!("pages: {fan_out}"));
        all.push(fan_out);
    }
    PagesReport(all)
}

/// How often so many pages are told something.
fn tells(pages: usize) -> usize {
    (TOLD / pages).clamp(TELLS[0], TELLS[1])
}

/// An open page.
struct Page {
    stream: TcpStream,
    /// What came, from the latest mark on.
    heard: Vec<u8>,
}

impl Page {
    async fn open(site: Site, cookie: &str) -> Self {
        let mut stream = TcpStream::connect(site.address).await.expect("the server listens");
        let request = wire::request(site.address, "GET /events", Some(cookie));
        stream.write_all(&request).await.expect("the server takes a request");
        let mut page = Self { stream, heard: Vec::new() };
        in_time(page.until("\nid: ")).await;
        page
    }

    /// Reads until this comes; gives when that was.
    async fn until(&mut self, mark: &str) -> Instant {
        loop {
            let mut places = self.heard.windows(mark.len());
            if let Some(at) = places.position(|place| place == mark.as_bytes()) {
                self.heard.drain(..at + mark.len());
                return Instant::now();
            }
            let read = self.stream.read_buf(&mut self.heard).await;
            assert!(read.expect("the stream goes on") > 0, "the stream has ended");
        }
    }
}

/// Opens so many pages of one user, each in a session of its own, and tells the user something, again and again.
async fn tell(sites: &[Site], count: usize, meter: &mut Meter) -> Burst {
    let user = format!("many-{count}");
    let (mut pages, mut cookie) = (Vec::new(), String::new());
    for number in 0..count {
        let site = sites[number % sites.len()];
        let answer = site.ask(&format!("POST /login?user={user}"), None).await;
        cookie = answer.cookie.expect("a login begins a session");
        pages.push(Page::open(site, &cookie).await);
    }
    let mut teller = sites[0].connect().await;
    let mut bursts = Bursts::begin(sites, meter);
    for number in 0..WARM_UP + tells(count) {
        if number == WARM_UP {
            bursts.count().await;
        }
        let (line, mark) =
            (format!("POST /tell?n={number}&user={user}"), format!("\ndata: {number}\n"));
        let sent = Instant::now();
        let telling = teller.answer(&line, Some(&cookie));
        let hearing = join_all(pages.iter_mut().map(|page| page.until(&mark)));
        let (answer, heard) = in_time(async { tokio::join!(telling, hearing) }).await;
        let answer = answer.expect("the server answers");
        assert!(answer.status < 300, "{line}: {answer:?}");
        bursts.note(heard.into_iter().map(|at| at - sent).collect());
    }
    bursts.judge(count).await
}

/// Asks for nothing over so many connections at the same moment, again and again.
async fn ask(sites: &[Site], count: usize, meter: &mut Meter) -> Burst {
    let mut clients: Vec<(Exchange, Vec<u8>)> = Vec::new();
    for number in 0..count {
        let site = sites[number % sites.len()];
        let request = wire::request(site.address, "GET /nothing", None);
        clients.push((site.connect().await, request));
    }
    let mut bursts = Bursts::begin(sites, meter);
    for number in 0..WARM_UP + tells(count) {
        if number == WARM_UP {
            bursts.count().await;
        }
        let sent = Instant::now();
        let asking =
            clients.iter_mut().map(|(exchange, request)| answered(exchange, request, sent));
        let times = in_time(join_all(asking)).await;
        bursts.note(times);
    }
    bursts.judge(count).await
}

/// Asks; gives how long after `sent` the answer was there.
async fn answered(exchange: &mut Exchange, request: &[u8], sent: Instant) -> Duration {
    let status = exchange.status(request).await.expect("the server answers");
    assert!(status < 300, "{status}");
    sent.elapsed()
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(LIMIT, work).await.expect("a burst is over in time")
}

/// Collects the times of bursts, and what they cost, once they are counted.
struct Bursts<'a> {
    meter: &'a mut Meter,
    pids: Vec<u32>,
    each: Vec<Duration>,
    last: Vec<Duration>,
}

impl<'a> Bursts<'a> {
    fn begin(sites: &[Site], meter: &'a mut Meter) -> Self {
        let pids = sites.iter().map(|site| site.pid).collect();
        Self { meter, pids, each: Vec::new(), last: Vec::new() }
    }

    /// Forgets what came before, and begins to count.
    async fn count(&mut self) {
        self.each.clear();
        self.last.clear();
        self.meter.begin(&self.pids).await.expect("Redis runs as long as the cluster");
    }

    fn note(&mut self, times: Vec<Duration>) {
        self.last.extend(times.iter().max());
        self.each.extend(times);
    }

    async fn judge(self, count: usize) -> Burst {
        let costs = self.meter.end().await.expect("Redis runs as long as the cluster");
        let bursts = self.last.len().max(1) as f64;
        Burst {
            each: Latency::of("each", self.each),
            last: Latency::of("last", self.last),
            server_us: costs.servers.as_secs_f64() * 1e6 / (bursts * count as f64),
            redis_us: costs.redis.as_secs_f64() * 1e6 / bursts,
            commands: costs.commands as f64 / bursts,
        }
    }
}

impl fmt::Display for FanOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (told, floor) = (&self.told, &self.floor);
        write!(
            f,
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} | {:.1} | {:.1} | {:.2} | {:.0} | {:.1} |",
            self.pages,
            told.each.p50_us,
            told.each.p99_us,
            told.last.p50_us,
            floor.last.p50_us,
            told.last.p50_us / floor.last.p50_us.max(0.001),
            told.server_us,
            floor.server_us,
            told.server_us / floor.server_us.max(0.001),
            told.redis_us,
            told.commands
        )
    }
}

impl fmt::Display for PagesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| open pages of a user | told p50 µs | p99 | the last of them p50 | of as many requests | ratio \
             | server CPU µs each | of a request | ratio | Redis CPU µs for all | Redis commands |\n\
             |--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
        )?;
        for fan_out in &self.0 {
            writeln!(f, "{fan_out}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_telling_costs_is_compared_with_as_many_requests() {
        let burst = |ms: u64, server_us: f64| {
            let took = || vec![Duration::from_millis(ms)];
            let (each, last) = (Latency::of("each", took()), Latency::of("last", took()));
            Burst { each, last, server_us, redis_us: 5.0, commands: 3.0 }
        };
        let fan_out = FanOut { pages: 100, told: burst(6, 30.0), floor: burst(3, 20.0) };
        let wanted = "| 100 | 6000 | 6000 | 6000 | 3000 | 2.00 | 30.0 | 20.0 | 1.50 | 5 | 3.0 |";
        assert_eq!(fan_out.to_string(), wanted);
        assert_eq!([tells(1), tells(100), tells(5_000)], [500, 100, 20]);
    }
}
