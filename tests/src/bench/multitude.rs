//! A node with very many sessions: what each takes in memory, there and once it has left, and how soon another node has taken
//! them over when theirs has died.
//!
//! What it is compared with is measured in the same run, on the same sessions: they are brought into memory while nobody owns
//! them, which is a takeover but for the death; and once they were taken over they are written again, at their owner then.

mod crew;
mod others;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::crew::{Walked, begin_each, write_each};
use self::others::Others;
use super::case::{CLIENTS, STATE};
use super::latency::Latency;
use super::meter::Meter;
use super::peers::WORKERS;
use super::run::Options;
use super::stage::site;
use crate::{Cluster, Node, wait};

const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long all sessions may take to leave the memory of a node.
const LEAVE_LIMIT: Duration = Duration::from_secs(600);
/// How often a node is asked how many it has.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Sessions before those that are measured, so that what a node allocates once is not counted.
const WARM_UP: usize = 6_400;
/// How long the other clients are watched while nobody else asks.
const QUIET: Duration = Duration::from_secs(5);
/// The lease of a node: before it is over nobody writes what a dead node owned.
const LEASE: Duration = Duration::from_millis(3_000);
/// When sessions leave memory: at the node where they begin, and at the two that are measured after that.
const SOON_MS: u64 = 1_000;
const NEVER_MS: u64 = 86_400_000;
/// So many of them at most are written again at their owner.
const AGAIN: usize = 100_000;

/// What was done to many sessions, one request each.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// What.
    pub what: &'static str,
    /// How many per second.
    pub rate: f64,
    /// How many requests were not answered with a status below 300.
    pub refused: usize,
    /// What other clients of that node noticed, if there were any.
    pub others: Option<Latency>,
}

/// What came of very many sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct Multitude {
    /// How many.
    pub sessions: usize,
    /// Bytes of a node for each that is in its memory, the state included.
    pub resident_bytes: f64,
    /// Bytes of a node for each that has left its memory.
    pub away_bytes: f64,
    /// Bytes of Redis for each, the state included.
    pub redis_bytes: f64,
    /// Bytes of the state.
    pub state_bytes: f64,
    /// How long after the death of a node the first of its sessions were written elsewhere.
    pub silence: Duration,
    /// What other clients notice when nobody else asks.
    pub quiet: Latency,
    /// What was done; last what the others are compared with, writes at the owner.
    pub done: Vec<Done>,
}

impl Done {
    fn new(what: &'static str, walked: Walked, others: Option<Latency>) -> Self {
        let rate = walked.written as f64 / walked.elapsed.as_secs_f64();
        Self { what, rate, refused: walked.refused, others }
    }
}

/// Measures with as many sessions as the options say; `progress` is told each measurement.
pub async fn measure(options: &Options, mut progress: impl FnMut(String)) -> Multitude {
    let mut ground = Ground::start(options).await;
    let count = usize::try_from(options.sessions).expect("so many have room in memory");
    let (cookies, mut came) = ground.begin(count.max(WARM_UP), options).await;
    progress(format!("multitude: {:.0} bytes each once they have left memory", came.away_bytes));
    let cookies = Arc::new(cookies);
    came.done.push(ground.bring_into_memory(&cookies, &mut came.resident_bytes).await);
    progress(format!("multitude: {:.0} bytes each in memory", came.resident_bytes));
    let mut others = Others::begin(site(&ground.cluster.nodes[0])).await;
    ((), came.quiet) = others.beside("nothing", tokio::time::sleep(QUIET)).await;
    came.done.push(ground.take_over(&cookies, &mut others, &mut came.silence).await);
    came.done.push(ground.write_again(&cookies, &mut others).await);
    for done in &came.done {
        progress(format!("multitude: {}: {:.0}/s", done.what, done.rate));
    }
    came
}

/// Two nodes: the sessions are at the second, which dies.
struct Ground {
    cluster: Cluster,
    meter: Meter,
    threads: usize,
}

