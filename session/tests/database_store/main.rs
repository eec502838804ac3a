//! The database store on SQLite and on PostgreSQL: the same answers as the specification, also when nodes race, and
//! nothing that was answered lost when the process is killed. A machine without PostgreSQL fails them: `make test` installs
//! it.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "the helpers of a test may do what the test may"
)]

mod bench;
mod conformance;
mod races;
mod survival;

use std::collections::BTreeMap;
use std::time::Duration;

use understudy_runtime::lease::LeaseStore as _;
use understudy_session::packing::Packing;
use understudy_session::record::{Fence, KeyId, Locator, Record, Seal, Token};
use understudy_session::store::{
    ClaimReply, CreateReply, End, EndReason, ReadReply, RestoreReply, RevokeReply,
    SessionRegister as _, SessionStore as _, StoreError,
};

use bench::{BUCKET, Bench, HOUR_MS, LEASE, found, node, postgres, record, sealed, set, sqlite};

#[tokio::test]
async fn a_record_comes_back_as_it_was_attributes_byte_for_byte() {
    for bench in [sqlite().await, postgres().await] {
        let (locator, token) = (Locator::random(), Token::new(&node("a")));
        let wanted = record(&token);
        let created = bench.store.create(locator, &wanted, HOUR_MS).await.unwrap();
        let CreateReply::Created { now_ms } = created else { panic!("{created:?}") };
        let stored = found(&bench.store, locator).await;
        let times = (stored.created_ms, stored.last_access_ms, stored.absolute_ms);
        assert_eq!(times, (now_ms, now_ms, now_ms + HOUR_MS));
        let expected =
            Record { created_ms: now_ms, last_access_ms: now_ms, absolute_ms: times.2, ..wanted };
        assert_eq!(stored, expected);
        let again = bench.store.create(locator, &expected, HOUR_MS).await.unwrap();
        assert_eq!(again, CreateReply::Exists);
    }
}

#[tokio::test]
async fn what_is_no_json_is_refused_and_what_cannot_be_read_stays_as_it_is() {
    let bench = sqlite().await;
    let (locator, token) = (Locator::random(), Token::new(&node("a")));
    let good = record(&token);
    let (_, bad) = set(&good, "bad", "{]");
    let error = bench.store.create(locator, &bad, HOUR_MS).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
    bench.store.create(locator, &good, HOUR_MS).await.unwrap();
    bench.run("UPDATE us_session SET attributes = 'spoilt'").await;
    let error = bench.store.read(locator).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreadable(_)), "{error}");
}

#[tokio::test]
async fn x6_a_record_under_an_unknown_key_is_not_touched_owned_or_not() {
    for bench in [sqlite().await, postgres().await] {
        let (locator, token) = (Locator::random(), Token::new(&node("a")));
        let store = sealed(bench.store.clone(), "a");
        store.create(locator, &record(&token), HOUR_MS).await.unwrap();
        let fence = Fence { token, epoch: 1 };
        // Of a node that has gone without a lease; then of nobody.
        for released in [false, true] {
            assert!(!released || store.release(locator, &fence).await.unwrap());
            let before = found(&bench.store, locator).await;
            assert!(!format!("{:?}", before.attributes).contains("1.50"), "{before:?}");
            for other in [sealed(bench.store.clone(), "b"), sealed(bench.store.clone(), "c")] {
                let claimed = other.claim(locator, &Token::new(&node("b")), None).await;
                let error = claimed.unwrap_err();
                assert!(matches!(error, StoreError::Unreadable(_)), "{error}");
                assert!(error.to_string().contains("`a`"), "{error}");
            }
            assert_eq!(found(&bench.store, locator).await, before);
        }
        // What a program that does not know of seals goes by: it finds no owner's node missing, and no object.
        let untouched = "SELECT 1 AS one FROM us_session WHERE owner IS NULL AND owner_node = '-' \
                         AND seal = 'a' AND attributes LIKE '[{%}]'";
        bench.until("the row says that it is sealed", untouched).await;
        let reply = store.claim(locator, &Token::new(&node("b")), None).await.unwrap();
        let ClaimReply::Claimed { record: Some(own), .. } = reply else { panic!("{reply:?}") };
        assert_eq!(own.attributes, record(&fence.token).attributes);
        what_may_be_packed_is_left_alone(&bench).await;
    }
}

/// By a store that knows no form of that name, as one from before packing does.
async fn what_may_be_packed_is_left_alone(bench: &Bench) {
    let (locator, token) = (Locator::random(), Token::new(&node("a")));
    let store = sealed(bench.store.clone(), "a").packing(Packing::new(1, 1_000));
    let packed = Record { seal: Seal::Packed, ..record(&token) };
    store.create(locator, &packed, HOUR_MS).await.unwrap();
    let before = found(&bench.store, locator).await;
    assert_eq!(before.seal.key().map(KeyId::as_str), Some("a+z"));
    let error = bench.store.claim(locator, &Token::new(&node("b")), None).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreadable(_)), "{error}");
    assert_eq!(found(&bench.store, locator).await, before);
    let reply = store.claim(locator, &Token::new(&node("b")), None).await.unwrap();
    let ClaimReply::Claimed { record: Some(own), .. } = reply else { panic!("{reply:?}") };
    assert_eq!((&own.attributes, &own.seal), (&packed.attributes, &Seal::Packed));
}

