//! What is in the store cannot be read there, and comes back as it was, whichever keys came and went meanwhile.

use std::collections::BTreeMap;

use understudy_runtime::clock::SystemClock;
use understudy_runtime::config::EncryptionWrites;
use understudy_runtime::ids::NodeId;

use super::*;
use crate::record::{KeyId, OpId, SecretHash};
use crate::sealing::tests::{ring, sealing};
use crate::state::Outcome;
use crate::store::memory::MemoryStore;

const HOUR_MS: u64 = 3_600_000;
const CANARY: &str = "\"canary-value\"";
const MORE: &str = "\"canary-more\"";

fn memory() -> MemoryStore {
    MemoryStore::new(SystemClock::shared(), Duration::from_secs(1), Duration::ZERO)
}

fn over(store: &MemoryStore, ring: SealRing) -> SealedStore {
    SealedStore::new(Arc::new(store.clone()), ring)
}

fn off(ids: &[&str]) -> SealRing {
    ring(EncryptionWrites::Plain, ids, "shop")
}

fn token(name: &str) -> Token {
    Token::new(&NodeId::begin(name.parse().unwrap()))
}

/// A record with two attributes and an answer that tells a value.
fn record() -> Record {
    Record {
        owner: Some(token("a")),
        epoch: 1,
        version: 1,
        last_op: None,
        created_ms: 0,
        absolute_ms: 0,
        last_access_ms: 0,
        idle_ms: HOUR_MS,
        user: Some("ann".into()),
        secret: SecretHash([7; 32]),
        previous_secret: None,
        attributes: Arc::new([("cart", CANARY), ("n", "47110815471108")].map(pair).into()),
        recent: RecentOps {
            since_version: 0,
            entries: vec![(OpId(1), 1, Outcome::Number(47_110_815_471_108))],
            sealed: None,
        },
        unknown: BTreeMap::new(),
        seal: Seal::Open,
    }
}

fn pair((name, text): (&str, &str)) -> (Arc<str>, Arc<str>) {
    (name.into(), text.into())
}

async fn created(store: &SealedStore) -> Locator {
    let locator = Locator::random();
    let reply = store.create(locator, &record(), HOUR_MS).await.unwrap();
    assert!(matches!(reply, CreateReply::Created { .. }), "{reply:?}");
    locator
}

/// What the store itself holds.
async fn stored(store: &MemoryStore, locator: Locator) -> Record {
    match store.read(locator).await.unwrap() {
        ReadReply::Found(record) => *record,
        other @ (ReadReply::Missing | ReadReply::Revoked) => panic!("{other:?}"),
    }
}

fn is_legible(record: &Record) -> bool {
    let shown = format!("{:?} {:?}", record.attributes, record.recent);
    shown.contains("canary") || shown.contains("47110815471108")
}

async fn claimed(store: &SealedStore, locator: Locator) -> Record {
    match store.claim(locator, &token("b"), None).await.unwrap() {
        ClaimReply::Claimed { record: Some(record), .. } => *record,
        other @ (ClaimReply::Claimed { record: None, .. }
        | ClaimReply::Owned { .. }
        | ClaimReply::Grace { .. }
        | ClaimReply::Missing
        | ClaimReply::Revoked
        | ClaimReply::Expired) => panic!("{other:?}"),
    }
}

/// Sets one attribute as the owner of `record` does.
async fn set(store: &SealedStore, locator: Locator, record: &Record, name: &str) -> WriteReply {
    let seal = (record.seal == Seal::Outdated).then_some(Seal::Outdated);
    let mut after = Record { version: record.version + 1, seal: Seal::Open, ..record.clone() };
    Arc::make_mut(&mut after.attributes).insert(name.into(), MORE.into());
    let set = vec![pair((name, MORE))];
    let change = Change { set, seal, ..Change::default() };
    let fence = Fence { token: record.owner.clone().unwrap(), epoch: record.epoch };
    let write = Write {
        locator,
        fence: &fence,
        base_version: record.version,
        op_id: OpId::random(),
        change: &change,
        after: &after,
    };
    store.write(write).await.unwrap()
}

/// A record as its owner sees it, without what a claim changes.
fn contents(record: &Record) -> (&Attributes, &RecentOps) {
    (&*record.attributes, &record.recent)
}

