//! Where a session is: with the node that its requests come to, and never to and fro.

use std::time::Duration;

use tokio::time::Instant;
use understudy_tests::{Answer, Client, Cluster, oracle, wait};

use super::visitor::counter;

const LIMIT: Duration = Duration::from_secs(30);
/// What `UNDERSTUDY_SESSION_MOVES_PER_MINUTE` is in the test of the bound.
const PER_MINUTE: u32 = 6;
const MOVES: &str = "session_moves_total";
/// Times that a node's lease was interrupted.
const GAPS: &str = "understudy_lease_gaps_total";
const ELSEWHERE: &str = "session_reads_total{where=\"elsewhere\"}";

async fn add(client: &Client, url: &str) -> Answer {
    client.post(url, "/incr").await.unwrap().expect(200)
}

/// How often one session may have moved since.
fn allowed(since: Instant) -> f64 {
    f64::from(PER_MINUTE) * (since.elapsed().as_secs_f64() / 60.0) + 1.0
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_under_round_robin_a_session_stays_and_in_bursts_it_moves_seldom() {
    const ROUNDS: usize = 90;
    let builder =
        Cluster::builder().env("UNDERSTUDY_SESSION_MOVES_PER_MINUTE", &PER_MINUTE.to_string());
    let cluster = builder.start().await;
    let (steady, mut added) = (Client::new(), 0);
    for number in 0..ROUNDS {
        added = used_at(&steady, cluster.url(number % 3), added).await;
    }
    oracle!("moves of a session under round robin", cluster.metric(MOVES).await, 0.0);
    let found = counter(&steady, cluster.url(2)).await.unwrap();
    oracle!("increments lost under round robin", added - found, 0);
    // A balancer that sends twenty requests to each node in turn would have it move each time, but for the bound.
    let (erratic, since, mut added) = (Client::new(), Instant::now(), 0);
    for number in 0..ROUNDS * 5 {
        added = used_at(&erratic, cluster.url(number / 10 % 3), added).await;
    }
    let moves = cluster.metric(MOVES).await;
    oracle!("moves of a session in bursts", moves, >= 1.0);
    oracle!("moves of a session in bursts", moves, <= allowed(since));
    let found = counter(&erratic, cluster.url(2)).await.unwrap();
    oracle!("increments lost by moves", added - found, 0);
}

/// Adds one and looks: two requests. The node that has just added must not show less.
async fn used_at(client: &Client, url: &str, added: i64) -> i64 {
    add(client, url).await;
    assert_eq!(counter(client, url).await, Some(added + 1));
    added + 1
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_a_session_follows_a_sticky_balancer_once_also_when_its_node_comes_back() {
    let builder = Cluster::builder().env("UNDERSTUDY_SESSION_AFFINITY_COOKIE", "usnode");
    let mut cluster = builder.start().await;
    let client = Client::new();
    let mut added = 0;
    // The login went somewhere; from then on the balancer knows the session.
    let first = add(&client, cluster.url(0)).await;
    added += 1;
    let told = |answer: &Answer| {
        let mut cookies = answer.set_cookies().into_iter();
        cookies.find(|line| line.starts_with("usnode="))
    };
    let line = told(&first).expect("the owner is named");
    assert!(line.starts_with("usnode=node-a; Path=/; HttpOnly"), "{line}");
    sticks_to(&cluster, 1, &client, &mut added).await;
    assert_eq!(client.cookies().get("usnode").map(String::as_str), Some("node-b"));
    let again = client.get(cluster.url(1), "/read").await.unwrap().expect(200);
    assert_eq!(told(&again), None, "it is said when it changes");
    // Its node dies: the balancer sends it to another one, which takes it over.
    cluster.kill9(1);
    add(&client, cluster.url(2)).await;
    added += 1;
    assert_eq!(client.cookies().get("usnode").map(String::as_str), Some("node-c"));
    // The node comes back, and with it the requests.
    cluster.restart(1).await;
    sticks_to(&cluster, 1, &client, &mut added).await;
    let found = counter(&client, cluster.url(0)).await.unwrap();
    oracle!("increments lost by moves and a crash", added - found, 0);
    client.post(cluster.url(1), "/logout").await.unwrap().expect(204);
    assert!(client.cookies().is_empty(), "a logout takes both cookies back");
}

/// Sends all requests to one node: the session moves there once, and from then on nobody else is asked.
async fn sticks_to(cluster: &Cluster, number: usize, client: &Client, added: &mut i64) {
    let (node, url) = (&cluster.nodes[number], cluster.url(number));
    let before = node.metric(MOVES).await;
    wait::until("the session has followed", LIMIT, async || {
        add(client, url).await;
        *added += 1;
        node.metric(MOVES).await > before
    })
    .await;
    // A lease that lapses on a busy machine has the store asked once more: of such fifty nothing can be said.
    let elsewhere = loop {
        let (before, gaps) = (node.metric(ELSEWHERE).await, node.metric(GAPS).await);
        for _ in 0..50 {
            add(client, url).await;
            *added += 1;
            assert_eq!(counter(client, url).await, Some(*added));
        }
        let elsewhere = node.metric(ELSEWHERE).await - before;
        if elsewhere <= 0.0 || node.metric(GAPS).await <= gaps {
            break elsewhere;
        }
    };
    oracle!("reads of 50 that had to ask the store", elsewhere, 0.0);
    oracle!(
        "moves to the node that the balancer sticks to",
        node.metric(MOVES).await - before,
        1.0
    );
}
