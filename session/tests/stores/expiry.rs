//! Redis only: sessions that ran out of time, with keyspace notifications off; and what is left behind when nobody sweeps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use understudy_runtime::clock::SystemClock;
use understudy_runtime::duty::DutyRun;
use understudy_runtime::ids::{Bucket, NodeId};
use understudy_session::expiry::{Listener, Report, SessionExpired, Sweeper};
use understudy_session::record::{Locator, RecentOps, Record, Seal, SecretHash, Token};
use understudy_session::store::conformance::Fixture as _;
use understudy_session::store::{ClaimReply, CreateReply, End, EndReason, SharedStore};

use crate::fixtures::OnRedis;

const HOUR_MS: u64 = 3_600_000;

async fn session(store: &SharedStore, idle_ms: u64) -> Locator {
    let record = Record {
        owner: Some(Token::new(&NodeId::begin("a".parse().unwrap()))),
        epoch: 1,
        version: 1,
        last_op: None,
        created_ms: 0,
        absolute_ms: 0,
        last_access_ms: 0,
        idle_ms,
        user: Some("zoe".into()),
        secret: SecretHash([7; 32]),
        previous_secret: None,
        attributes: Arc::default(),
        recent: RecentOps::default(),
        unknown: BTreeMap::new(),
        seal: Seal::Open,
    };
    let locator = Locator::random();
    let reply = store.create(locator, &record, HOUR_MS).await.unwrap();
    assert!(matches!(reply, CreateReply::Created { .. }), "{reply:?}");
    locator
}

/// What callbacks were given, in any order.
#[derive(Clone, Default)]
struct Told(Arc<tokio::sync::Mutex<Vec<SessionExpired>>>);

impl Told {
    async fn all(&self) -> Vec<SessionExpired> {
        self.0.lock().await.clone()
    }
}

fn sweeper(store: SharedStore, told: &Told) -> Sweeper {
    let told = told.clone();
    let listener = Listener::new(move |event: SessionExpired| {
        let told = told.clone();
        async move { told.0.lock().await.push(event) }
    });
    Sweeper::new(store, [Bucket(0)], SystemClock::shared(), Some(listener))
}

/// Waits until the grace of the new server is over.
async fn settled(redis: &OnRedis, store: &SharedStore) {
    let token = Token::new(&NodeId::begin("b".parse().unwrap()));
    while let ClaimReply::Grace { remaining_ms } =
        store.claim(Locator::random(), &token, None).await.unwrap()
    {
        redis.pass(Duration::from_millis(remaining_ms + 1)).await;
    }
}

/// Sweeps, as a leader does, until so many were told; for ten seconds at most.
async fn until_told(redis: &OnRedis, sweeper: &Sweeper, told: &Told, count: usize) {
    for _ in 0..100 {
        sweeper.run_once(&DutyRun::default()).await.unwrap();
        if told.all().await.len() >= count {
            return;
        }
        redis.pass(Duration::from_millis(100)).await;
    }
    panic!("{} of {count} told", told.all().await.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s15_a_hundred_sessions_are_told_once_each_by_two_leaders_without_notifications() {
    let redis = OnRedis::start().await;
    let store = redis.store();
    settled(&redis, &store).await;
    let notifications = redis.command(&["CONFIG", "GET", "notify-keyspace-events"]).await;
    assert_eq!(notifications.trim(), "notify-keyspace-events", "nothing is set");
    let mut over = Vec::new();
    for _ in 0..100 {
        over.push(session(&store, 300).await);
    }
    let logged_out = session(&store, 300).await;
    store.revoke(logged_out, End::Asked).await.unwrap();
    let held = redis.command(&["KEYS", "us:*:z:*"]).await;
    assert_eq!(held.lines().count(), 1, "what it held: {held}");
    let told = Told::default();
    let (old, new) = (sweeper(redis.store(), &told), sweeper(redis.store(), &told));
    tokio::join!(until_told(&redis, &old, &told, 100), until_told(&redis, &new, &told, 100));
    let mut ids: Vec<String> = told.all().await.iter().map(|event| event.id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), told.all().await.len()), (100, 100), "each once");
    assert!(told.all().await.iter().all(|event| event.user.as_deref() == Some("zoe")));
    assert_eq!(redis.command(&["EXISTS", &redis.index()]).await.trim(), "0", "nothing is left");
    assert_eq!(redis.command(&["KEYS", "us:*:z:*"]).await.trim(), "", "nor what they held");
}