#[tokio::test]
async fn x6_contents_are_sealed_in_the_store_and_come_back_as_they_were() {
    let memory = memory();
    let store = over(&memory, sealing(&["a"]));
    let locator = created(&store).await;
    let kept = stored(&memory, locator).await;
    assert!(!is_legible(&kept), "{kept:?}");
    assert_eq!(kept.seal.key(), KeyId::new("a").as_ref());
    assert_eq!(kept.user.as_deref(), Some("ann"), "lists of users need it");
    let ReadReply::Found(read) = store.read(locator).await.unwrap() else { panic!("it is there") };
    assert_eq!(contents(&read), contents(&record()));
    assert_eq!(read.seal, Seal::Open);
    let mine = claimed(&store, locator).await;
    let reply = set(&store, locator, &mine, "more").await;
    assert!(matches!(reply, WriteReply::Written { .. }), "{reply:?}");
    let again = stored(&memory, locator).await;
    assert!(!is_legible(&again), "{again:?}");
    assert_eq!(again.attributes["cart"], kept.attributes["cart"], "only changes are written");
    assert_eq!(claimed(&store, locator).await.attributes.len(), 3);
}

#[tokio::test]
async fn x6_a_record_under_an_old_key_is_read_and_renewed_by_its_next_change() {
    let forms = [
        (sealing(&["old"]), sealing(&["new", "old"]), Some("new")),
        (off(&[]), sealing(&["new"]), Some("new")),
        (sealing(&["old"]), off(&["old"]), None),
    ];
    for (before, after, key) in forms {
        let memory = memory();
        let locator = created(&over(&memory, before)).await;
        let store = over(&memory, after);
        let mine = claimed(&store, locator).await;
        assert_eq!(contents(&mine), contents(&record()));
        assert_eq!(mine.seal, Seal::Outdated);
        let reply = set(&store, locator, &mine, "more").await;
        assert!(matches!(reply, WriteReply::Written { .. }), "{reply:?}");
        let kept = stored(&memory, locator).await;
        assert_eq!(kept.seal.key().map(KeyId::as_str), key);
        assert_eq!(is_legible(&kept), key.is_none(), "all of it has the new form: {kept:?}");
        let mine = claimed(&store, locator).await;
        assert_eq!((mine.seal.clone(), mine.attributes.len()), (Seal::Open, 3));
        assert_eq!(mine.recent, record().recent);
    }
}

#[tokio::test]
async fn x6_a_record_under_an_unknown_key_is_left_alone_and_named() {
    let memory = memory();
    let locator = created(&over(&memory, sealing(&["a"]))).await;
    let before = stored(&memory, locator).await;
    for ring in [sealing(&["b"]), off(&["b"]), off(&[])] {
        let store = over(&memory, ring);
        let errors = [
            store.read(locator).await.unwrap_err(),
            store.claim(locator, &token("b"), None).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, StoreError::Unreadable(_)), "{error}");
            let text = error.to_string();
            assert!(text.contains("`a`"), "{text}");
            assert!(text.contains("UNDERSTUDY_SESSION_ENCRYPTION_KEYS"), "{text}");
        }
    }
    let kept = stored(&memory, locator).await;
    assert_eq!(contents(&kept), contents(&before));
    assert_eq!(kept.owner, None, "whoever has the key may claim it at once");
    let mine = claimed(&over(&memory, sealing(&["b", "a"])), locator).await;
    assert_eq!(contents(&mine), contents(&record()));
}

/// Puts a record into a store behind the back of what seals it, and reads it.
async fn put_in(locator: Locator, record: &Record) -> Result<ReadReply, StoreError> {
    let memory = memory();
    memory.create(locator, record, HOUR_MS).await.unwrap();
    over(&memory, sealing(&["a"])).read(locator).await
}

