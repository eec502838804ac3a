//! What happens when the store forgets: a restart, or a failover that lost writes.

use std::time::Duration;

use super::Remembered;
use super::bench::{Bench, LONG, Owned, blank, ms, node, set};
use crate::record::{Change, Fence, Locator, OpId, Record, Token};
use crate::store::{
    ClaimReply, CreateReply, End, ReadReply, RestoreReply, RevokeReply, WriteReply,
};
use understudy_runtime::lease::Settled;

async fn restore(bench: &Bench<'_>, owned: &Owned) -> RestoreReply {
    bench.store.restore(owned.locator, &owned.record).await.expect("restore answers")
}

pub(super) async fn an_owner_puts_back_a_newer_copy(bench: &Bench<'_>) {
    let mut owned = bench.session(&node("a")).await;
    assert_eq!(restore(bench, &owned).await, RestoreReply::Refused, "the store is as new");
    bench.written(&mut owned, &set("gone", "1")).await;
    // As if the store had lost two writes: the owner has them, the store does not.
    let lost = Change { remove: vec!["gone".into()], ..set("n", "2") };
    for _ in 0..2 {
        owned.record = owned.after(&lost, OpId::random());
    }
    assert_eq!(restore(bench, &owned).await, RestoreReply::Restored);
    assert_eq!(bench.found(owned.locator).await, owned.record, "exactly the owner's copy");
    assert_eq!(restore(bench, &owned).await, RestoreReply::Refused, "it is there now");
    bench.written(&mut owned, &set("n", "3")).await;
    let older = Owned { record: Record { version: 2, ..owned.record.clone() }, ..owned };
    assert_eq!(restore(bench, &older).await, RestoreReply::Refused, "never an older one");
}

pub(super) async fn outside_the_grace_nothing_else_is_put_back(bench: &Bench<'_>) {
    let owned = bench.session(&node("a")).await;
    let mut other = owned.clone();
    other.record.version = 9;
    other.record.epoch = 2;
    other.record.owner = Some(Token::new(&node("b")));
    assert_eq!(restore(bench, &other).await, RestoreReply::Refused, "a higher epoch");
    other.record.epoch = 1;
    assert_eq!(restore(bench, &other).await, RestoreReply::Refused, "another token");
    let missing = Owned { locator: bench.locator().await, ..owned.clone() };
    assert_eq!(restore(bench, &missing).await, RestoreReply::Refused, "missing");
    assert_eq!(bench.read(missing.locator).await, ReadReply::Missing);
    assert_eq!(bench.found(owned.locator).await, owned.record, "nothing was changed");
}

/// A node and a session of it on a server that has just changed, and heard of the node.
async fn after_a_change(bench: &Bench<'_>) -> Option<(Remembered, Owned)> {
    let owner = node("a");
    let owned = bench.session(&owner).await;
    let remembered = bench.fixture.change_identity().await?;
    bench.alive(&owner, owned.locator, bench.fixture.lease()).await;
    Some((remembered, owned))
}

pub(super) async fn a_changed_server_lets_nobody_claim_for_a_while(bench: &Bench<'_>) {
    let Some((remembered, owned)) = after_a_change(bench).await else { return };
    let owner = owned.fence.token.node().expect("a token of ours");
    let mut longest = 0;
    for token in [Token::new(&node("b")), Token::new(&owner)] {
        match bench.claim(owned.locator, &token).await {
            ClaimReply::Grace { remaining_ms } => longest = longest.max(remaining_ms),
            other => panic!("not even the owner may claim in the grace: {other:?}"),
        }
    }
    assert!((1..=ms(bench.fixture.lease())).contains(&longest), "{longest} ms of grace");
    let reply = bench.claim(Locator::random(), &owned.fence.token).await;
    assert!(matches!(reply, ClaimReply::Grace { .. }), "what is missing may come back: {reply:?}");
    bench.fixture.pass(Duration::from_millis(longest + 1)).await;
    match remembered {
        Remembered::Everything => {
            let claimed = bench.claimed(owned.locator, &owner).await;
            assert_eq!(claimed.fence.epoch, owned.fence.epoch + 1);
        }
        Remembered::Nothing => {
            let reply = bench.claim(owned.locator, &owned.fence.token).await;
            assert_eq!(reply, ClaimReply::Missing);
        }
    }
}

pub(super) async fn in_the_grace_owners_put_back_what_is_missing_or_older(bench: &Bench<'_>) {
    let Some((_, known)) = after_a_change(bench).await else { return };
    // A session of which the server never knew, or knows no more.
    let copy = |owned: &Owned, epoch, version| {
        let token = Token::new(&node("a"));
        let record = Record { owner: Some(token.clone()), epoch, version, ..owned.record.clone() };
        Owned { fence: Fence { token, epoch }, record, ..owned.clone() }
    };
    let locator = Locator::random();
    if bench.fixture.bucket(locator) != bench.fixture.bucket(known.locator) {
        bench.alive(&node("a"), locator, bench.fixture.lease()).await;
    }
    let first = copy(&Owned { locator, ..known.clone() }, 2, 5);
    assert_eq!(restore(bench, &first).await, RestoreReply::Restored, "missing");
    assert_eq!(bench.found(locator).await, first.record);
    let newer = copy(&first, 3, 4);
    assert_eq!(restore(bench, &newer).await, RestoreReply::Restored, "the epoch decides");
    assert_eq!(restore(bench, &first).await, RestoreReply::Refused, "never an older one");
    let rival = copy(&newer, 3, 9);
    assert_eq!(restore(bench, &rival).await, RestoreReply::Refused, "same epoch, another token");
    let reply = bench.write(&newer, &set("n", "1"), OpId::random()).await;
    assert!(matches!(reply, WriteReply::Written { version: 5, .. }), "it goes on: {reply:?}");
}

