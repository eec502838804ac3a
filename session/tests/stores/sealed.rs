//! Stores whose contents are sealed do what the others do; and in Redis nothing of them can be read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use understudy_runtime::config::{EncryptionConfig, EncryptionKey, EncryptionWrites};
use understudy_runtime::ids::{Bucket, NodeId};
use understudy_runtime::lease::LeaseStore;
use understudy_runtime::secret::Secret;
use understudy_session::record::{Locator, RecentOps, Record, Seal, SecretHash, Token};
use understudy_session::sealing::SealRing;
use understudy_session::store::conformance::{Fixture, Remembered};
use understudy_session::store::{ClaimReply, SealedStore, SharedStore, StoreError};

use crate::fixtures::{InMemory, OnRedis};

const HOUR_MS: u64 = 3_600_000;

/// A ring with these keys, of which the first seals.
fn ring(ids: &[&str]) -> SealRing {
    let key = |id: &&str| EncryptionKey {
        id: (*id).to_owned(),
        key: Secret::new([id.as_bytes()[0]; 32]),
    };
    let keys = ids.iter().map(key).collect();
    SealRing::new(&EncryptionConfig { keys, writes: EncryptionWrites::Sealed }, "shop")
}

/// Another fixture, with a layer over its store.
#[derive(Debug)]
pub(crate) struct Sealed {
    below: Arc<dyn Fixture>,
    store: SharedStore,
}

impl Sealed {
    pub(crate) fn in_memory() -> Self {
        let below = InMemory::keeping_everything();
        let store = Arc::new(SealedStore::new(below.store(), ring(&["a"])));
        Self { below: Arc::new(below), store }
    }

    pub(crate) async fn on_redis() -> Self {
        let below = OnRedis::start().await;
        let store = below.sealed(ring(&["a"]));
        Self { below: Arc::new(below), store }
    }
}

#[async_trait]
impl Fixture for Sealed {
    fn store(&self) -> SharedStore {
        Arc::clone(&self.store)
    }

    fn leases(&self) -> Arc<dyn LeaseStore> {
        self.below.leases()
    }

    fn lease(&self) -> Duration {
        self.below.lease()
    }

    fn touch_slack(&self) -> Duration {
        self.below.touch_slack()
    }

    fn bucket(&self, locator: Locator) -> Bucket {
        self.below.bucket(locator)
    }

    async fn pass(&self, time: Duration) {
        self.below.pass(time).await;
    }

    fn keeps_seals(&self) -> bool {
        false
    }

    async fn change_identity(&self) -> Option<Remembered> {
        self.below.change_identity().await
    }
}

fn token(name: &str) -> Token {
    Token::new(&NodeId::begin(name.parse().unwrap()))
}

async fn session(store: &SharedStore) -> Locator {
    session_with(store, "\"canary\"", Seal::Open).await
}

async fn session_with(store: &SharedStore, text: &str, seal: Seal) -> Locator {
    let record = Record {
        owner: Some(token("a")),
        epoch: 1,
        version: 1,
        last_op: None,
        created_ms: 0,
        absolute_ms: 0,
        last_access_ms: 0,
        idle_ms: HOUR_MS,
        user: None,
        secret: SecretHash([7; 32]),
        previous_secret: None,
        attributes: Arc::new([(Arc::from("n"), Arc::from(text))].into()),
        recent: RecentOps::default(),
        unknown: BTreeMap::new(),
        seal,
    };
    let locator = Locator::random();
    store.create(locator, &record, HOUR_MS).await.unwrap();
    locator
}

/// Claims as soon as the grace of the new server is over.
async fn claim(
    redis: &OnRedis,
    store: &SharedStore,
    locator: Locator,
) -> Result<ClaimReply, StoreError> {
    loop {
        match store.claim(locator, &token("b"), None).await {
            Ok(ClaimReply::Grace { remaining_ms }) => {
                redis.pass(Duration::from_millis(remaining_ms + 1)).await;
            }
            other => return other,
        }
    }
}

/// The order of the fields of a hash means nothing.
fn fields(answer: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = answer.lines().collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn x6_in_redis_a_record_under_an_unknown_key_is_not_touched() {
    let redis = OnRedis::start().await;
    let locator = session(&redis.sealed(ring(&["old"]))).await;
    let key = redis.key(locator);
    let held = redis.command(&["HGETALL", &key]).await;
    assert!(held.contains("1.old.") && !held.contains("canary"), "{held}");
    assert_eq!(redis.command(&["HMGET", &key, "sv", "k"]).await, "2\nold\n");
    for store in [redis.sealed(ring(&["new"])), redis.store()] {
        let error = claim(&redis, &store, locator).await.unwrap_err();
        assert!(matches!(error, StoreError::Unreadable(_)), "{error}");
        assert!(error.to_string().contains("`old`"), "{error}");
    }
    assert_eq!(fields(&redis.command(&["HGETALL", &key]).await), fields(&held), "byte for byte");
    let claimed = claim(&redis, &redis.sealed(ring(&["new", "old"])), locator).await.unwrap();
    let ClaimReply::Claimed { record: Some(record), .. } = claimed else { panic!("{claimed:?}") };
    assert_eq!(&*record.attributes["n"], "\"canary\"");
    assert_eq!(record.seal, Seal::Outdated);
}

#[tokio::test]
async fn in_redis_a_packed_record_is_smaller_and_left_alone_by_programs_that_cannot_unpack() {
    let redis = OnRedis::start().await;
    let large = format!("\"{}\"", "canary ".repeat(1_000));
    let plain = SealRing::new(&EncryptionConfig::default(), "shop");
    for (ring, form) in [(ring(&["a"]), "a+z"), (plain, "+z")] {
        let locator = session_with(&redis.packed(ring.clone()), &large, Seal::Packed).await;
        let key = redis.key(locator);
        let held = redis.command(&["HGETALL", &key]).await;
        assert!(held.len() * 5 < large.len() && !held.contains("canary"), "{held}");
        assert_eq!(redis.command(&["HMGET", &key, "sv", "k"]).await, format!("2\n{form}\n"));
        // It knows of keys, and of no form that is packed.
        let error = claim(&redis, &redis.store(), locator).await.unwrap_err();
        assert!(matches!(error, StoreError::Unreadable(_)), "{error}");
        assert_eq!(
            fields(&redis.command(&["HGETALL", &key]).await),
            fields(&held),
            "byte for byte"
        );
        // It packs nothing itself.
        let claimed = claim(&redis, &redis.sealed(ring), locator).await.unwrap();
        let ClaimReply::Claimed { record: Some(record), .. } = claimed else {
            panic!("{claimed:?}")
        };
        assert_eq!(&*record.attributes["n"], large);
        assert_eq!(record.seal, Seal::Outdated);
    }
}
