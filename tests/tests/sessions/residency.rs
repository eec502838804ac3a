//! What is kept in memory, and what is asked of the store.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use understudy_tests::{Client, Cluster, Program, crowd, oracle, rounds, wait};

use super::visitor::{all, begun, counter};

const SESSIONS: usize = 200;
const LIMIT: Duration = Duration::from_secs(20);
/// The configuration that keeps a session at one node.
const AFFINITY: &str = include_str!("../../../deploy/nginx-affinity.conf");

#[tokio::test(flavor = "multi_thread")]
async fn s10_sessions_leave_memory_and_come_back() {
    let builder = Cluster::builder().nodes(1);
    let cluster = builder.env("UNDERSTUDY_SESSION_PASSIVATE_AFTER_MS", "3000").start().await;
    let (node, url) = (&cluster.nodes[0], cluster.url(0));
    let http = Client::new();
    let clients = crowd(32, SESSIONS, async |_| {
        let client = http.stranger();
        client.post(url, "/incr").await.unwrap().expect(200);
        client
    })
    .await;
    let resident = async || node.metric("sessions_resident").await;
    wait::until("all are resident", LIMIT, async || resident().await >= 200.0).await;
    let before = node.metric("session_actor_loads_total").await;
    read_all(&clients, url).await;
    let loads = node.metric("session_actor_loads_total").await - before;
    oracle!("sessions loaded to read 200 resident ones", loads, 0.0);
    let took = wait::until("none is resident", LIMIT, async || resident().await < 1.0).await;
    oracle!("sessions left memory after, ms", took.as_millis(), within 10_000);
    read_all(&clients, url).await;
    let loads = node.metric("session_actor_loads_total").await - before;
    oracle!("sessions loaded to read 200 that had left", loads, 200.0);
}

async fn read_all(clients: &[Client], url: &str) {
    let counters = crowd(32, clients.len(), async |number| counter(&clients[number], url).await);
    let right = counters.await.iter().filter(|value| **value == Some(1)).count();
    oracle!("counters of 200 that are right", right, SESSIONS);
}