pub(super) async fn a_copy_of_what_has_ended_does_not_replace_what_began_after_it(
    bench: &Bench<'_>,
) {
    let ended = bench.session(&node("a")).await;
    if bench.fixture.change_identity().await.is_none() {
        return;
    }
    // A child that has begun again under its name, and a node that still has a copy of the one before, which was used more.
    let locator = Locator::random();
    let owner = Some(Token::new(&node("a")));
    let before = Owned {
        locator,
        record: Record { owner, epoch: 90, version: 9, ..ended.record.clone() },
        ..ended
    };
    let next = Record { owner: None, epoch: 1_000, ..blank(&node("b")) };
    let reply = bench.store.create(locator, &next, ms(LONG)).await.expect("create answers");
    assert!(matches!(reply, CreateReply::Created { .. }), "{reply:?}");
    // The copy is the first that a server hears which has just changed.
    assert_eq!(restore(bench, &before).await, RestoreReply::Refused);
    let found = bench.found(locator).await;
    assert_eq!((found.epoch, found.version), (1_000, 1));
}

pub(super) async fn a_copy_may_be_the_first_that_a_changed_server_hears(bench: &Bench<'_>) {
    let mut owned = bench.session(&node("a")).await;
    if bench.fixture.change_identity().await.is_none() {
        return;
    }
    // Its owner has not heard of the change: it learns by a write that is refused.
    owned.fence = Fence { token: owned.fence.token.clone(), epoch: 2 };
    owned.record.epoch = 2;
    assert_eq!(restore(bench, &owned).await, RestoreReply::Restored);
    let reply = bench.claim(owned.locator, &Token::new(&node("b"))).await;
    assert!(matches!(reply, ClaimReply::Grace { .. }), "the grace began with it: {reply:?}");
}

pub(super) async fn what_was_ended_while_it_was_missing_is_not_put_back(bench: &Bench<'_>) {
    let Some((_, known)) = after_a_change(bench).await else { return };
    let locator = Locator::random();
    let lost = Owned { locator, ..known };
    let revoke = async |end| bench.store.revoke(locator, end).await.expect("revoke answers");
    assert_eq!(revoke(End::OutOfTime).await, RevokeReply::Missing);
    assert_eq!(bench.read(locator).await, ReadReply::Missing, "its owner knows that it is over");
    assert_eq!(revoke(End::Asked).await, RevokeReply::Missing);
    assert_eq!(restore(bench, &lost).await, RestoreReply::Revoked);
    assert_eq!(bench.read(locator).await, ReadReply::Revoked);
    assert_eq!(revoke(End::Asked).await, RevokeReply::Revoked { owner: None }, "sent again");
    let reply = bench.store.create(locator, &lost.record, ms(LONG)).await.expect("create answers");
    assert_eq!(reply, CreateReply::Exists);
}

pub(super) async fn an_end_may_be_the_first_that_a_changed_server_hears(bench: &Bench<'_>) {
    let known = bench.session(&node("a")).await;
    if bench.fixture.change_identity().await.is_none() {
        return;
    }
    let lost = Owned { locator: Locator::random(), ..known };
    let reply = bench.store.revoke(lost.locator, End::Asked).await.expect("revoke answers");
    assert_eq!(reply, RevokeReply::Missing);
    assert_eq!(restore(bench, &lost).await, RestoreReply::Revoked);
}

pub(super) async fn the_grace_ends_when_all_have_settled(bench: &Bench<'_>) {
    let locator = bench.locator().await;
    let nodes = [node("a"), node("b"), node("c")];
    let lost = Record { epoch: 2, ..blank(&nodes[0]) };
    let mut record = bench.session(&nodes[0]).await.record;
    record = Record { owner: lost.owner, epoch: 2, ..record };
    if bench.fixture.change_identity().await.is_none() {
        return;
    }
    let bucket = bench.fixture.bucket(locator);
    let [a, b, c] = &nodes;
    let mut server = String::new();
    for node in [a, b] {
        let renewed = bench.leases.renew(bucket, node, bench.fixture.lease()).await;
        server = renewed.expect("renew answers").server_id;
    }
    let settle = |node, server: &str, others: Vec<_>| {
        let (leases, server) = (&bench.leases, server.to_owned());
        async move { leases.settle(bucket, node, &server, others).await.expect("settle answers") }
    };
    let reply = bench.store.restore(locator, &record).await.expect("restore answers");
    assert_eq!(reply, RestoreReply::Restored);
    let meant_for_another = settle(a, "another server", vec![]).await;
    assert_eq!(meant_for_another, Settled::OtherServer);
    let unknown = settle(c, &server, vec![]).await;
    assert_eq!(unknown, Settled::OtherServer, "it holds no lease of this server");
    let first = settle(a, &server, vec![b.clone()]).await;
    assert!(matches!(first, Settled::Waiting { .. }), "b has not settled: {first:?}");
    let claim = bench.claim(locator, &Token::new(b)).await;
    assert!(matches!(claim, ClaimReply::Grace { .. }), "{claim:?}");
    assert_eq!(settle(b, &server, vec![a.clone()]).await, Settled::Open);
    let claim = bench.claim(locator, &Token::new(b)).await;
    assert!(matches!(claim, ClaimReply::Owned { .. }), "open, and a's lease is live: {claim:?}");
    bench.alive(a, locator, LONG).await;
    bench.claimed(locator, a).await;
}