/// The variables of a node whose sessions leave its memory when they were not used for so long.
fn variables(options: &Options, passivate_after_ms: u64) -> Vec<(String, String)> {
    let own = [
        ("UNDERSTUDY_HTTP_WORKERS", WORKERS.to_string()),
        ("UNDERSTUDY_CLUSTER_NODE_TTL_MS", LEASE.as_millis().to_string()),
        ("UNDERSTUDY_SESSION_ACTORS_MAX", "100000000".to_owned()),
        ("UNDERSTUDY_SESSION_IDLE_S", "14400".to_owned()),
        ("UNDERSTUDY_SESSION_PASSIVATE_AFTER_MS", passivate_after_ms.to_string()),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    own.chain(options.environment.iter().cloned()).collect()
}

async fn none_is_in_memory(node: &Node) {
    wait::poll("no session is in memory", LEAVE_LIMIT, LOOK_EVERY, async || {
        (node.metric("sessions_resident").await < 1.0).then_some(())
    })
    .await;
}

impl Ground {
    async fn start(options: &Options) -> Self {
        let own = variables(options, NEVER_MS);
        let builder = own
            .iter()
            .fold(Cluster::builder().nodes(2), |builder, (name, value)| builder.env(name, value));
        let cluster = builder.start().await;
        let meter = Meter::connect(cluster.redis.primary_port()).await;
        Self {
            meter: meter.expect("Redis was started a moment ago"),
            threads: options.threads,
            cluster,
        }
    }

    async fn redis_bytes(&mut self) -> u64 {
        self.meter.redis_memory().await.expect("Redis runs as long as the cluster")
    }

    /// Begins sessions at a node of which they soon leave the memory, and which then leaves itself; gives their cookies.
    async fn begin(&mut self, count: usize, options: &Options) -> (Vec<String>, Multitude) {
        let spec = self.cluster.spec("node-of-birth").await;
        let own = format!("http://127.0.0.1:{}", spec.public_port());
        let spec = spec.env("UNDERSTUDY_HTTP_EXTERNAL_URL", &own);
        let mut node = spec.envs(variables(options, SOON_MS)).start();
        node.ready(READY_LIMIT).await;
        let (mut cookies, _) = begin_each(site(&node), WARM_UP, self.threads).await;
        none_is_in_memory(&node).await;
        let (before, redis_before) = (node.usage().resident_bytes, self.redis_bytes().await);
        let (made, elapsed) = begin_each(site(&node), count, self.threads).await;
        none_is_in_memory(&node).await;
        let grown = node.usage().resident_bytes.saturating_sub(before);
        let redis_grown = self.redis_bytes().await.saturating_sub(redis_before);
        cookies.extend(made);
        node.terminate();
        let status = node.wait_exit(READY_LIMIT).await;
        assert!(status.success(), "{status}");
        let walked = Walked { written: count, refused: 0, elapsed };
        let came = Multitude {
            sessions: count,
            resident_bytes: 0.0,
            away_bytes: grown as f64 / count as f64,
            redis_bytes: redis_grown as f64 / count as f64,
            state_bytes: (STATE + "blob".len() + "\"\"".len()) as f64,
            silence: Duration::ZERO,
            quiet: Latency::of("nothing", vec![Duration::ZERO]),
            done: vec![Done::new("begun", walked, None)],
        };
        (cookies, came)
    }

    /// Writes each session, which nobody owns, at the second node.
    async fn bring_into_memory(&self, cookies: &Arc<Vec<String>>, bytes: &mut f64) -> Done {
        let neighbour = &self.cluster.nodes[1];
        write_each(site(neighbour), cookies, 0..WARM_UP, self.threads).await;
        let before = neighbour.usage().resident_bytes;
        let all = WARM_UP..cookies.len();
        let walked = write_each(site(neighbour), cookies, all, self.threads).await;
        let grown = neighbour.usage().resident_bytes.saturating_sub(before);
        *bytes = grown as f64 / walked.written.max(1) as f64;
        Done::new("written, nobody owned it", walked, None)
    }

    /// Kills the second node and writes each of its sessions at the first. The rate begins when the lease is over; what the
    /// others notice begins with the death.
    async fn take_over(
        &mut self,
        cookies: &Arc<Vec<String>>,
        others: &mut Others,
        silence: &mut Duration,
    ) -> Done {
        const WHAT: &str = "written, its node has died";
        let (site, threads) = (site(&self.cluster.nodes[0]), self.threads);
        let first = WARM_UP..WARM_UP + CLIENTS;
        let rest = first.end..cookies.len();
        self.cluster.kill9(1);
        let died = Instant::now();
        let work = async {
            let first = write_each(site, cookies, first, threads).await;
            *silence = died.elapsed();
            (first, write_each(site, cookies, rest, threads).await)
        };
        let ((first, rest), noticed) = others.beside(WHAT, work).await;
        let walked = Walked { refused: first.refused + rest.refused, ..rest };
        Done::new(WHAT, walked, Some(noticed))
    }

    /// Writes sessions once more at the first node, which owns them now.
    async fn write_again(&self, cookies: &Arc<Vec<String>>, others: &mut Others) -> Done {
        const WHAT: &str = "written at the owner";
        let range = WARM_UP..cookies.len().min(WARM_UP + AGAIN);
        let work = write_each(site(&self.cluster.nodes[0]), cookies, range, self.threads);
        let (walked, noticed) = others.beside(WHAT, work).await;
        Done::new(WHAT, walked, Some(noticed))
    }
}

impl Multitude {
    fn bytes(&self, f: &mut fmt::Formatter<'_>, what: &str, node: f64) -> fmt::Result {
        let (sessions, redis, state) = (self.sessions, self.redis_bytes, self.state_bytes);
        writeln!(f, "| {sessions} {what} | {node:.0} | {:.2} | {redis:.0} |", node / state)
    }

    /// What others notice, and the p99 as a multiple of that beside writes at the owner.
    fn noticed(&self, others: Option<&Latency>) -> String {
        let base = self.done.last().and_then(|done| done.others.as_ref());
        match (others, base) {
            (Some(others), Some(base)) => {
                let times = others.p99_us / base.p99_us.max(1.0);
                format!("{:.0} | {:.0} | {times:.2}", others.p50_us, others.p99_us)
            }
            (Some(others), None) => format!("{:.0} | {:.0} | -", others.p50_us, others.p99_us),
            (None, _) => "| | ".to_owned(),
        }
    }
}

impl fmt::Display for Multitude {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| sessions of 1 KB | bytes in the node | of the state | bytes in Redis |\n|---|--:|--:|--:|"
        )?;
        self.bytes(f, "in memory", self.resident_bytes)?;
        self.bytes(f, "that have left it", self.away_bytes)?;
        writeln!(
            f,
            "\n| each session, once | sessions/s | of writes at the owner | refused | others at that node: p50 µs \
             | p99 µs | of that beside writes at the owner |\n|---|--:|--:|--:|--:|--:|--:|"
        )?;
        writeln!(f, "| {} | | | | {} |", self.quiet.what, self.noticed(Some(&self.quiet)))?;
        let base = self.done.last().map_or(1.0, |done| done.rate);
        for done in &self.done {
            let (rate, part) = (done.rate, done.rate / base);
            let noticed = self.noticed(done.others.as_ref());
            writeln!(
                f,
                "| {} | {rate:.0} | {part:.2} | {} | {noticed} |",
                done.what, done.refused
            )?;
        }
        writeln!(
            f,
            "\nThe first were written {} ms after their node had died, {:.2} of its lease.",
            self.silence.as_millis(),
            self.silence.as_secs_f64() / LEASE.as_secs_f64()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compared_is_compared_with_writes_at_the_owner() {
        let noticed = |ms| Latency::of("others", vec![Duration::from_millis(ms)]);
        let done = |what: &'static str, rate: f64, ms: Option<u64>| Done {
            what,
            rate,
            refused: 0,
            others: ms.map(noticed),
        };
        let came = Multitude {
            sessions: 10,
            resident_bytes: 3_000.0,
            away_bytes: 0.0,
            redis_bytes: 2_000.0,
            state_bytes: 1_000.0,
            silence: Duration::from_millis(3_300),
            quiet: noticed(1),
            done: vec![done("begun", 50.0, None), done("written at the owner", 100.0, Some(4))],
        };
        let shown = came.to_string();
        for line in [
            "| 10 in memory | 3000 | 3.00 | 2000 |",
            "| others | | | | 1000 | 1000 | 0.25 |",
            "| begun | 50 | 0.50 | 0 | | |  |",
            "| written at the owner | 100 | 1.00 | 0 | 4000 | 4000 | 1.00 |",
            "The first were written 3300 ms after their node had died, 1.10 of its lease.",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line} is not in {shown}");
        }
    }
}
