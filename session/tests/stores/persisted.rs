//! Sessions in Redis with a copy in the database: the same answers as without, and nothing is lost with Redis.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sea_orm::ConnectionTrait as _;
use understudy_runtime::config::{DatabaseUrl, MigrateMode, PersistMode};
use understudy_runtime::database::Database;
use understudy_runtime::database::test_postgres::test_config;
use understudy_runtime::ids::{Bucket, NodeId};
use understudy_runtime::lease::LeaseStore;
use understudy_session::record::{
    Change, Fence, Locator, OpId, RecentOps, Record, Seal, SecretHash, Token,
};
use understudy_session::store::conformance::Fixture;
use understudy_session::store::database::{DatabaseStore, migrations};
use understudy_session::store::register::{Condemn, SessionRegister as _, Sight};
use understudy_session::store::{
    ClaimReply, CreateReply, End, EndReason, PersistedStore, ReadReply, RestoreReply, RevokeReply,
    SessionStore as _, SharedStore, StoreError, Write, WriteReply,
};

use crate::fixtures::{LEASE, OnRedis, SLACK};

const HOUR_MS: u64 = 3_600_000;
const LONGEST: Duration = Duration::from_secs(7_200);

/// Redis, and a database in a file.
#[derive(Debug)]
pub(crate) struct Persisted {
    below: OnRedis,
    store: PersistedStore,
    database: Database,
    _folder: tempfile::TempDir,
}

impl Persisted {
    pub(crate) async fn start(mode: PersistMode) -> Self {
        let below = OnRedis::start().await;
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::Sqlite(folder.path().join("sessions.sqlite3"));
        let database = Database::connect(&test_config(url)).await.unwrap();
        database.migrate(MigrateMode::Auto, &migrations(), &|_| {}).await.unwrap();
        let archive = DatabaseStore::new(database.clone(), LEASE, SLACK);
        let store = PersistedStore::new(below.plain(), archive, mode, LONGEST);
        Self { below, store, database, _folder: folder }
    }

    /// Loses all that Redis has, and waits until sessions can be claimed again.
    async fn lose_redis(&self) {
        self.below.command(&["FLUSHALL"]).await;
        let nobody = Locator::random();
        loop {
            let reply = self.store.claim(nobody, &token("x"), None).await.unwrap();
            let ClaimReply::Grace { remaining_ms } = reply else {
                assert_eq!(reply, ClaimReply::Missing);
                return;
            };
            self.below.pass(Duration::from_millis(remaining_ms + 1)).await;
        }
    }

    /// How much stands in the queue.
    async fn waiting(&self) -> u64 {
        let queue = self.below.unsaved();
        self.below.command(&["ZCARD", &queue]).await.trim().parse().unwrap()
    }

    async fn rows(&self, condition: &str) -> usize {
        let sql = format!("SELECT locator FROM us_session WHERE {condition}");
        let query = self.database.backend().statement(&sql, []);
        self.database.connection().query_all_raw(query).await.unwrap().len()
    }

    async fn claimed(&self, locator: Locator, by: &str) -> Owned {
        let token = token(by);
        let mut reply = self.store.claim(locator, &token, None).await.unwrap();
        // A server that was never seen before.
        while let ClaimReply::Grace { remaining_ms } = reply {
            self.below.pass(Duration::from_millis(remaining_ms + 1)).await;
            reply = self.store.claim(locator, &token, None).await.unwrap();
        }
        let ClaimReply::Claimed { epoch, record: Some(record), .. } = reply else {
            panic!("{reply:?}")
        };
        Owned { locator, fence: Fence { token, epoch }, record: *record }
    }

    /// Sweeps, and gives what is to be told, in the order of the locators.
    async fn told(&self) -> Vec<(Locator, EndReason, Option<String>)> {
        let swept = self.store.sweep(Bucket(0), 10, Some(LONGEST)).await.unwrap();
        let told = swept.expired.into_iter();
        let mut told: Vec<(Locator, EndReason, Option<String>)> =
            told.map(|expired| (expired.locator, expired.reason, expired.user)).collect();
        told.sort_by_key(|(locator, _, _)| *locator);
        told
    }

