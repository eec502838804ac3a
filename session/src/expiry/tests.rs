use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use understudy_runtime::clock::{Clock as _, ManualClock};
use understudy_runtime::ids::NodeId;

use super::*;
use crate::record::{Locator, RecentOps, Record, Seal, SecretHash, Token};
use crate::store::memory::MemoryStore;
use crate::store::{CreateReply, End, SessionStore as _};

const IDLE: Duration = Duration::from_secs(60);

struct Bench {
    store: MemoryStore,
    clock: Arc<ManualClock>,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = MemoryStore::new(clock.clone(), Duration::from_secs(1), Duration::ZERO);
        Self { store, clock }
    }

    fn sweeper(&self, listener: Option<Listener<SessionExpired>>) -> Sweeper {
        Sweeper::new(Arc::new(self.store.clone()), [Bucket(0)], self.clock.clone(), listener)
    }

    async fn sessions(&self, count: u64, user: Option<&str>) -> Vec<Locator> {
        let mut locators = Vec::new();
        for _ in 0..count {
            let locator = Locator::random();
            let reply = self.store.create(locator, &record(user), 3_600_000).await.unwrap();
            assert!(matches!(reply, CreateReply::Created { .. }));
            locators.push(locator);
        }
        locators
    }
}

fn record(user: Option<&str>) -> Record {
    Record {
        owner: Some(Token::new(&NodeId::begin("a".parse().unwrap()))),
        epoch: 1,
        version: 1,
        last_op: None,
        created_ms: 0,
        absolute_ms: 0,
        last_access_ms: 0,
        idle_ms: 60_000,
        user: user.map(Into::into),
        secret: SecretHash([7; 32]),
        previous_secret: None,
        attributes: Arc::default(),
        recent: RecentOps::default(),
        unknown: std::collections::BTreeMap::new(),
        seal: Seal::Open,
    }
}

fn report(expired: u64, told: u64, failed: u64) -> Report {
    Report { expired, told, failed }
}

/// Fails for as many calls, and tells of each.
fn failing(times: u64) -> (Listener<SessionExpired>, mpsc::UnboundedReceiver<SessionExpired>) {
    let (heard, hears) = mpsc::unbounded_channel();
    let left = Arc::new(AtomicU64::new(times));
    let listener = Listener::new(move |event: SessionExpired| {
        let fails =
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        heard.send(event).unwrap();
        async move { if fails.is_ok() { Err("not now") } else { Ok(()) } }
    });
    (listener, hears)
}

#[tokio::test]
async fn s15_a_hundred_sessions_are_told_once_each() {
    let bench = Bench::new();
    let start_ms = bench.clock.wall_ms();
    let locators = bench.sessions(100, Some("zoe")).await;
    let living = bench.sessions(1, None).await;
    bench.clock.advance(IDLE / 2);
    bench.store.touch(living[0]).await.unwrap();
    bench.clock.advance(IDLE / 2);
    let (listener, mut hears) = failing(0);
    let sweeper = bench.sweeper(Some(listener));
    assert_eq!(sweeper.run_once(&DutyRun::default()).await.unwrap(), report(100, 100, 0));
    assert_eq!(sweeper.run_once(&DutyRun::default()).await.unwrap(), Report::default());
    drop(sweeper);
    let mut told = std::collections::BTreeSet::new();
    while let Some(event) = hears.recv().await {
        assert_eq!(event.user.as_deref(), Some("zoe"));
        assert_eq!(event.reason, EndReason::Idle);
        assert_eq!((event.created_ms, event.ended_ms), (Some(start_ms), start_ms + 60_000));
        assert!(event.id.starts_with(&event.session), "logs can be searched for it");
        assert!(told.insert(event.session), "told twice");
    }
    assert_eq!(told, locators.iter().map(Locator::id_for_logs).collect());
    assert!(bench.store.snapshot().await.untold.is_empty());
}

