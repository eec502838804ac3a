use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use actix::Arbiter;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use dashmap::DashMap;
use understudy_runtime::actors::Probe;
use understudy_runtime::bus::{Bus, LocalHub};
use understudy_runtime::clock::SystemClock;
use understudy_runtime::config::Config;
use understudy_runtime::ids::{Bucket, NodeId};
use understudy_runtime::keys::KeySpace;
use understudy_runtime::lease::LeaseBoard;

use super::*;
use crate::actor::SESSION;
use crate::handle::{Inner, Shard};
use crate::keyring::KeyRing;
use crate::kin::Endings;
use crate::metrics::Counters;
use crate::options::SessionOptions;
use crate::realtime::Realtime;
use crate::record::{Fence, RecentOps, Record, Seal, SecretHash, Token};
use crate::store::memory::MemoryStore;
use crate::store::online::{OnlineCount, OnlineCursor, OnlinePage};
use crate::store::register::{Count, Cursor, Page, SessionRegister, StillHeld};
use crate::store::{
    ClaimReply, CreateReply, End, Expired, ReadReply, RestoreReply, RevokeReply, SessionStore,
    Swept, ValidateReply, Write, WriteReply,
};

const HOUR_MS: u64 = 3_600_000;

#[test]
fn a_name_has_up_to_256_bytes_and_nothing_invisible() {
    for good in ["a", "Zoë Müller", "ann@example.org", &"é".repeat(128), "{x}|=:", " "] {
        assert!(is_name(good), "{good}");
    }
    for wrong in ["", "a\nb", "a\u{0}", "\u{7f}", "\u{85}", &"é".repeat(129)] {
        assert!(!is_name(wrong), "{wrong:?}");
    }
}

pub(crate) fn memory() -> MemoryStore {
    MemoryStore::new(SystemClock::shared(), Duration::from_secs(1), Duration::ZERO)
}

/// A node on its own, over a store that others reach too.
pub(crate) fn node_over(store: SharedStore) -> SessionHandle {
    let config = Config::for_test();
    let node_id = NodeId::begin("a".parse().unwrap());
    let clock = SystemClock::shared();
    let bus = Bus::local(&LocalHub::new(), node_id.clone());
    let board = LeaseBoard::always();
    let options = Arc::new(SessionOptions::from(&config.session));
    let counters = Arc::new(Counters::new());
    let residents = Arc::new(DashMap::new());
    let closed = Arc::new(AtomicBool::new(false));
    let shard = Shard {
        arbiter: Arbiter::current(),
        store,
        clock: Arc::clone(&clock),
        board: board.clone(),
        bus: bus.clone(),
        options: Arc::clone(&options),
        counters: Arc::clone(&counters),
        residents: Arc::clone(&residents),
        closed: Arc::clone(&closed),
        probe: Probe::unlisted(&SESSION),
        endings: Endings::default(),
    };
    let inner = Inner {
        node_id,
        clock,
        board,
        keys: Arc::new(KeySpace::new(&config.cluster.name, 1)),
        options,
        keyring: KeyRing::new(&[]),
        counters,
        residents,
        shards: vec![Arc::new(shard)],
        workers: ArcSwap::default(),
        closed,
        beginning: DashMap::new(),
        lease_ttl: Duration::from_millis(100),
        realtime: Realtime::alone(bus.clone(), SystemClock::shared()),
        bus,
        probe: Probe::unlisted(&SESSION),
        key_agreed: AtomicBool::new(true),
        kin: None,
        endings: Endings::default(),
        on_limit: None,
        schemas: crate::schema::Schemas::default(),
    };
    SessionHandle(Arc::new(inner), None)
}

/// Logs in as a node does it: the roll, the record, the roll. Nobody has the session in memory.
pub(crate) async fn logged_in(store: &MemoryStore, user: &str) -> Locator {
    let locator = Locator::random();
    let enrolment = Enrolment { user, locator, most: None, lifetime_ms: HOUR_MS };
    store.enroll(enrolment).await.unwrap();
    let record = Record {
        owner: None,
        epoch: 1,
        version: 1,
        last_op: None,
        created_ms: 0,
        absolute_ms: 0,
        last_access_ms: 0,
        idle_ms: HOUR_MS,
        user: Some(user.into()),
        secret: SecretHash([7; 32]),
        previous_secret: None,
        attributes: Arc::default(),
        recent: RecentOps::default(),
        unknown: std::collections::BTreeMap::new(),
        seal: Seal::Open,
    };
    store.create(locator, &record, HOUR_MS).await.unwrap();
    store.confirm(user, locator).await.unwrap();
    locator
}

async fn places(store: &MemoryStore, user: &str) -> Vec<(Locator, Progress)> {
    let roll = store.roll(user).await.unwrap();
    roll.places.into_iter().map(|(place, progress)| (place.locator, progress)).collect()
}