    async fn begun(&self, user: &str) -> Owned {
        let (locator, token) = (Locator::random(), token("a"));
        let record = record(&token, user);
        let reply = self.store.create(locator, &record, HOUR_MS).await.unwrap();
        let CreateReply::Created { now_ms } = reply else { panic!("{reply:?}") };
        let absolute_ms = now_ms + HOUR_MS;
        let record = Record { created_ms: now_ms, last_access_ms: now_ms, absolute_ms, ..record };
        Owned { locator, fence: Fence { token, epoch: 1 }, record }
    }

    async fn write(&self, owned: &mut Owned, value: &str) -> Result<WriteReply, StoreError> {
        let change = Change { set: vec![("n".into(), value.into())], ..Change::default() };
        let op_id = OpId::random();
        let mut after = owned.record.clone();
        Arc::make_mut(&mut after.attributes).insert("n".into(), value.into());
        after.version += 1;
        after.last_op = Some(op_id);
        let write = Write {
            locator: owned.locator,
            fence: &owned.fence,
            base_version: owned.record.version,
            op_id,
            change: &change,
            after: &after,
        };
        let reply = self.store.write(write).await;
        if matches!(reply, Ok(WriteReply::Written { .. })) {
            owned.record = after;
        }
        reply
    }

    async fn written(&self, owned: &mut Owned, value: &str) {
        let reply = self.write(owned, value).await.unwrap();
        assert!(matches!(reply, WriteReply::Written { .. }), "{reply:?}");
    }
}

/// A session and who has it.
#[derive(Debug, Clone)]
struct Owned {
    locator: Locator,
    fence: Fence,
    record: Record,
}

impl Owned {
    fn value(&self) -> &str {
        &self.record.attributes["n"]
    }
}

#[async_trait]
impl Fixture for Persisted {
    fn store(&self) -> SharedStore {
        Arc::new(self.store.clone())
    }

    fn leases(&self) -> Arc<dyn LeaseStore> {
        self.below.leases()
    }

    fn lease(&self) -> Duration {
        LEASE
    }

    fn touch_slack(&self) -> Duration {
        SLACK
    }

    fn bucket(&self, locator: Locator) -> Bucket {
        self.below.bucket(locator)
    }
}

fn token(name: &str) -> Token {
    Token::new(&NodeId::begin(name.parse().unwrap()))
}