#[tokio::test]
async fn when_nobody_sweeps_keys_end_by_themselves_and_that_is_told() {
    let redis = OnRedis::start().await;
    let store = redis.store();
    settled(&redis, &store).await;
    let locator = session(&store, 100).await;
    let key = redis.key(locator);
    let left: u64 = redis.command(&["PTTL", &key]).await.trim().parse().unwrap();
    assert!((HOUR_MS..HOUR_MS + 10_000).contains(&left), "an hour more than it lives: {left}");
    let index: u64 = redis.command(&["PTTL", &redis.index()]).await.trim().parse().unwrap();
    assert!(index > left, "and the index longer: {index}");
    redis.command(&["DEL", &key]).await; // as if that hour were over
    let told = Told::default();
    until_told(&redis, &sweeper(redis.store(), &told), &told, 1).await;
    let event = told.all().await.remove(0);
    assert_eq!((event.reason, event.user, event.created_ms), (EndReason::Vanished, None, None));
    assert_eq!(event.session, locator.id_for_logs());
    assert_eq!(redis.command(&["EXISTS", &redis.index()]).await.trim(), "0");
}

#[tokio::test]
async fn what_is_no_session_is_left_alone_and_holds_nobody_up() {
    let redis = OnRedis::start().await;
    let store = redis.store();
    settled(&redis, &store).await;
    let (garbage, newer) = (session(&store, 100).await, session(&store, 100).await);
    let text = session(&store, 100).await;
    redis.command(&["HSET", &redis.key(garbage), "la", "x"]).await;
    redis.command(&["HSET", &redis.key(newer), "sv", "3"]).await;
    redis.command(&["SET", &redis.key(text), "no hash"]).await;
    session(&store, 200).await;
    let told = Told::default();
    let sweeper = sweeper(redis.store(), &told);
    until_told(&redis, &sweeper, &told, 1).await;
    for locator in [garbage, newer, text] {
        assert_eq!(redis.command(&["EXISTS", &redis.key(locator)]).await.trim(), "1");
    }
    assert_eq!(told.all().await.len(), 1);
    assert_eq!(sweeper.run_once(&DutyRun::default()).await.unwrap(), Report::default());
}

#[tokio::test]
async fn a_session_of_an_older_node_is_indexed_when_it_is_claimed() {
    let redis = OnRedis::start().await;
    let store = redis.store();
    settled(&redis, &store).await;
    let locator = session(&store, HOUR_MS).await;
    redis.command(&["DEL", &redis.index()]).await;
    let token = Token::new(&NodeId::begin("b".parse().unwrap()));
    for _ in 0..2 {
        let reply = store.claim(locator, &token, None).await.unwrap();
        assert!(matches!(reply, ClaimReply::Claimed { .. }), "{reply:?}");
        assert_eq!(redis.command(&["ZCARD", &redis.index()]).await.trim(), "1");
    }
    let members = redis.command(&["ZRANGE", &redis.index(), "0", "-1"]).await;
    assert_eq!(members.trim(), locator.to_string());
}

#[tokio::test]
async fn a_full_server_can_be_swept() {
    let redis = OnRedis::start().await;
    let store = redis.store();
    settled(&redis, &store).await;
    session(&store, 100).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let told = Told::default();
    until_told(&redis, &sweeper(redis.store(), &told), &told, 1).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(redis.command(&["EXISTS", &redis.index()]).await.trim(), "0");
}

/// In the step of the sweep itself: whoever sweeps may die right after it.
#[tokio::test]
async fn what_was_swept_stands_in_no_list_any_more() {
    let redis = OnRedis::start().await;
    let store = redis.store();
    settled(&redis, &store).await;
    let (told, child, vanished) =
        (session(&store, 100).await, session(&store, 100).await, session(&store, 100).await);
    redis.command(&["HSET", &redis.key(child), "pa", "a parent"]).await;
    redis.command(&["DEL", &redis.key(vanished)]).await;
    let lists = ["i", "n", "g"].map(|list| redis.index().replace(":x", &format!(":{list}")));
    for locator in [told, child, vanished] {
        redis.command(&["ZADD", &lists[2], "1", &locator.to_string()]).await;
    }
    for list in &lists {
        assert_eq!(redis.command(&["ZCARD", list]).await.trim(), "3", "{list}");
    }
    // Somebody noted a use of it after its end.
    let ended = session(&store, 300).await;
    store.revoke(ended, End::Asked).await.unwrap();
    redis.command(&["ZADD", &lists[2], "1", &ended.to_string()]).await;
    redis.pass(Duration::from_millis(150)).await;
    let listener = Told::default();
    until_told(&redis, &sweeper(redis.store(), &listener), &listener, 2).await;
    assert_eq!(redis.command(&["EXISTS", &redis.index()]).await.trim(), "0");
    for list in &lists {
        assert_eq!(redis.command(&["ZRANGE", list, "0", "-1"]).await.trim(), "", "{list}");
    }
}
