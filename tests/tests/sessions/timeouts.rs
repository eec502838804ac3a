//! When sessions end by themselves: the same on every store.

use std::time::Duration;

use tokio::time::Instant;
use understudy_tests::{Client, Cluster, NodeSpec, Program, crowd, oracle, wait};

use super::visitor::{begun, value};

const IDLE: Duration = Duration::from_secs(2);
/// An access is written down at most this often, so the end may be this much later.
const TOUCH: Duration = Duration::from_secs(1);
const ABSOLUTE: Duration = Duration::from_secs(6);
/// What a busy machine may add to an answer.
const SLACK: Duration = Duration::from_millis(500);

const OPTIONS: [(&str, &str); 3] = [
    ("UNDERSTUDY_SESSION_IDLE_S", "2"),
    ("UNDERSTUDY_SESSION_TOUCH_S", "1"),
    ("UNDERSTUDY_SESSION_ABSOLUTE_S", "6"),
];

#[tokio::test(flavor = "multi_thread")]
async fn s3_sessions_in_redis_end_in_time() {
    in_a_cluster("redis").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_sessions_in_postgresql_end_in_time() {
    in_a_cluster("database").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_sessions_in_sqlite_end_in_time() {
    on_its_own("database").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_sessions_in_memory_end_in_time() {
    on_its_own("memory").await;
}

async fn in_a_cluster(store: &str) {
    let mut builder = Cluster::builder().nodes(2).env("UNDERSTUDY_SESSION_STORE", store);
    for (name, value) in OPTIONS {
        builder = builder.env(name, value);
    }
    let cluster = builder.start().await;
    // On a new Redis nobody can claim for the first seconds (the grace), longer than these sessions live unused.
    wait::until("the other node answers at once", Duration::from_secs(20), async || {
        let client = begun(cluster.url(0)).await;
        let sent = Instant::now();
        let answer = client.get(cluster.url(1), "/get?k=begun").await.unwrap();
        !value(&answer.expect(200)).is_null() && sent.elapsed() < Duration::from_millis(500)
    })
    .await;
    end_in_time(&[cluster.url(0), cluster.url(1)]).await;
}

async fn on_its_own(store: &str) {
    let mut spec = NodeSpec::new(store).program(Program::Fixture);
    for (name, value) in OPTIONS {
        spec = spec.env(name, value);
    }
    let mut node = spec.env("UNDERSTUDY_SESSION_STORE", store).start();
    node.ready(Duration::from_secs(30)).await;
    end_in_time(&[node.public_url()]).await;
}

async fn end_in_time(nodes: &[&str]) {
    let (unused, ()) = tokio::join!(unused_end(nodes), used_end(nodes));
    let ms = |times: Vec<Duration>| times.into_iter().map(|time| time.as_millis());
    let alive = unused.iter().filter(|probe| probe.alive).map(|probe| probe.at_least).collect();
    let gone = unused.iter().filter(|probe| !probe.alive).map(|probe| probe.at_most).collect();
    let latest_alive = ms(alive).max().expect("the first one was asked at once");
    let earliest_end = ms(gone).min().expect("the last ones were asked late");
    oracle!("unused session gone after, ms", earliest_end, >= IDLE.as_millis());
    let limit = (IDLE + TOUCH + SLACK).as_millis();
    oracle!("unused session still there after, ms", latest_alive, <= limit);
}

/// One look at a session that nobody had used for a time between these two.
struct Probe {
    alive: bool,
    at_least: Duration,
    at_most: Duration,
}

/// A look is a use, so each session is looked at once: one after 100 ms, one after 200 ms, and so on.
async fn unused_end(nodes: &[&str]) -> Vec<Probe> {
    const SESSIONS: usize = 45;
    crowd(SESSIONS, SESSIONS, async |number| {
        let url = nodes[number % nodes.len()];
        let sent = Instant::now();
        let client = begun(url).await;
        let answered = Instant::now();
        let step = Duration::from_millis(100) * u32::try_from(number).unwrap();
        tokio::time::sleep_until(answered + step).await; // the time without use that this one tries
        let at_least = answered.elapsed();
        let answer = client.get(nodes[(number / 2) % nodes.len()], "/get?k=begun").await.unwrap();
        let alive = !value(&answer.expect(200)).is_null();
        Probe { alive, at_least, at_most: sent.elapsed() }
    })
    .await
}

/// A session in use lives on beyond the idle time, on whichever node it is used, until its absolute end.
async fn used_end(nodes: &[&str]) {
    let sent = Instant::now();
    let client: Client = begun(nodes[0]).await;
    let answered = Instant::now();
    let (mut round, mut latest_alive) = (0, Duration::ZERO);
    let interval = Duration::from_millis(100);
    wait::poll("a session in use ends", ABSOLUTE * 2, interval, async || {
        round += 1;
        let asked = answered.elapsed();
        let answer = client.get(nodes[round % nodes.len()], "/get?k=begun").await.unwrap();
        let gone = value(&answer.expect(200)).is_null();
        if !gone {
            latest_alive = asked;
        }
        gone.then_some(())
    })
    .await;
    let ended = sent.elapsed();
    oracle!("session in use gone after, ms", ended.as_millis(), >= ABSOLUTE.as_millis());
    let limit = (ABSOLUTE + SLACK).as_millis();
    oracle!("session in use still there after, ms", latest_alive.as_millis(), <= limit);
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_an_access_that_is_written_down_too_late_is_refused_at_the_start() {
    let spec = NodeSpec::new("wrong")
        .env("UNDERSTUDY_SESSION_IDLE_S", "2")
        .env("UNDERSTUDY_SESSION_TOUCH_S", "3");
    let mut node = spec.start();
    let status = node.wait_exit(Duration::from_secs(30)).await;
    oracle!("exit status", status.code().unwrap(), 78);
    let log = node.log();
    assert!(log.contains("UNDERSTUDY_SESSION_TOUCH_S"), "{log}");
}