#[tokio::test]
async fn leases_end_by_time_by_release_and_by_eviction() {
    for bench in [sqlite().await, postgres().await] {
        let (own, ttl) = (node("a"), Duration::from_millis(500));
        let first = bench.leases.renew(BUCKET, &own, ttl).await.unwrap();
        let second = bench.leases.renew(BUCKET, &own, ttl).await.unwrap();
        assert!(!first.continuous && second.continuous);
        assert_eq!(first.server_id, second.server_id);
        // Time itself is what is tested: no statement is given a clock of its own.
        tokio::time::sleep(ttl + Duration::from_millis(20)).await;
        assert!(!bench.leases.renew(BUCKET, &own, ttl).await.unwrap().continuous);
        bench.leases.drop_node(BUCKET, &own).await.unwrap();
        assert!(!bench.leases.renew(BUCKET, &own, LEASE).await.unwrap().continuous);
        let (locator, token) = (Locator::random(), Token::new(&own));
        bench.store.create(locator, &record(&token), HOUR_MS).await.unwrap();
        let other = Token::new(&node("b"));
        let reply = bench.store.claim(locator, &other, None).await.unwrap();
        assert!(matches!(reply, ClaimReply::Owned { ref node, .. } if *node == own), "{reply:?}");
        bench.leases.evict(&own).await.unwrap();
        assert!(bench.leases.renew(BUCKET, &own, LEASE).await.unwrap().evicted);
        let reply = bench.store.claim(locator, &other, None).await.unwrap();
        assert!(matches!(reply, ClaimReply::Claimed { epoch: 2, .. }), "{reply:?}");
        bench.leases.clear_all().await.unwrap();
        assert!(!bench.leases.renew(BUCKET, &own, LEASE).await.unwrap().evicted);
    }
}

/// PostgreSQL has texts in the order of its collation: in that of the harness `~` comes behind all digits, in this one, and
/// in `en_US.UTF-8`, before them.
#[tokio::test]
async fn ids_are_found_by_their_beginning_whatever_the_collation() {
    let bench = postgres().await;
    let collate = "ALTER TABLE us_session ALTER COLUMN public_id TYPE text COLLATE \"en-US-x-icu\"";
    bench.run(collate).await;
    bench.until("`~` is before digits", "SELECT 1 WHERE '~' < '0' COLLATE \"en-US-x-icu\"").await;
    let token = Token::new(&node("a"));
    let mut missed = Vec::new();
    for number in 0..32 {
        let locator = Locator::from_bytes([number; 16]);
        bench.store.create(locator, &record(&token), HOUR_MS).await.unwrap();
        let id = locator.public_id();
        for digits in [8, 12, 31, 32] {
            if bench.store.find(&id[..digits]).await.unwrap() != [locator] {
                missed.push(id[..digits].to_owned());
            }
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

#[tokio::test]
async fn sessions_end_by_time_and_tombstones_stand() {
    for bench in [sqlite().await, postgres().await] {
        let token = Token::new(&node("a"));
        let (short, long, ended) = (Locator::random(), Locator::random(), Locator::random());
        bench.store.create(short, &record(&token), 30).await.unwrap();
        bench.store.create(long, &record(&token), HOUR_MS).await.unwrap();
        bench.store.create(ended, &record(&token), HOUR_MS).await.unwrap();
        let gone = RevokeReply::Revoked { owner: Some(token.clone()) };
        assert_eq!(bench.store.revoke(ended, End::Asked).await.unwrap(), gone);
        assert_eq!(bench.store.revoke(ended, End::Asked).await.unwrap(), gone);
        // Time itself is what is tested; looking meanwhile would be an access.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(bench.store.claim(short, &token, None).await.unwrap(), ClaimReply::Expired);
        let swept = bench.store.sweep(BUCKET, 100, None).await.unwrap();
        let swept = swept.expired.iter().map(|told| (told.locator, told.reason));
        let wanted = [(short, EndReason::Absolute), (ended, EndReason::Logout)];
        assert_eq!(swept.collect::<BTreeMap<_, _>>(), BTreeMap::from(wanted));
        assert_eq!(bench.store.claim(short, &token, None).await.unwrap(), ClaimReply::Missing);
        assert_eq!(bench.store.read(ended).await.unwrap(), ReadReply::Revoked);
        let copy = Record { version: 9, ..record(&token) };
        assert_eq!(bench.store.restore(ended, &copy).await.unwrap(), RestoreReply::Revoked);
        assert_eq!(bench.store.restore(short, &copy).await.unwrap(), RestoreReply::Refused);
        assert_eq!(bench.store.restore(long, &copy).await.unwrap(), RestoreReply::Restored);
        assert_eq!(found(&bench.store, long).await, copy);
    }
}