#[tokio::test]
async fn a_callback_that_fails_is_called_again_with_the_same_id() {
    let bench = Bench::new();
    bench.sessions(1, None).await;
    bench.clock.advance(IDLE);
    let (listener, mut hears) = failing(1);
    let sweeper = bench.sweeper(Some(listener));
    assert_eq!(sweeper.run_once(&DutyRun::default()).await.unwrap(), report(1, 0, 1));
    assert_eq!(sweeper.run_once(&DutyRun::default()).await.unwrap(), Report::default(), "held");
    bench.clock.advance(HOLD);
    assert_eq!(sweeper.run_once(&DutyRun::default()).await.unwrap(), report(0, 1, 0));
    let (first, second) = (hears.recv().await.unwrap(), hears.recv().await.unwrap());
    assert_eq!(first, second);
    bench.clock.advance(HOLD);
    assert_eq!(sweeper.run_once(&DutyRun::default()).await.unwrap(), Report::default());
}

#[tokio::test]
async fn a_callback_that_panics_harms_nobody_else() {
    let bench = Bench::new();
    bench.sessions(2, None).await;
    bench.clock.advance(IDLE);
    let calls = Arc::new(AtomicU64::new(0));
    let listener = Listener::new(move |_event: SessionExpired| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        assert!(call > 0, "the first call fails at once");
        async move {}
    });
    let sweeper = bench.sweeper(Some(listener));
    assert_eq!(sweeper.run_once(&DutyRun::default()).await.unwrap(), report(2, 1, 1));
}

#[tokio::test]
async fn what_is_handed_out_too_late_is_left_to_the_next() {
    let bench = Bench::new();
    bench.sessions(AT_ONCE as u64 + 1, None).await;
    bench.clock.advance(IDLE);
    let clock = bench.clock.clone();
    // As if the process had stood still in the middle of the first calls.
    let listener = Listener::new(move |_event: SessionExpired| {
        clock.advance(HOLD);
        async {}
    });
    let told = bench.sweeper(Some(listener)).run_once(&DutyRun::default()).await.unwrap().told;
    assert!((1..=AT_ONCE as u64).contains(&told), "{told} told");
}

#[tokio::test]
async fn a_cancelled_run_begins_nothing() {
    let bench = Bench::new();
    bench.sessions(1, None).await;
    bench.clock.advance(IDLE);
    let token = tokio_util::sync::CancellationToken::new();
    token.cancel();
    let (listener, _hears) = failing(0);
    let sweeper = bench.sweeper(Some(listener));
    let swept = sweeper.run_once(&DutyRun::new(token)).await.unwrap();
    assert_eq!(swept, Report::default());
    assert_eq!(sweeper.run_once(&DutyRun::default()).await.unwrap(), report(1, 1, 0));
}

#[tokio::test]
async fn s15_every_end_is_told_once_with_its_reason_and_its_last_state() {
    let bench = Bench::new();
    let attributes = Arc::new(Attributes::from([("cart".into(), "[1,2]".into())]));
    let ends = [
        (Some(End::Asked), EndReason::Logout),
        (Some(End::Others), EndReason::Others),
        (Some(End::Replaced), EndReason::Replaced),
        (Some(End::Ordered), EndReason::Ended),
        (None, EndReason::Idle),
    ];
    let mut wanted = std::collections::BTreeMap::new();
    for (end, reason) in ends {
        let record = Record { attributes: Arc::clone(&attributes), ..record(Some("zoe")) };
        let locator = Locator::random();
        bench.store.create(locator, &record, 3_600_000).await.unwrap();
        wanted.insert(locator.public_id(), reason);
        let Some(end) = end else { continue };
        for _ in 0..2 {
            bench.store.revoke(locator, end).await.unwrap();
        }
    }
    bench.clock.advance(IDLE);
    let (heard, mut hears) = mpsc::unbounded_channel();
    let all = Listener::new(move |event: SessionEnded| {
        heard.send(event).unwrap();
        async {}
    });
    let (expired, mut expiries) = failing(1);
    let sweeper = bench.sweeper(Some(expired)).telling_all(Some(all));
    assert_eq!(sweeper.run_once(&DutyRun::default()).await.unwrap(), report(1, 4, 1));
    bench.clock.advance(HOLD);
    assert_eq!(sweeper.run_once(&DutyRun::default()).await.unwrap(), report(0, 1, 0));
    drop(sweeper);
    let mut told = Vec::new();
    while let Some(event) = hears.recv().await {
        assert_eq!(event.user.as_deref(), Some("zoe"));
        assert_eq!(event.get::<Vec<u8>>("cart").unwrap(), Some(vec![1, 2]));
        assert!(event.get::<bool>("cart").is_err() && event.names().eq(["cart"]));
        assert!(!format!("{event:?}").contains("cart"), "what it held is not shown");
        told.push((event.id, event.reason));
    }
    let again = told.iter().filter(|(_, reason)| *reason == EndReason::Idle).count();
    assert_eq!((told.len(), again), (6, 2), "the one that the other callback did not take");
    assert_eq!(told.into_iter().collect::<std::collections::BTreeMap<_, _>>(), wanted);
    let mut reasons = Vec::new();
    while let Some(event) = expiries.recv().await {
        reasons.push(event.reason);
    }
    assert_eq!(reasons, [EndReason::Idle, EndReason::Idle], "no end but this one was an expiry");
    assert!(bench.store.snapshot().await.untold.is_empty());
}

