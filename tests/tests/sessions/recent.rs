//! Showing again who one is, sessions that live longer, and routes that only look.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use understudy_tests::{Answer, Client, Cluster, oracle, wait};

use super::visitor::{cookie, counter, logged_in, whoami, with_cookie};

const LIMIT: Duration = Duration::from_secs(20);
const IDLE: Duration = Duration::from_secs(2);
const TOUCH: Duration = Duration::from_secs(1);
/// What a busy machine may add to an answer.
const SLACK: Duration = Duration::from_millis(700);

#[derive(Debug, Deserialize)]
struct Refused {
    code: String,
    max_age_s: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Looked {
    info: Option<Info>,
}

#[derive(Debug, Deserialize)]
struct Info {
    idle_ms: u64,
    created_ms: u64,
    absolute_ms: u64,
    expires_ms: u64,
}

async fn looked(client: &Client, base: &str) -> Option<Info> {
    client.get(base, "/poll").await.unwrap().expect(200).json::<Looked>().info
}

async fn recent(client: &Client, base: &str, ms: u64) -> Answer {
    client.get(base, &format!("/recent?ms={ms}")).await.unwrap()
}

fn lasts(answer: &Answer) -> Option<u64> {
    let set = answer.header("set-cookie")?;
    let age = set.split("; ").find_map(|part| part.strip_prefix("Max-Age="))?;
    age.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn s5_what_asks_for_a_recent_login_is_refused_until_the_user_shows_again_who_they_are() {
    for store in ["redis", "database"] {
        let cluster = Cluster::builder().env("UNDERSTUDY_SESSION_STORE", store).start().await;
        recent_logins(cluster).await;
    }
}

async fn recent_logins(mut cluster: Cluster) {
    let client = logged_in(cluster.url(0), "ann").await;
    client.post(cluster.url(0), "/incr").await.unwrap().expect(200);
    for node in &cluster.nodes {
        recent(&client, node.public_url(), 60_000).await.expect(204);
    }
    wait::until("the login is longer ago", LIMIT, async || {
        recent(&client, cluster.url(1), 500).await.status == 401
    })
    .await;
    for node in &cluster.nodes {
        let refused = recent(&client, node.public_url(), 500).await.expect(401);
        let refused: Refused = refused.json();
        assert_eq!(refused.code, "reauthentication_required");
        assert_eq!(refused.max_age_s, Some(0));
    }
    let other = client.post(cluster.url(1), "/reauthenticate?user=bob").await.unwrap();
    assert_eq!(other.expect(409).json::<Refused>().code, "session_other_user");
    let (name, before) = cookie(&client);
    client.post(cluster.url(1), "/reauthenticate?user=ann").await.unwrap().expect(204);
    let (_, after) = cookie(&client);
    assert_ne!(before, after, "it has a new cookie");
    let old = with_cookie(&client, &name, &before);
    let mut accepted = 0;
    for node in &cluster.nodes {
        accepted += usize::from(whoami(&old, node.public_url()).await.is_some());
        recent(&client, node.public_url(), 10_000).await.expect(204);
    }
    oracle!("nodes that accept the cookie from before", accepted, 0);
    oracle!("what the session had before", counter(&client, cluster.url(2)).await.unwrap_or(0), 1);
    // Its owner dies, and with it what only it knew.
    cluster.kill9(0);
    let answer = recent(&client, cluster.url(1), 60_000).await;
    oracle!("known after the owner died", answer.status, 204);
    let nobody = recent(&Client::new(), cluster.url(1), 60_000).await.expect(401);
    assert_eq!(nobody.json::<Refused>().code, "reauthentication_required");
}

fn options(store: &str) -> understudy_tests::ClusterBuilder {
    Cluster::builder()
        .env("UNDERSTUDY_SESSION_STORE", store)
        .env("UNDERSTUDY_SESSION_IDLE_S", "2")
        .env("UNDERSTUDY_SESSION_TOUCH_S", "1")
        .env("UNDERSTUDY_SESSION_ABSOLUTE_S", "60")
        .env("UNDERSTUDY_SESSION_LONG_IDLE_S", "30")
        .env("UNDERSTUDY_SESSION_LONG_ABSOLUTE_S", "600")
}

/// On a new Redis nobody can claim for the first seconds (the grace), longer than these sessions live unused.
async fn settled(cluster: &Cluster) {
    wait::until("the other node answers at once", LIMIT, async || {
        let client = logged_in(cluster.url(0), "first").await;
        let sent = Instant::now();
        let there = whoami(&client, cluster.url(1)).await.is_some();
        there && sent.elapsed() < Duration::from_millis(500)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_polling_keeps_no_session_alive() {
    for store in ["redis", "database"] {
        let cluster = options(store).start().await;
        settled(&cluster).await;
        let client = logged_in(cluster.url(0), "ann").await;
        let used = Instant::now();
        let (mut round, mut expires, mut latest) = (0, Vec::new(), Duration::ZERO);
        let interval = Duration::from_millis(100);
        wait::poll("a session that is only looked at ends", LIMIT, interval, async || {
            round += 1;
            let asked = used.elapsed();
            let info = looked(&client, cluster.url(round % 3)).await;
            expires.extend(info.as_ref().map(|info| info.expires_ms));
            if info.is_some() {
                latest = asked;
            }
            info.is_none().then_some(())
        })
        .await;
        let ended = used.elapsed();
        let limit = (IDLE + TOUCH + SLACK).as_millis();
        oracle!("only looked at, gone after, ms", ended.as_millis(), >= (IDLE - SLACK).as_millis());
        oracle!("only looked at, still there after, ms", latest.as_millis(), <= limit);
        let (least, most) = (expires.iter().min().copied(), expires.iter().max().copied());
        let moved = most.zip(least).map_or(0, |(most, least)| most - least);
        oracle!("its end moved by, ms", u128::from(moved), <= TOUCH.as_millis());
        // What uses it keeps it alive, whoever looks besides.
        let client = logged_in(cluster.url(0), "bob").await;
        let used = Instant::now();
        while used.elapsed() < IDLE * 2 {
            assert!(whoami(&client, cluster.url(0)).await.is_some(), "it is in use");
            assert!(looked(&client, cluster.url(1)).await.is_some());
            tokio::time::sleep(interval).await; // how often it is used is what this is about
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_a_login_that_is_remembered_lives_longer_and_survives_its_node() {
    for store in ["redis", "database"] {
        let mut cluster = options(store).start().await;
        settled(&cluster).await;
        let short = logged_in(cluster.url(0), "ann").await;
        let long = Client::new();
        let answer = long.post(cluster.url(0), "/login-long?user=ann").await.unwrap().expect(204);
        assert_eq!(lasts(&answer), Some(600), "{:?}", answer.header("set-cookie"));
        let asked = Client::new();
        asked.post(cluster.url(1), "/login-long?user=ann&idle_s=9").await.unwrap().expect(204);
        for (client, idle_ms) in [(&long, 30_000), (&asked, 9_000)] {
            for node in &cluster.nodes {
                let info = looked(client, node.public_url()).await.expect("it lives");
                assert_eq!(info.idle_ms, idle_ms);
                assert!(info.absolute_ms - info.created_ms >= 600_000);
            }
        }
        let rotated = long.post(cluster.url(2), "/rotate").await.unwrap().expect(204);
        let left = lasts(&rotated).expect("it lasts with its new secret too");
        assert!((500..=600).contains(&left), "{left}");
        cluster.kill9(0);
        wait::until("the usual session has ended", LIMIT, async || {
            looked(&short, cluster.url(1)).await.is_none()
        })
        .await;
        for client in [&long, &asked] {
            assert!(whoami(client, cluster.url(1)).await.is_some(), "it outlives its node");
        }
        // A plain login takes it back.
        let answer = long.post(cluster.url(2), "/login?user=ann").await.unwrap().expect(204);
        assert!(lasts(&answer).is_none());
        let info = looked(&long, cluster.url(1)).await.expect("it lives");
        oracle!("idle time after a plain login, ms", info.idle_ms, 2_000);
    }
}