fn record(owner: &Token, user: &str) -> Record {
    Record {
        owner: Some(owner.clone()),
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
        attributes: Arc::new([(Arc::from("n"), Arc::from("0"))].into()),
        recent: RecentOps::default(),
        unknown: BTreeMap::from([("au".to_owned(), "12".to_owned())]),
        seal: Seal::Open,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_with_write_through_nothing_is_lost_with_redis() {
    let both = Persisted::start(PersistMode::WriteThrough).await;
    let mut owned = both.begun("ann").await;
    both.written(&mut owned, "1").await;
    both.written(&mut owned, "2").await;
    both.lose_redis().await;
    let back = both.claimed(owned.locator, "b").await;
    assert!(back.fence.epoch > owned.fence.epoch, "{} is above", back.fence.epoch);
    let expected = Record {
        owner: Some(back.fence.token.clone()),
        epoch: back.fence.epoch,
        last_access_ms: back.record.last_access_ms,
        ..owned.record.clone()
    };
    assert_eq!(back.record, expected, "to the letter");
    assert!(back.record.last_access_ms >= owned.record.last_access_ms);
    let late = both.write(&mut owned, "2").await.unwrap();
    assert_eq!(late, WriteReply::Fenced, "whoever had it before is fenced");
    let roll = both.store.roll("ann").await.unwrap();
    assert_eq!(roll.places.len(), 1, "it is on the roll of its user again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_with_write_behind_what_was_brought_over_comes_back() {
    let both = Persisted::start(PersistMode::WriteBehind).await;
    let mut owned = both.begun("ann").await;
    both.written(&mut owned, "1").await;
    assert_eq!((both.rows("true").await, both.waiting().await), (0, 1), "not there yet");
    let report = both.store.saver("a").run_once().await;
    assert_eq!((report.waiting, report.sessions, report.failed), (1, 1, 0), "{report:?}");
    assert_eq!((both.rows("version = 2").await, both.waiting().await), (1, 0));
    both.written(&mut owned, "2").await;
    both.lose_redis().await;
    let back = both.claimed(owned.locator, "b").await;
    assert_eq!(back.value(), "1", "the latest that was brought over");
    // A claim and a use make no new version, and come over all the same.
    both.store.touch(owned.locator).await.unwrap();
    assert_eq!(both.store.saver("a").run_once().await.sessions, 1);
    assert_eq!(both.rows(&format!("epoch = {}", back.fence.epoch)).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_what_is_changed_while_it_is_brought_over_stays_in_the_queue() {
    let both = Persisted::start(PersistMode::WriteBehind).await;
    let mut owned = both.begun("ann").await;
    // One saver has it in hand and dies: another one does it all, once its time is over.
    let (queue, holder) = (both.below.unsaved(), both.below.saver());
    both.below.command(&["SET", &holder, "dead", "PX", "300"]).await;
    let (saver, other) = (both.store.saver("a"), both.store.saver("b"));
    assert_eq!((saver.run_once().await.sessions, both.waiting().await), (0, 1), "not its turn");
    both.below.pass(Duration::from_millis(301)).await;
    // Two at once: what one of them takes, the other leaves.
    let (one, two) = tokio::join!(saver.run_once(), other.run_once());
    assert!(one.sessions + two.sessions >= 1, "{one:?} {two:?}");
    assert_eq!((both.rows("version = 1").await, both.waiting().await), (1, 0));
    both.written(&mut owned, "1").await;
    let since = both.below.command(&["ZSCORE", &queue, &owned.locator.to_string()]).await;
    both.written(&mut owned, "2").await;
    let again = both.below.command(&["ZSCORE", &queue, &owned.locator.to_string()]).await;
    assert_eq!(since, again, "the age is that of the first change");
    assert_eq!(saver.run_once().await.sessions, 1);
    assert_eq!(both.rows("version = 3").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_a_session_that_was_ended_never_comes_back() {
    for mode in [PersistMode::WriteBehind, PersistMode::WriteThrough] {
        let both = Persisted::start(mode).await;
        let mut owned = both.begun("ann").await;
        let (other, third) = (both.begun("ann").await, both.begun("ann").await);
        both.written(&mut owned, "1").await;
        both.store.saver("a").at_once().run_once().await;
        let reply = both.store.revoke(owned.locator, End::Asked).await.unwrap();
        assert!(matches!(reply, RevokeReply::Revoked { .. }), "{reply:?}");
        assert_eq!(both.rows("revoked_until_ms IS NOT NULL AND secret = ''").await, 1);
        both.lose_redis().await;
        // Ended while Redis does not have it: by its id, and with all of its user's.
        let missing = both.store.revoke(other.locator, End::Asked).await.unwrap();
        assert_eq!(missing, RevokeReply::Missing);
        assert!(matches!(both.store.look(&[third.locator]).await.unwrap()[0], Sight::Seen(_)));
        let condemned = both.store.condemn("ann", Condemn::All).await.unwrap();
        let condemned: Vec<Locator> = condemned.iter().map(|place| place.locator).collect();
        assert_eq!(condemned, [third.locator], "{mode:?}");
        both.store.revoke(third.locator, End::Others).await.unwrap();
        // Redis took the first along with all that there was to tell; of the others the database knows it.
        let user = || Some("ann".to_owned());
        let mut wanted = [
            (other.locator, EndReason::Logout, user()),
            (third.locator, EndReason::Others, user()),
        ];
        wanted.sort_by_key(|(locator, _, _)| *locator);
        assert_eq!(both.told().await, wanted, "{mode:?}");
        for ended in [&other, &third] {
            let held = both.store.last_state(ended.locator).await.unwrap();
            assert_eq!(held.unwrap().attributes, ended.record.attributes, "{mode:?}");
        }
        // Who comes late with a copy brings nothing to life.
        for ended in [&owned, &other, &third] {
            let reply = both.store.claim(ended.locator, &token("b"), None).await.unwrap();
            assert_eq!(reply, ClaimReply::Missing, "{mode:?}");
        }
        both.store.saver("a").at_once().run_once().await;
        assert_eq!(both.rows("revoked_until_ms IS NULL").await, 0, "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_what_ran_out_of_time_before_it_was_brought_over_does_not_come_back() {
    let both = Persisted::start(PersistMode::WriteBehind).await;
    let (swept, gone) = (both.begun("ann").await.locator, both.begun("bob").await.locator);
    let (mut swept, mut gone) = (both.claimed(swept, "a").await, both.claimed(gone, "a").await);
    let saver = both.store.saver("a");
    assert_eq!(saver.run_once().await.sessions, 2, "the database has them with an hour to live");
    both.written(&mut swept, "1").await;
    both.written(&mut gone, "1").await;
    // As if these had made their idle times short, and the database had been away until they were over.
    let (index, key) = (both.below.index(), both.below.key(swept.locator));
    both.below.command(&["HSET", &key, "i", "0", "la", "1"]).await;
    both.below.command(&["ZADD", &index, "0", &swept.locator.to_string()]).await;
    assert_eq!(both.told().await.len(), 1, "one is swept");
    both.below.command(&["DEL", &both.below.key(gone.locator)]).await;
    let report = saver.run_once().await;
    assert_eq!((report.sessions, report.ends, report.failed), (0, 2, 0), "{report:?}");
    assert_eq!(both.waiting().await, 0);
    for over in [&swept, &gone] {
        let reply = both.store.claim(over.locator, &token("b"), None).await.unwrap();
        assert_eq!(reply, ClaimReply::Missing);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_an_owner_that_puts_back_what_was_ended_is_found_out() {
    let both = Persisted::start(PersistMode::WriteThrough).await;
    let mut owned = both.begun("ann").await;
    both.store.revoke(owned.locator, End::Asked).await.unwrap();
    both.below.command(&["FLUSHALL"]).await;
    // It was cut off when the session was ended, and Redis knows of that no more.
    let restored = both.store.restore(owned.locator, &owned.record).await.unwrap();
    assert_eq!(restored, RestoreReply::Restored);
    let report = both.store.saver("a").at_once().run_once().await;
    assert_eq!((report.sessions, &*report.ended), (0, &[owned.locator][..]), "{report:?}");
    let reply = both.write(&mut owned, "2").await.unwrap();
    assert_eq!(reply, WriteReply::Revoked);
    assert_eq!(both.store.read(owned.locator).await.unwrap(), ReadReply::Revoked);
    assert_eq!(both.rows("revoked_until_ms IS NULL").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_what_redis_lost_of_a_session_is_found_when_it_is_claimed() {
    let both = Persisted::start(PersistMode::WriteThrough).await;
    let mut owned = both.begun("ann").await;
    both.written(&mut owned, "1").await;
    let key = both.below.key(owned.locator);
    both.written(&mut owned, "2").await;
    both.store.release(owned.locator, &owned.fence).await.unwrap();
    // As after a failover to a replica that did not have the second write.
    both.below.command(&["HSET", &key, "v", "2", "a:n", "1"]).await;
    let back = both.claimed(owned.locator, "b").await;
    assert_eq!((back.value(), back.record.version), ("2", 3));
    // As after one to a replica that did not have the end.
    let mut ended = both.begun("bob").await;
    both.written(&mut ended, "1").await;
    both.store.release(ended.locator, &ended.fence).await.unwrap();
    let mark = "UPDATE us_session SET revoked_until_ms = absolute_ms WHERE user_name = 'bob'";
    let mark = both.database.backend().statement(mark, []);
    both.database.connection().execute_raw(mark).await.unwrap();
    let reply = both.store.claim(ended.locator, &token("b"), None).await.unwrap();
    assert_eq!(reply, ClaimReply::Revoked);
    assert_eq!(both.store.read(ended.locator).await.unwrap(), ReadReply::Revoked);
    // Why it was ended nobody knows any more.
    let told = (ended.locator, EndReason::Ended, Some("bob".to_owned()));
    assert_eq!(both.told().await, [told]);
    let held = both.store.last_state(ended.locator).await.unwrap();
    assert_eq!(held.unwrap().attributes, ended.record.attributes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_what_is_claimed_with_write_through_is_in_the_database() {
    let both = Persisted::start(PersistMode::WriteThrough).await;
    let mut owned = both.begun("ann").await;
    both.written(&mut owned, "1").await;
    // As if the owner had died between Redis and the database: the next one may find its write, and say that it was done.
    let back = "UPDATE us_session SET version = 1";
    let back = both.database.backend().statement(back, []);
    both.database.connection().execute_raw(back).await.unwrap();
    both.store.release(owned.locator, &owned.fence).await.unwrap();
    assert_eq!(both.claimed(owned.locator, "b").await.record.version, 2);
    assert_eq!(both.rows("version = 2 AND epoch = 2").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_an_older_version_never_replaces_a_newer_one() {
    let both = Persisted::start(PersistMode::WriteBehind).await;
    let mut owned = both.begun("ann").await;
    both.written(&mut owned, "1").await;
    both.written(&mut owned, "2").await;
    let saver = both.store.saver("a");
    saver.run_once().await;
    let key = both.below.key(owned.locator);
    both.below.command(&["HSET", &key, "v", "2", "a:n", "1", "e", "9"]).await;
    both.store.touch(owned.locator).await.unwrap();
    let report = saver.run_once().await;
    assert_eq!((report.sessions, report.failed, both.waiting().await), (0, 0, 0), "{report:?}");
    assert_eq!(both.rows("version = 3 AND epoch = 1").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_what_cannot_be_read_holds_nobody_up() {
    let both = Persisted::start(PersistMode::WriteBehind).await;
    let (spoilt, good) = (both.begun("ann").await, both.begun("bob").await);
    let key = both.below.key(spoilt.locator);
    both.below.command(&["HSET", &key, "a:n", "{]"]).await;
    let saver = both.store.saver("a");
    let report = saver.run_once().await;
    assert_eq!((report.sessions, report.failed), (1, 1), "{report:?}");
    assert_eq!((both.rows("user_name = 'bob'").await, both.waiting().await), (1, 1));
    both.below.command(&["HSET", &key, "a:n", "1"]).await;
    assert_eq!(saver.run_once().await.sessions, 1);
    assert_eq!((both.rows("true").await, both.waiting().await), (2, 0));
    drop(good);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_what_has_been_over_for_long_is_taken_away() {
    let both = Persisted::start(PersistMode::WriteThrough).await;
    let lives = both.begun("ann").await;
    let over = both.begun("bob").await;
    let ended = both.begun("cid").await;
    both.store.revoke(ended.locator, End::Asked).await.unwrap();
    let saver = both.store.saver("a");
    assert_eq!(saver.purge().await.unwrap(), 0);
    let past = "UPDATE us_session SET absolute_ms = 1, revoked_until_ms = \
                CASE WHEN revoked_until_ms IS NULL THEN NULL ELSE 1 END WHERE user_name IS NULL \
                OR user_name = 'bob'";
    let past = both.database.backend().statement(past, []);
    both.database.connection().execute_raw(past).await.unwrap();
    assert_eq!(saver.purge().await.unwrap(), 2);
    assert_eq!(both.rows(&format!("locator = '{}'", lives.locator)).await, 1);
    assert_eq!(both.rows(&format!("locator = '{}'", over.locator)).await, 0);
}