#[tokio::test(flavor = "multi_thread")]
async fn s10_memory_falls_when_sessions_leave_it() {
    const LARGE: usize = 300;
    const BYTES: usize = 60_000;
    let cluster = Cluster::builder()
        .nodes(1)
        .program(Program::Understudy)
        // Longer than it takes to fill the memory.
        .env("UNDERSTUDY_SESSION_PASSIVATE_AFTER_MS", "8000")
        // glibc keeps what is freed, or not, as it sees fit; blocks from this size on it gives back at once.
        .env("MALLOC_MMAP_THRESHOLD_", "32768")
        .start()
        .await;
    let (node, http) = (&cluster.nodes[0], Client::new());
    let value = "x".repeat(BYTES);
    let fill = async |sessions: usize| {
        crowd(8, sessions, async |_| {
            let client = http.stranger();
            let path = "/api/session/values/large";
            client.put_json(node.public_url(), path, &value).await.unwrap().expect(204);
        })
        .await;
    };
    let resident = async || node.metric("sessions_resident").await;
    let memory = || usize::try_from(node.usage().resident_bytes).unwrap();
    // What the first requests need, in code and buffers, is needed once.
    fill(20).await;
    let before = memory();
    fill(LARGE).await;
    wait::until("all are resident", LIMIT, async || resident().await >= 320.0).await;
    let full = memory();
    oracle!("bytes that 300 sessions of 60 KB take", full.saturating_sub(before), >= LARGE * BYTES);
    wait::until("none is resident", LIMIT, async || resident().await < 1.0).await;
    // Half of what they hold at least; the rest is room for what stays in pieces.
    let low = full - LARGE * BYTES / 2;
    wait::until("the memory is given back", LIMIT, async || memory() <= low).await;
    oracle!("bytes given back when they left", full.saturating_sub(memory()), >= LARGE * BYTES / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn s11_only_changes_are_written() {
    let cluster = Cluster::builder().nodes(2).start().await;
    let client = begun(cluster.url(0)).await;
    let before = all(&client, cluster.url(0)).await.info.unwrap().version;
    for round in 0..10 {
        let url = cluster.url(round % 2);
        for path in ["/read", "/whoami", "/all", "/get?k=begun", "/get?k=absent"] {
            client.get(url, path).await.unwrap().expect(200);
        }
        client.post(url, "/remove?k=absent").await.unwrap().expect(200);
        client.post(url, "/set?k=begun&v=yes").await.unwrap().expect(204);
    }
    let after = all(&client, cluster.url(1)).await.info.unwrap().version;
    oracle!("writes caused by 70 requests that change nothing", after - before, 0);
}

/// Calls from nodes: a script counts once, whatever it does inside; a HGETALL outside of scripts counts too.
fn round_trips(stats: &BTreeMap<String, u64>) -> u64 {
    let calls = |name: &str| stats.get(name).copied().unwrap_or(0);
    let scripts = calls("evalsha") + calls("eval");
    scripts + calls("publish") + calls("spublish") + calls("hgetall").saturating_sub(scripts)
}

/// Round trips while `requests` run one after the other; and how many of them the node makes anyway.
async fn measured(cluster: &Cluster, requests: impl AsyncFn()) -> (u64, u64) {
    cluster.redis.reset_commandstats();
    let start = Instant::now();
    requests().await;
    let seconds = start.elapsed().as_secs() + 2;
    // One renewal and one heartbeat per second; and fewer for the lease of the leader and the sweep.
    (round_trips(&cluster.redis.commandstats()), 3 * seconds * cluster.nodes.len() as u64)
}

/// Waits until the session is where the balancer sends its requests.
async fn settled(cluster: &Cluster, client: &Client, url: &str) {
    let elsewhere = async || cluster.metric("session_reads_total{where=\"elsewhere\"}").await;
    wait::until("the session is where its requests come", LIMIT, async || {
        client.get(url, "/incr").await.unwrap().expect(200);
        let before = elsewhere().await;
        for _ in 0..20 {
            client.get(url, "/get?k=begun").await.unwrap().expect(200);
        }
        elsewhere().await <= before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_reads_at_the_owner_cost_no_round_trip_and_writes_one() {
    // A development build is slow; a release build reads 10,000 times, and so does a soak run. The balancer is sticky, which
    // matters where a soak run has three nodes.
    let requests = if cfg!(debug_assertions) { rounds(2_000, 10_000) } else { 10_000 };
    let builder = Cluster::builder().nodes(rounds(1, 3)).nginx_with(AFFINITY);
    let cluster = builder.start().await;
    let url = cluster.balancer();
    let client = begun(&url).await;
    settled(&cluster, &client, &url).await;
    let repeated = async |client: &Client, path: &str| {
        for _ in 0..requests {
            client.get(&url, path).await.unwrap().expect(200);
        }
    };
    let each = |round_trips: u64| round_trips as f64 / requests as f64;
    let (reads, beats) = measured(&cluster, async || repeated(&client, "/get?k=begun").await).await;
    // What the node does anyway is left out: on a machine that runs other tests the reads take long.
    oracle!("round trips per read at the owner", each(reads.saturating_sub(beats)), <= 0.02);
    let (writes, beats) = measured(&cluster, async || repeated(&client, "/incr").await).await;
    oracle!("round trips per write at the owner", each(writes), >= 1.0);
    oracle!("round trips per write at the owner", each(writes.saturating_sub(beats)), <= 1.05);
    let (idle, beats) = measured(&cluster, async || repeated(&client, "/nothing").await).await;
    oracle!("round trips of a route that ignores the session", idle.saturating_sub(beats), 0);
    let stranger = client.stranger();
    let (idle, beats) = measured(&cluster, async || repeated(&stranger, "/read").await).await;
    oracle!("round trips of reads without a cookie", idle.saturating_sub(beats), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn d14_a_session_in_use_is_written_down_once_per_interval() {
    const SECONDS: u64 = 4;
    let builder = Cluster::builder().nodes(1).env("UNDERSTUDY_SESSION_TOUCH_S", "1");
    let cluster = builder.start().await;
    let (client, url) = (begun(cluster.url(0)).await, cluster.url(0));
    let reads = std::cell::Cell::new(0_u32);
    let (all, beats) = measured(&cluster, async || {
        let end = Instant::now() + Duration::from_secs(SECONDS);
        while Instant::now() < end {
            client.get(url, "/get?k=begun").await.unwrap().expect(200);
            reads.set(reads.get() + 1);
        }
    })
    .await;
    oracle!("reads in 4 seconds", reads.get(), >= 100);
    // The access, and the list of who is online.
    let most = 2 * (SECONDS + 1);
    oracle!("round trips of these, with a touch interval of 1 s", all.saturating_sub(beats), <= most);
}