#[actix_rt::test]
async fn s7_a_session_that_cannot_be_ended_does_not_hold_the_others_up() {
    let store = memory();
    let first = logged_in(&store, "ann").await;
    let stuck = logged_in(&store, "ann").await;
    let last = logged_in(&store, "ann").await;
    let node = node_over(Arc::new(Stuck { store: store.clone(), stuck }));
    for _ in 0..2 {
        let ended = node.end_user("ann").await;
        let told = matches!(ended, Err(EndError::Store(StoreError::Unreadable(_))));
        assert!(told, "not all were ended: {ended:?}");
        assert_eq!(places(&store, "ann").await, [(stuck, Progress::Condemned)]);
    }
    let sights = store.look(&[first, last]).await.unwrap();
    assert_eq!(sights, [Sight::Gone, Sight::Gone]);
    // Another version of the program may be able to read it.
    assert_eq!(node_over(Arc::new(store.clone())).end_user("ann").await.unwrap(), 1);
    assert!(places(&store, "ann").await.is_empty());
}

#[actix_rt::test]
async fn s7_a_browser_whose_session_was_left_condemned_can_log_in_again() {
    let store = memory();
    let node = node_over(Arc::new(store.clone()));
    let lives = logged_in(&store, "ann").await;
    let never_began = Locator::random();
    let enrolment =
        Enrolment { user: "ann", locator: never_began, most: None, lifetime_ms: HOUR_MS };
    store.enroll(enrolment).await.unwrap();
    // Whoever does this dies right after it.
    assert_eq!(store.condemn("ann", Condemn::All).await.unwrap().len(), 2);
    for locator in [lives, never_began] {
        let refused = node.enroll("ann", locator, HOUR_MS).await;
        assert!(matches!(refused, Err(SessionError::Ended)), "{refused:?}");
        assert_eq!(store.look(&[locator]).await.unwrap(), [Sight::Gone]);
    }
    assert!(places(&store, "ann").await.is_empty());
    assert!(
        node.enroll("ann", Locator::random(), HOUR_MS).await.is_ok(),
        "its next login begins anew"
    );
}

#[actix_rt::test]
async fn s7_whoever_lists_the_sessions_of_a_user_ends_what_was_left_condemned() {
    let store = memory();
    let node = node_over(Arc::new(store.clone()));
    let condemned = logged_in(&store, "ann").await;
    store.condemn("ann", Condemn::All).await.unwrap();
    let stays = logged_in(&store, "ann").await;
    let listed = node.sessions_of("ann").await.unwrap();
    let listed: Vec<Locator> = listed.into_iter().map(|glimpse| glimpse.locator).collect();
    assert_eq!(listed, [stays]);
    assert_eq!(store.look(&[condemned]).await.unwrap(), [Sight::Gone]);
    assert_eq!(places(&store, "ann").await, [(stays, Progress::Stands)]);
}

#[actix_rt::test]
async fn s7_the_end_of_all_others_leaves_the_one_that_asks() {
    let store = memory();
    let node = node_over(Arc::new(store.clone()));
    let first = logged_in(&store, "ann").await;
    let kept = logged_in(&store, "ann").await;
    let stranger = logged_in(&store, "bob").await;
    let under_way = Locator::random();
    node.enroll("ann", under_way, HOUR_MS).await.unwrap().withdraw().await;
    let login = node.enroll("ann", under_way, HOUR_MS).await.unwrap();
    assert_eq!(node.end_others("ann", kept).await.unwrap(), 1, "one lived");
    assert!(matches!(login.confirm().await, Err(SessionError::Ended)), "it came too late");
    assert_eq!(places(&store, "ann").await, [(kept, Progress::Stands)]);
    let sights = store.look(&[first, kept, stranger]).await.unwrap();
    let lives = sights.iter().map(|sight| matches!(sight, Sight::Seen(_)));
    assert_eq!(lives.collect::<Vec<_>>(), [false, true, true]);
}

#[actix_rt::test]
async fn s3_a_look_at_a_session_claims_nothing_and_is_no_use_of_it() {
    let store = memory();
    let node = node_over(Arc::new(store.clone()));
    let locator = logged_in(&store, "ann").await;
    let before = store.snapshot().await.sessions;
    let view = node.peek(locator, &SecretHash([7; 32])).await.unwrap().expect("it lives");
    assert_eq!(view.record.user.as_deref(), Some("ann"));
    assert!(node.peek(locator, &SecretHash([8; 32])).await.unwrap().is_none(), "not its secret");
    assert_eq!(store.snapshot().await.sessions, before);
    assert!(node.0.residents.is_empty(), "nothing came into memory");
}

