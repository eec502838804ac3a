//! Who owns a session, and who may take it over.

use super::bench::{Bench, LONG, blank, ms, node, set};
use crate::record::{Fence, Locator, OpId, Token};
use crate::store::{
    ClaimReply, CreateReply, End, ReadReply, RestoreReply, RevokeReply, ValidateReply, WriteReply,
};

pub(super) async fn a_new_session_is_owned_at_epoch_one(bench: &Bench<'_>) {
    let owner = node("a");
    let locator = bench.locator().await;
    let wanted = blank(&owner);
    let reply = bench.store.create(locator, &wanted, 60_000).await.expect("create answers");
    let CreateReply::Created { now_ms } = reply else { panic!("create: {reply:?}") };
    let stored = bench.found(locator).await;
    assert_eq!((stored.epoch, stored.version), (1, 1));
    assert_eq!(stored.owner, wanted.owner);
    assert_eq!((stored.created_ms, stored.last_access_ms), (now_ms, now_ms), "the store's now");
    assert_eq!(stored.absolute_ms, now_ms + 60_000, "now and the lifetime");
}

pub(super) async fn a_locator_is_given_out_once(bench: &Bench<'_>) {
    let first = bench.session(&node("a")).await;
    let again = || async {
        let other = blank(&node("b"));
        bench.store.create(first.locator, &other, ms(LONG)).await.expect("create answers")
    };
    assert_eq!(again().await, CreateReply::Exists);
    assert_eq!(bench.found(first.locator).await, first.record, "nothing was changed");
    bench.store.revoke(first.locator, End::Asked).await.expect("revoke answers");
    assert_eq!(again().await, CreateReply::Exists, "a tombstone takes the place, too");
}

pub(super) async fn a_claim_raises_the_epoch_and_fences_the_owner_before(bench: &Bench<'_>) {
    let first = bench.session(&node("a")).await;
    let mut second = bench.claimed(first.locator, &node("b")).await;
    assert_eq!(second.fence.epoch, 2);
    let reply = bench.write(&first, &set("n", "1"), OpId::random()).await;
    assert_eq!(reply, WriteReply::Fenced);
    let reply = bench.store.validate(first.locator, &first.fence, 1).await.expect("it answers");
    assert_eq!(reply, ValidateReply::Fenced);
    bench.written(&mut second, &set("n", "2")).await;
    let third = bench.claimed(first.locator, &node("a")).await;
    assert_eq!(third.fence.epoch, 3);
    assert_eq!(third.record.attributes, second.record.attributes, "what was written goes along");
}

pub(super) async fn a_node_may_claim_its_own_session_again(bench: &Bench<'_>) {
    let owner = node("a");
    let first = bench.session(&owner).await;
    bench.alive(&owner, first.locator, LONG).await;
    let second = bench.claimed(first.locator, &owner).await;
    assert_eq!(second.fence.epoch, 2);
    let reply = bench.write(&first, &set("n", "1"), OpId::random()).await;
    assert_eq!(reply, WriteReply::Fenced, "its earlier token is fenced");
}

pub(super) async fn both_token_and_epoch_must_fit(bench: &Bench<'_>) {
    let owner = node("a");
    let owned = bench.session(&owner).await;
    let other_token = Fence { token: Token::new(&owner), epoch: owned.fence.epoch };
    let other_epoch = Fence { epoch: 2, ..owned.fence.clone() };
    for fence in [other_token, other_epoch] {
        let forged = super::bench::Owned { fence: fence.clone(), ..owned.clone() };
        let reply = bench.write(&forged, &set("n", "1"), OpId::random()).await;
        assert_eq!(reply, WriteReply::Fenced, "{fence:?}");
        let reply = bench.store.validate(owned.locator, &fence, 1).await.expect("it answers");
        assert_eq!(reply, ValidateReply::Fenced, "{fence:?}");
    }
    assert_eq!(bench.found(owned.locator).await, owned.record, "nothing was changed");
}

pub(super) async fn a_live_lease_refuses_other_nodes(bench: &Bench<'_>) {
    let owner = node("a");
    let owned = bench.session(&owner).await;
    bench.alive(&owner, owned.locator, LONG).await;
    match bench.claim(owned.locator, &Token::new(&node("b"))).await {
        ClaimReply::Owned { node, remaining_ms, record, now_ms } => {
            assert_eq!(node, owner);
            assert!((1..=ms(LONG)).contains(&remaining_ms), "remaining: {remaining_ms} ms");
            assert_eq!(*record, owned.record, "the record comes along");
            assert!(now_ms >= owned.record.created_ms, "the store's clock");
        }
        other => panic!("the owner's lease is live: {other:?}"),
    }
    assert_eq!(bench.found(owned.locator).await, owned.record, "it is no access");
}

