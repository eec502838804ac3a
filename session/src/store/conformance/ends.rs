//! How sessions end: on purpose, unused, or at their deadline.

use std::time::Duration;

use super::bench::{Bench, LONG, blank, ms, node, set};
use crate::record::{Locator, OpId, Record, Token};
use crate::store::{
    ClaimReply, CreateReply, End, ReadReply, RestoreReply, RevokeReply, ValidateReply, WriteReply,
};

/// An idle limit that ends within a case; long enough for a slow machine not to miss it.
const IDLE: Duration = Duration::from_millis(1_000);

pub(super) async fn a_revoked_session_refuses_everything(bench: &Bench<'_>) {
    let mut owned = bench.session(&node("a")).await;
    let op_id = bench.written(&mut owned, &set("n", "1")).await;
    let (store, locator) = (&bench.store, owned.locator);
    let ended = RevokeReply::Revoked { owner: Some(owned.fence.token.clone()) };
    assert_eq!(store.revoke(locator, End::Asked).await.expect("revoke answers"), ended);
    let again = store.revoke(locator, End::Asked).await.expect("revoke answers");
    assert_eq!(again, ended, "sent again it tells the owner again");
    assert_eq!(bench.read(locator).await, ReadReply::Revoked);
    assert_eq!(bench.claim(locator, &owned.fence.token).await, ClaimReply::Revoked);
    for op_id in [OpId::random(), op_id] {
        let reply = bench.write(&owned, &set("n", "2"), op_id).await;
        assert_eq!(reply, WriteReply::Revoked, "an end goes before a repeated write");
    }
    let reply = store.validate(locator, &owned.fence, 2).await.expect("validate answers");
    assert_eq!(reply, ValidateReply::Revoked);
    let newer = Record { version: 99, epoch: 99, ..owned.record.clone() };
    let reply = store.restore(locator, &newer).await.expect("restore answers");
    assert_eq!(reply, RestoreReply::Revoked);
    assert!(!store.release(locator, &owned.fence).await.expect("release answers"));
    store.touch(locator).await.expect("touch answers");
    let reply = store.create(locator, &blank(&node("b")), ms(LONG)).await.expect("it answers");
    assert_eq!(reply, CreateReply::Exists);
    // The tombstone outlives leases of nodes that have not heard of it.
    bench.fixture.pass(bench.fixture.lease() * 2 - Duration::from_millis(1)).await;
    assert_eq!(bench.read(locator).await, ReadReply::Revoked);
}

pub(super) async fn a_session_is_revoked_under_a_live_lease(bench: &Bench<'_>) {
    let owner = node("a");
    let owned = bench.session(&owner).await;
    bench.alive(&owner, owned.locator, LONG).await;
    let reply = bench.store.revoke(owned.locator, End::Asked).await.expect("revoke answers");
    assert_eq!(reply, RevokeReply::Revoked { owner: Some(owned.fence.token.clone()) });
    let released = bench.session(&owner).await;
    bench.store.release(released.locator, &released.fence).await.expect("release answers");
    let reply = bench.store.revoke(released.locator, End::Asked).await.expect("revoke answers");
    assert_eq!(reply, RevokeReply::Revoked { owner: None }, "nobody owned it");
}

async fn idle_session(bench: &Bench<'_>) -> Locator {
    let record = Record { idle_ms: ms(IDLE), ..blank(&node("a")) };
    bench.session_like(&record, LONG).await.locator
}

async fn assert_over(bench: &Bench<'_>, locator: Locator, why: &str) {
    let reply = bench.claim(locator, &Token::new(&node("b"))).await;
    // A store whose entries expire by themselves may have forgotten it already.
    assert!(matches!(reply, ClaimReply::Expired | ClaimReply::Missing), "{why}: {reply:?}");
}

pub(super) async fn an_unused_session_ends(bench: &Bench<'_>) {
    let locator = idle_session(bench).await;
    bench.fixture.pass(IDLE + bench.fixture.touch_slack() + Duration::from_millis(1)).await;
    assert_over(bench, locator, "unused for longer than its idle limit and the slack").await;
}

pub(super) async fn a_claim_and_a_touch_are_accesses(bench: &Bench<'_>) {
    let locator = idle_session(bench).await;
    let limit = IDLE + bench.fixture.touch_slack();
    // A third of the limit each time: without the accesses it would be over in between.
    for _ in 0..4 {
        bench.fixture.pass(limit / 3).await;
        bench.claimed(locator, &node("b")).await;
    }
    for _ in 0..4 {
        bench.fixture.pass(limit / 3).await;
        bench.store.touch(locator).await.expect("touch answers");
    }
    bench.claimed(locator, &node("c")).await;
    bench.fixture.pass(limit + Duration::from_millis(2)).await;
    bench.store.touch(locator).await.expect("touch answers");
    assert_over(bench, locator, "a touch that comes too late").await;
}

pub(super) async fn a_session_ends_at_its_absolute_deadline(bench: &Bench<'_>) {
    let owned = bench.session_like(&blank(&node("a")), IDLE).await;
    bench.fixture.pass(IDLE / 2).await;
    bench.claimed(owned.locator, &node("a")).await;
    bench.fixture.pass(IDLE / 2 + Duration::from_millis(1)).await;
    bench.store.touch(owned.locator).await.expect("touch answers");
    assert_over(bench, owned.locator, "past its absolute deadline").await;
}

pub(super) async fn a_touch_never_goes_back(bench: &Bench<'_>) {
    let owned = bench.session(&node("a")).await;
    let mut latest = owned.record.last_access_ms;
    for step in [0, 5, 0, 7] {
        bench.fixture.pass(Duration::from_millis(step)).await;
        bench.store.touch(owned.locator).await.expect("touch answers");
        let stored = bench.found(owned.locator).await;
        assert!(stored.last_access_ms >= latest + step, "{latest} + {step}: {stored:?}");
        latest = stored.last_access_ms;
        assert_eq!(
            Record { last_access_ms: 0, ..stored },
            Record { last_access_ms: 0, ..owned.record.clone() }
        );
    }
}