#[actix_rt::test]
async fn s6_whoever_is_beyond_the_maximum_is_named_the_oldest_first() {
    let store = memory();
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(logged_in(&store, "ann").await);
        tokio::time::sleep(Duration::from_millis(2)).await; // the store's clock counts milliseconds
    }
    let node = node_over(Arc::new(store.clone()));
    let event = node.beyond("ann".to_owned(), 2, sessions[3]).await.unwrap().expect("two beyond");
    assert_eq!((event.user.as_str(), event.sessions, event.most), ("ann", 4, 2));
    assert_eq!(event.id, sessions[3].public_id());
    let named: Vec<String> = event.oldest.into_iter().map(|old| old.id).collect();
    assert_eq!(named, [sessions[0].public_id(), sessions[1].public_id()]);
    assert_eq!(node.beyond("ann".to_owned(), 4, sessions[3]).await.unwrap(), None);
}

#[actix_rt::test]
async fn s7_the_end_of_all_counts_what_was_not_ended() {
    let store = memory();
    logged_in(&store, "ann").await;
    let stuck = logged_in(&store, "bob").await;
    logged_in(&store, "eve").await;
    let node = node_over(Arc::new(Stuck { store: store.clone(), stuck }));
    let tally = Tally::default();
    let ended = node.end_all(&tally).await;
    assert!(matches!(ended, Err(EndError::Store(StoreError::Unreadable(_)))), "{ended:?}");
    assert_eq!((tally.ended(), tally.failed()), (2, 1));
}

/// A store with one session that it cannot end. Only what this file needs of it works.
#[derive(Debug)]
struct Stuck {
    store: MemoryStore,
    stuck: Locator,
}

fn unused<T>() -> Result<T, StoreError> {
    Err(StoreError::Refused("nobody needs it here".to_owned()))
}

#[async_trait]
impl SessionStore for Stuck {
    async fn create(&self, _: Locator, _: &Record, _: u64) -> Result<CreateReply, StoreError> {
        unused()
    }

    async fn claim(&self, _: Locator, _: &Token, _: Option<u64>) -> Result<ClaimReply, StoreError> {
        unused()
    }

    async fn read(&self, _: Locator) -> Result<ReadReply, StoreError> {
        unused()
    }

    async fn write(&self, _: Write<'_>) -> Result<WriteReply, StoreError> {
        unused()
    }

    async fn validate(&self, _: Locator, _: &Fence, _: u64) -> Result<ValidateReply, StoreError> {
        unused()
    }

    async fn restore(&self, _: Locator, _: &Record) -> Result<RestoreReply, StoreError> {
        unused()
    }

    async fn revoke(&self, locator: Locator, end: End) -> Result<RevokeReply, StoreError> {
        if locator == self.stuck {
            return Err(StoreError::Unreadable("WRONGTYPE".to_owned()));
        }
        self.store.revoke(locator, end).await
    }

    async fn release(&self, _: Locator, _: &Fence) -> Result<bool, StoreError> {
        unused()
    }

    async fn touch(&self, _: Locator) -> Result<(), StoreError> {
        unused()
    }

    async fn sweep(&self, _: Bucket, _: u32, _: Option<Duration>) -> Result<Swept, StoreError> {
        unused()
    }

    async fn acknowledge(&self, _: &Expired) -> Result<(), StoreError> {
        unused()
    }
}

#[async_trait]
impl SessionRegister for Stuck {
    async fn enroll(&self, enrolment: Enrolment<'_>) -> Result<Enrolled, StoreError> {
        self.store.enroll(enrolment).await
    }

    async fn confirm(&self, user: &str, locator: Locator) -> Result<Confirmed, StoreError> {
        self.store.confirm(user, locator).await
    }

    async fn condemn(&self, user: &str, which: Condemn) -> Result<Vec<Place>, StoreError> {
        self.store.condemn(user, which).await
    }

    async fn strike(&self, user: &str, places: &[Listed]) -> Result<(), StoreError> {
        self.store.strike(user, places).await
    }

    async fn roll(&self, user: &str) -> Result<Roll, StoreError> {
        self.store.roll(user).await
    }

    async fn look(&self, locators: &[Locator]) -> Result<Vec<Sight>, StoreError> {
        self.store.look(locators).await
    }

    async fn page(&self, after: Option<&Cursor>, limit: u32) -> Result<Page, StoreError> {
        self.store.page(after, limit).await
    }

    async fn find(&self, id: &str) -> Result<Vec<Locator>, StoreError> {
        self.store.find(id).await
    }

    async fn count(&self) -> Result<Count, StoreError> {
        self.store.count().await
    }

    async fn seen(&self, locator: Locator, user: Option<&str>) -> Result<(), StoreError> {
        self.store.seen(locator, user).await
    }

    async fn guest_left(&self, locator: Locator) -> Result<(), StoreError> {
        self.store.guest_left(locator).await
    }

    async fn online(
        &self,
        within_ms: u64,
        after: Option<&OnlineCursor>,
        limit: u32,
    ) -> Result<OnlinePage, StoreError> {
        self.store.online(within_ms, after, limit).await
    }

    async fn count_online(&self, within_ms: u64) -> Result<OnlineCount, StoreError> {
        self.store.count_online(within_ms).await
    }

    async fn still_held(&self, locator: Locator) -> Result<Option<StillHeld>, StoreError> {
        self.store.still_held(locator).await
    }
}