pub(super) async fn a_lease_that_ran_out_lets_others_claim(bench: &Bench<'_>) {
    let owner = node("a");
    let owned = bench.session(&owner).await;
    bench.alive(&owner, owned.locator, bench.fixture.lease()).await;
    let other = Token::new(&node("b"));
    let reply = bench.claim(owned.locator, &other).await;
    let ClaimReply::Owned { remaining_ms, .. } = reply else { panic!("still live: {reply:?}") };
    assert!(remaining_ms <= ms(bench.fixture.lease()), "remaining: {remaining_ms} ms");
    bench.fixture.pass(std::time::Duration::from_millis(remaining_ms + 1)).await;
    bench.claimed(owned.locator, &node("b")).await;
}

pub(super) async fn a_node_that_started_anew_is_another_node(bench: &Bench<'_>) {
    let (before, after) = (node("a"), node("a"));
    let owned = bench.session(&before).await;
    bench.alive(&before, owned.locator, LONG).await;
    bench.alive(&after, owned.locator, LONG).await;
    let reply = bench.claim(owned.locator, &Token::new(&after)).await;
    assert!(matches!(&reply, ClaimReply::Owned { node, .. } if *node == before), "{reply:?}");
    let bucket = bench.fixture.bucket(owned.locator);
    bench.leases.drop_node(bucket, &before).await.expect("drop_node answers");
    bench.claimed(owned.locator, &after).await;
}

pub(super) async fn a_release_lets_others_claim_at_once(bench: &Bench<'_>) {
    let owner = node("a");
    let owned = bench.session(&owner).await;
    bench.alive(&owner, owned.locator, LONG).await;
    assert!(bench.store.release(owned.locator, &owned.fence).await.expect("release answers"));
    let stored = bench.found(owned.locator).await;
    assert_eq!((stored.owner, stored.epoch), (None, 1), "the epoch stays");
    let reply = bench.write(&owned, &set("n", "1"), OpId::random()).await;
    assert_eq!(reply, WriteReply::Fenced, "who gave it up owns it no more");
    assert_eq!(bench.claimed(owned.locator, &node("b")).await.fence.epoch, 2);
}

pub(super) async fn a_release_behind_an_old_fence_does_nothing(bench: &Bench<'_>) {
    let first = bench.session(&node("a")).await;
    let second = bench.claimed(first.locator, &node("b")).await;
    assert!(!bench.store.release(first.locator, &first.fence).await.expect("release answers"));
    assert_eq!(bench.found(first.locator).await.owner, Some(second.fence.token));
}

pub(super) async fn a_claim_leaves_out_a_record_that_is_known(bench: &Bench<'_>) {
    let owned = bench.session(&node("a")).await;
    for (known, comes) in [(1, false), (2, true), (0, true)] {
        let token = Token::new(&node("a"));
        let reply = bench.store.claim(owned.locator, &token, Some(known)).await;
        match reply.expect("claim answers") {
            ClaimReply::Claimed { version: 1, record, .. } => {
                assert_eq!(record.is_some(), comes, "known version {known}");
            }
            other => panic!("a claim that nobody stands against: {other:?}"),
        }
    }
}

pub(super) async fn nothing_can_be_done_with_a_session_that_is_missing(bench: &Bench<'_>) {
    let mut owned = bench.session(&node("a")).await;
    owned.locator = bench.locator().await;
    let (store, locator): (_, Locator) = (&bench.store, owned.locator);
    assert_eq!(bench.read(locator).await, ReadReply::Missing);
    assert_eq!(bench.claim(locator, &owned.fence.token).await, ClaimReply::Missing);
    let reply = bench.write(&owned, &set("n", "1"), OpId::random()).await;
    assert_eq!(reply, WriteReply::Missing);
    let reply = store.validate(locator, &owned.fence, 1).await.expect("validate answers");
    assert_eq!(reply, ValidateReply::Missing);
    let reply = store.restore(locator, &owned.record).await.expect("restore answers");
    assert_eq!(reply, RestoreReply::Refused, "nobody lost it");
    assert_eq!(
        store.revoke(locator, End::Asked).await.expect("revoke answers"),
        RevokeReply::Missing
    );
    assert!(!store.release(locator, &owned.fence).await.expect("release answers"));
    store.touch(locator).await.expect("touch answers");
    assert_eq!(bench.read(locator).await, ReadReply::Missing, "nothing of it made one");
}