#[tokio::test]
async fn x6_what_was_moved_from_another_session_or_attribute_is_not_read() {
    let memory = memory();
    let store = over(&memory, sealing(&["a"]));
    let locator = created(&store).await;
    let kept = stored(&memory, locator).await;
    let mut swapped = kept.clone();
    let attributes = Arc::make_mut(&mut swapped.attributes);
    let (cart, number) = (Arc::clone(&attributes["cart"]), Arc::clone(&attributes["n"]));
    attributes.extend([(Arc::from("cart"), number), (Arc::from("n"), cart)]);
    let mut opened = kept.clone();
    Arc::make_mut(&mut opened.attributes).insert("n".into(), "1".into());
    let listed = Record { recent: record().recent, ..kept.clone() };
    let forgeries =
        [(Locator::random(), &kept), (locator, &swapped), (locator, &opened), (locator, &listed)];
    for (place, forged) in forgeries {
        let error = put_in(place, forged).await.unwrap_err();
        assert!(matches!(error, StoreError::Unreadable(_)), "{error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    assert!(put_in(locator, &kept).await.is_ok(), "what was not moved");
}

#[tokio::test]
async fn x6_a_copy_that_is_put_back_is_sealed_too() {
    let memory = memory();
    let store = over(&memory, sealing(&["a"]));
    let locator = created(&store).await;
    let mine = claimed(&store, locator).await;
    let newer = Record { version: mine.version + 1, ..mine };
    assert_eq!(store.restore(locator, &newer).await.unwrap(), RestoreReply::Restored);
    assert!(!is_legible(&stored(&memory, locator).await));
    assert_eq!(contents(&claimed(&store, locator).await), contents(&newer));
}

const LARGE: usize = 1_000;

/// Packs values of more than [`LARGE`] bytes.
fn packing(store: &MemoryStore, ring: SealRing) -> SealedStore {
    over(store, ring).packing(Packing::new(LARGE, 100_000))
}

fn large() -> Arc<str> {
    format!("\"{}\"", "canary-value ".repeat(LARGE)).into()
}

/// Sets an attribute to a large value, as the owner does who plans it.
async fn set_large(store: &SealedStore, locator: Locator, record: &Record) -> WriteReply {
    let mut after = Record { version: record.version + 1, seal: Seal::Packed, ..record.clone() };
    Arc::make_mut(&mut after.attributes).insert("large".into(), large());
    let seal = (record.seal != Seal::Packed).then_some(Seal::Packed);
    let change = Change { set: vec![("large".into(), large())], seal, ..Change::default() };
    let fence = Fence { token: record.owner.clone().unwrap(), epoch: record.epoch };
    let write = Write {
        locator,
        fence: &fence,
        base_version: record.version,
        op_id: OpId::random(),
        change: &change,
        after: &after,
    };
    store.write(write).await.unwrap()
}

#[tokio::test]
async fn the_first_large_value_brings_all_of_a_record_into_the_packed_form() {
    for (ring, form, bytes) in [(sealing(&["a"]), "a+z", 2_000), (off(&[]), "+z", 1_000)] {
        let memory = memory();
        let store = packing(&memory, ring.clone());
        let locator = created(&store).await;
        assert_ne!(stored(&memory, locator).await.seal.key().map(KeyId::as_str), Some(form));
        let mine = claimed(&store, locator).await;
        assert_eq!(mine.seal, Seal::Open);
        let reply = set_large(&store, locator, &mine).await;
        assert!(matches!(reply, WriteReply::Written { .. }), "{reply:?}");
        let kept = stored(&memory, locator).await;
        assert_eq!(kept.seal.key().map(KeyId::as_str), Some(form));
        assert!(kept.attributes["large"].len() < bytes, "{}", kept.attributes["large"].len());
        let mine = claimed(&store, locator).await;
        assert_eq!((&mine.seal, &mine.attributes["large"]), (&Seal::Packed, &large()));
        assert_eq!((&*mine.attributes["cart"], &mine.recent), (CANARY, &record().recent));
        // A node that packs nothing reads it, and writes it its own way.
        let store = over(&memory, ring.clone());
        let mine = claimed(&store, locator).await;
        assert_eq!((&mine.seal, &mine.attributes["large"]), (&Seal::Outdated, &large()));
        let reply = set(&store, locator, &mine, "more").await;
        assert!(matches!(reply, WriteReply::Written { .. }), "{reply:?}");
        let kept = stored(&memory, locator).await;
        assert_eq!(kept.seal, ring.form());
        assert!(kept.attributes["large"].len() > LARGE, "it is not packed any more");
        assert_eq!(claimed(&store, locator).await.attributes["large"], large());
    }
}

#[tokio::test]
async fn a_value_that_looks_packed_comes_back_as_it_was() {
    let memory = memory();
    let store = packing(&memory, off(&[]));
    let odd = ["\"z1.AAAA\"", "\"z0.\"", "\"z0.!\"", "\"z2.\""];
    let mut given = Record { seal: Seal::Packed, ..record() };
    Arc::make_mut(&mut given.attributes).extend(odd.map(|text| pair((text, text))));
    let locator = Locator::random();
    store.create(locator, &given, HOUR_MS).await.unwrap();
    assert_eq!(contents(&claimed(&store, locator).await), contents(&given));
}

#[tokio::test]
async fn what_unpacks_to_more_than_a_session_may_have_is_not_read() {
    let memory = memory();
    let generous = over(&memory, off(&[])).packing(Packing::new(LARGE, 64 * 1024 * 1024));
    let bomb: Arc<str> = format!("\"{}\"", "x".repeat(9 * 1024 * 1024)).into();
    let mut given = Record { seal: Seal::Packed, ..record() };
    let attributes = Arc::make_mut(&mut given.attributes);
    attributes.extend([(Arc::from("a"), Arc::clone(&bomb)), (Arc::from("b"), bomb)]);
    let locator = Locator::random();
    generous.create(locator, &given, HOUR_MS).await.unwrap();
    let kept = stored(&memory, locator).await;
    assert!(kept.attributes["a"].len() < 100_000, "a bomb");
    assert!(generous.read(locator).await.is_ok());
    let error = packing(&memory, off(&[])).read(locator).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreadable(_)), "{error}");
    assert!(error.to_string().contains("UNDERSTUDY_SESSION_MAX_BYTES"), "{error}");
}

