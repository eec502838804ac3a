//! Redis is away, comes back, comes back empty, or closes connections.

mod bystanders;

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use understudy_tests::{
    Answer, Cluster, Data, Program, Redis, Topology, crowd, oracle, rounds, wait,
};

use self::bystanders::Bystanders;
use super::ledger::{Came, Ledger, acquainted, turn};
use super::traffic::{STEADY, Tally, Traffic};

const LIMIT: Duration = Duration::from_secs(20);
const SESSIONS: usize = 10;
/// Longer than the lease, so that nobody can answer from memory.
const OUTAGE: Duration = Duration::from_secs(5);
/// What the issue asks for: back within a second of Redis returning.
const BACK_MS: u128 = 1_000;
/// On an empty Redis the nodes first have to find out that it is another one, put back what they own, and say so: a
/// second more. Then nobody waits for a lease.
const PUT_BACK_MS: u128 = 2_000;
/// Nodes that have just begun cannot say who else may own sessions: these wait for one lease (3 s).
const UNACQUAINTED_MS: u128 = 4_000;

/// How long Redis is away where its coming back is timed.
fn outage() -> Duration {
    Duration::from_secs(rounds(5, 20) as u64)
}

/// How long a node may take to say that Redis is away; a soak run, which has the machine for itself, asks for more.
fn told_within_ms() -> u128 {
    rounds(1_000, 300) as u128
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Away {
    Killed,
    Paused,
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_is_told_within_a_second_and_over_within_a_second() {
    away(Away::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_paused_is_told_within_a_second_and_over_within_a_second() {
    away(Away::Paused).await;
}

async fn away(how: Away) {
    let _turn = turn().await;
    let redis = Redis::builder(Topology::Standalone).append_only();
    // The default; and less where answers may take less, since each may wait for one command.
    let command_ms = rounds(500, 200).to_string();
    let builder = Cluster::builder().nodes(2).redis_with(redis);
    let builder = builder.env("UNDERSTUDY_REDIS_COMMAND_TIMEOUT_MS", &command_ms);
    let mut cluster = builder.start().await;
    ready_made(&mut cluster).await;
    let ready = Instant::now();
    let ledger = Ledger::begin(cluster.url(0), SESSIONS).await;
    let bystanders = Bystanders::of(&cluster, &ledger.accounts[0].client);
    let (before, ()) = tokio::join!(bystanders.usual(), acquainted(ready));
    let pids: Vec<u32> = cluster.nodes.iter().map(|node| node.pid()).collect();
    match how {
        Away::Killed => cluster.redis.kill(),
        Away::Paused => cluster.redis.pause(),
    }
    let since = Instant::now();
    let (over, is_over) = watch::channel(false);
    let outage = async {
        while_away(&cluster, &ledger, since).await;
        over.send_replace(true);
    };
    let (during, ()) = tokio::join!(bystanders.until(&is_over), outage);
    during.is_like(&before);
    match how {
        Away::Killed => cluster.redis.restart(Data::Kept).await,
        Away::Paused => cluster.redis.resume(),
    }
    let back = Instant::now();
    let times = crowd(SESSIONS, SESSIONS, async |number| {
        let mut written = Vec::new();
        for base in [cluster.url(0), cluster.url(1)] {
            wait::until("the session is served", LIMIT, async || {
                ledger.accounts[number].increment(base).await.0 == Came::Well
            })
            .await;
            written.push(back.elapsed().as_millis());
        }
        written
    })
    .await;
    let first = times.iter().map(|written| written[0]).min().unwrap();
    let last = times.iter().map(|written| written[1]).max().unwrap();
    oracle::note(&format!("first session written {first} ms after Redis came back"));
    oracle!("all sessions written at both nodes after Redis came back, ms", last, within BACK_MS);
    ledger.is_exact(cluster.url(1)).await;
    let after: Vec<u32> = cluster.nodes.iter().map(|node| node.pid()).collect();
    assert_eq!(pids, after, "no node was restarted");
}

/// Adds a node that serves the page which needs no session.
async fn ready_made(cluster: &mut Cluster) {
    let url = cluster.url(0).to_owned();
    let spec = cluster.spec("ready-made").await.program(Program::Understudy);
    let mut node = spec.env("UNDERSTUDY_HTTP_EXTERNAL_URL", &url).start();
    node.ready(LIMIT).await;
    cluster.nodes.push(node);
}

/// Everybody is told at once, until the outage is long enough.
async fn while_away(cluster: &Cluster, ledger: &Ledger, since: Instant) {
    let (mut slowest, mut wrong, mut round) = ((0, "none"), 0, 0);
    wait::until("the outage is long enough", outage() * 3, async || {
        round += 1;
        let answers = crowd(SESSIONS, SESSIONS, async |number| {
            let sent = Instant::now();
            let base = cluster.url((number + round) % 2);
            let answer = ledger.accounts[number].increment(base).await.1.unwrap();
            (answer, sent.elapsed())
        })
        .await;
        for (answer, took) in &answers {
            slowest = slowest
                .max((took.as_millis(), if round == 1 { "a first write" } else { "a write" }));
            wrong += usize::from(!tells_outage(answer));
        }
        since.elapsed() >= outage()
    })
    .await;
    // Now no lease is left: reads are told as well.
    for account in &ledger.accounts {
        let sent = Instant::now();
        let read = account.read(cluster.url(0)).await.1.unwrap();
        slowest = slowest.max((sent.elapsed().as_millis(), "a read"));
        wrong += usize::from(!tells_outage(&read));
    }
    let stranger = ledger.accounts[0].client.stranger();
    let sent = Instant::now();
    let begun = stranger.post(cluster.url(0), "/incr").await.unwrap();
    slowest = slowest.max((sent.elapsed().as_millis(), "a session that begins"));
    wrong += usize::from(!tells_outage(&begun));
    oracle!("answers that are not 503 with Retry-After and without a cookie", wrong, 0);
    let (slowest, which) = slowest;
    oracle::note(&format!("slowest of them: {which}"));
    oracle!("slowest of them, ms", slowest, within told_within_ms());
}

pub(super) fn tells_outage(answer: &Answer) -> bool {
    let told = answer.status == 503
        && answer.header("retry-after").is_some()
        && answer.set_cookies().is_empty();
    if !told {
        oracle::note(&format!("not an outage as it should be told: {answer:?}"));
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_restarted_empty_gets_the_sessions_of_living_owners_back() {
    let _turn = turn().await;
    restarted_empty(Cluster::builder().start().await, Duration::ZERO, UNACQUAINTED_MS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_restarted_empty_after_an_outage_gets_the_sessions_of_living_owners_back() {
    let _turn = turn().await;
    let cluster = Cluster::builder().start().await;
    acquainted(Instant::now()).await;
    restarted_empty(cluster, OUTAGE, PUT_BACK_MS).await;
}

async fn restarted_empty(mut cluster: Cluster, outage: Duration, limit_ms: u128) {
    let ledger = Ledger::begin(cluster.url(0), SESSIONS).await;
    for account in &ledger.accounts {
        account.client.post(cluster.url(0), "/login?user=ann").await.unwrap().expect(204);
        account.increment(cluster.url(1)).await.1.unwrap().expect(200);
    }
    cluster.redis.kill();
    let since = Instant::now();
    wait::until("the outage is long enough", LIMIT, async || since.elapsed() >= outage).await;
    cluster.redis.restart(Data::Lost).await;
    let back = Instant::now();
    let mut lost = 0;
    for base in [cluster.url(1), cluster.url(2), cluster.url(0)] {
        let who = crowd(SESSIONS, SESSIONS, async |number| {
            let client = &ledger.accounts[number].client;
            let (answer, _) = wait::until_some("the session is answered", LIMIT, async || {
                client.get(base, "/whoami").await.ok().filter(|answer| answer.status == 200)
            })
            .await;
            answer.text.contains("ann")
        })
        .await;
        lost += who.iter().filter(|known| !**known).count();
    }
    let took = back.elapsed().as_millis();
    oracle!("logins of 30 that an empty Redis cost", lost, 0);
    oracle!("all sessions known at all nodes after Redis came back, ms", took, within limit_ms);
    for account in &ledger.accounts {
        wait::until("it is written", LIMIT, async || {
            account.increment(cluster.url(2)).await.0 == Came::Well
        })
        .await;
    }
    ledger.is_exact(cluster.url(1)).await;
    let restores = cluster.metric("session_restores_total").await;
    oracle!("sessions put back", restores, >= SESSIONS as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn k3_connections_that_redis_closes_cost_no_request() {
    const KILLS: usize = 10;
    let _turn = turn().await;
    let cluster = Cluster::builder().start().await;
    let ledger = Ledger::begin(cluster.url(0), 12).await;
    let bases = [cluster.url(0), cluster.url(1), cluster.url(2)];
    let traffic = Traffic::start(&ledger, &bases, STEADY);
    let mut closed = 0;
    for _ in 0..KILLS {
        ledger.mark().await;
        wait::until("traffic runs", LIMIT, async || ledger.all_written_since_mark(2)).await;
        let killed = cluster.redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
        closed += killed.trim().parse::<usize>().unwrap();
    }
    ledger.mark().await;
    wait::until("traffic goes on", LIMIT, async || ledger.all_written_since_mark(2)).await;
    let tally = traffic.stop().await;
    oracle!("connections closed under load", closed, >= KILLS * 9);
    oracle!("reads that failed", Tally::get(&tally.failed_reads), 0);
    oracle!("increments that failed", Tally::get(&tally.failed_writes), 0);
    oracle!("reads that were stale", Tally::get(&tally.stale), 0);
    ledger.is_exact(cluster.url(1)).await;
}