#[test]
fn what_a_session_held_is_read_by_its_schema() {
    let schema = Schema::new("cart", 2)
        .upgrade(1, |articles: serde_json::Value| Ok(serde_json::json!({ "articles": articles })));
    let schemas = Schemas::new(&[schema]).unwrap();
    let texts = [("cart".into(), "[1,2]".into()), ("n".into(), "\"us:schema/2 true\"".into())];
    let attributes = Some(Arc::new(Attributes::from(texts)));
    let expired = Expired::ended(Locator::random(), &record(None), EndReason::Logout, 1);
    let event = SessionEnded::new(&expired, attributes, schemas);
    let cart: Option<serde_json::Value> = event.get("cart").unwrap();
    assert_eq!(cart, Some(serde_json::json!({ "articles": [1, 2] })));
    let newer = event.get::<bool>("n");
    let is_newer = matches!(newer, Err(SessionError::NewerSchema { stored: 2, known: 1, .. }));
    assert!(is_newer, "{newer:?}");
    assert_eq!(event.get::<bool>("other").unwrap(), None);
}

#[tokio::test]
async fn what_nobody_takes_for_a_week_is_given_up() {
    let bench = Bench::new();
    bench.sessions(1, None).await;
    bench.clock.advance(IDLE);
    let (listener, mut hears) = failing(u64::MAX);
    let sweeper = bench.sweeper(Some(listener));
    assert_eq!(sweeper.run_once(&DutyRun::default()).await.unwrap(), report(1, 0, 1));
    bench.clock.advance(GIVE_UP);
    assert_eq!(sweeper.run_once(&DutyRun::default()).await.unwrap(), report(0, 0, 1), "in time");
    bench.clock.advance(HOLD);
    assert_eq!(sweeper.run_once(&DutyRun::default()).await.unwrap(), report(0, 0, 1));
    bench.clock.advance(HOLD);
    assert_eq!(sweeper.run_once(&DutyRun::default()).await.unwrap(), Report::default());
    drop(sweeper);
    let mut calls = 0;
    while hears.recv().await.is_some() {
        calls += 1;
    }
    assert_eq!(calls, 3);
    assert!(bench.store.snapshot().await.untold.is_empty());
}

#[tokio::test]
async fn without_a_callback_sessions_end_all_the_same() {
    let bench = Bench::new();
    let locators = bench.sessions(150, None).await;
    bench.store.revoke(locators[0], End::Asked).await.unwrap();
    bench.clock.advance(IDLE);
    let duty = bench.sweeper(None).duty();
    let value = (duty.run)(DutyRun::default()).await.unwrap();
    assert_eq!(value, serde_json::json!({ "expired": 149, "told": 0, "failed": 0 }));
    let left = bench.store.snapshot().await;
    assert!(left.sessions.is_empty() && left.untold.is_empty(), "the tombstone's time is over too");
}