#[tokio::test]
async fn a_packed_value_that_was_damaged_is_not_read_and_not_shown() {
    let memory = memory();
    let store = packing(&memory, off(&[]));
    for text in ["\"z1.canary-value\"", "\"z1.AAAA", "\"z0.canary!\"", "\"z1.eNo\""] {
        let form = Seal::Under(KeyId::packed(None));
        let mut forged = Record { seal: form, ..record() };
        Arc::make_mut(&mut forged.attributes).insert("n".into(), text.into());
        let locator = Locator::random();
        memory.create(locator, &forged, HOUR_MS).await.unwrap();
        let error = store.read(locator).await.unwrap_err();
        assert!(matches!(error, StoreError::Unreadable(_)), "{error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

#[tokio::test]
async fn x6_what_a_session_held_at_its_end_is_sealed_until_it_is_told() {
    let memory = memory();
    let store = over(&memory, sealing(&["a"]));
    let locator = created(&store).await;
    store.revoke(locator, End::Asked).await.unwrap();
    let kept = memory.last_state(locator).await.unwrap().expect("nobody was told yet");
    assert_eq!(kept.seal, Seal::Under(KeyId::new("a").unwrap()));
    assert!(!format!("{:?}", kept.attributes).contains("canary"), "{kept:?}");
    let told = store.last_state(locator).await.unwrap().expect("nobody was told yet");
    assert_eq!((told.attributes, told.seal), (record().attributes, Seal::Open));
    let other = over(&memory, sealing(&["b"])).last_state(locator).await;
    assert!(matches!(other, Err(StoreError::Unreadable(_))), "{other:?}");
    assert_eq!(store.last_state(Locator::random()).await.unwrap(), None);
}

#[tokio::test]
async fn what_a_session_held_at_its_end_is_unpacked() {
    for ring in [sealing(&["a"]), off(&[])] {
        let memory = memory();
        let store = packing(&memory, ring);
        let locator = created(&store).await;
        let mine = claimed(&store, locator).await;
        let reply = set_large(&store, locator, &mine).await;
        assert!(matches!(reply, WriteReply::Written { .. }), "{reply:?}");
        store.revoke(locator, End::Asked).await.unwrap();
        let kept = memory.last_state(locator).await.unwrap().expect("nobody was told yet");
        assert!(kept.attributes["large"].len() < large().len(), "it is packed");
        let told = store.last_state(locator).await.unwrap().expect("nobody was told yet");
        assert_eq!((&told.attributes["large"], told.seal), (&large(), Seal::Open));
        assert_eq!(&*told.attributes["cart"], CANARY);
    }
}
