//! How sessions that ran out of time are swept, and told: each once, and no other.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;

use super::Remembered;
use super::bench::{Bench, LONG, Owned, blank, ms, node, set};
use crate::record::{Change, Locator, Record, Seal, Token};
use crate::store::{
    ClaimReply, End, EndReason, Expired, ReadReply, RestoreReply, RevokeReply, Swept,
};

/// An idle limit that ends within a case; long enough for a slow machine not to miss it.
const IDLE: Duration = Duration::from_millis(2_000);
/// A millisecond more than nothing.
const BEYOND: Duration = Duration::from_millis(2);

async fn idle_session(bench: &Bench<'_>) -> Owned {
    let record = Record { idle_ms: ms(IDLE), ..blank(&node("a")) };
    bench.session_like(&record, LONG).await
}

async fn sessions(bench: &Bench<'_>, count: usize) -> Vec<Owned> {
    join_all((0..count).map(|_| idle_session(bench))).await
}

/// As long as an unused session lives, and a little more.
fn life(bench: &Bench<'_>) -> Duration {
    IDLE + bench.fixture.touch_slack() + BEYOND
}

async fn swept(bench: &Bench<'_>, locator: Locator, hold: Option<Duration>) -> Swept {
    let bucket = bench.fixture.bucket(locator);
    bench.store.sweep(bucket, 7, hold).await.expect("sweep answers")
}

/// Sweeps until nothing is due any more; gives what concerns these sessions, however often.
async fn sweep(bench: &Bench<'_>, owned: &[Owned], hold: Option<Duration>) -> Vec<Expired> {
    let mut all = Vec::new();
    let mut buckets = BTreeMap::new();
    for session in owned {
        buckets.insert(bench.fixture.bucket(session.locator).0, session.locator);
    }
    for locator in buckets.into_values() {
        loop {
            let swept = swept(bench, locator, hold).await;
            all.extend(swept.expired);
            if !swept.more {
                break;
            }
        }
    }
    all.retain(|expired| owned.iter().any(|session| session.locator == expired.locator));
    all
}

fn locators(expired: &[Expired]) -> Vec<Locator> {
    let mut locators: Vec<Locator> = expired.iter().map(|expired| expired.locator).collect();
    locators.sort();
    locators
}

fn sorted(owned: &[Owned]) -> Vec<Locator> {
    let mut locators: Vec<Locator> = owned.iter().map(|session| session.locator).collect();
    locators.sort();
    locators
}

pub(super) async fn what_is_over_is_handed_out_once_and_nothing_else(bench: &Bench<'_>) {
    let mut over = sessions(bench, 20).await;
    let user = Change { user: Some(Some("Zoë|=\"x\"".into())), ..set("n", "1") };
    bench.written(&mut over[0], &user).await;
    let kept = bench.session(&node("a")).await;
    let all: Vec<Owned> = over.iter().chain([&kept]).cloned().collect();
    assert_eq!(sweep(bench, &all, Some(LONG)).await, [], "nothing is over yet");
    bench.fixture.pass(life(bench)).await;
    let expired = sweep(bench, &all, Some(LONG)).await;
    assert_eq!(locators(&expired), sorted(&over), "each once, and no other");
    for expired in &expired {
        let session = over.iter().find(|session| session.locator == expired.locator);
        let record = &session.expect("one of these").record;
        assert_eq!(expired.reason, EndReason::Idle);
        assert_eq!(expired.user.as_deref(), record.user.as_deref());
        assert_eq!(expired.created_ms, Some(record.created_ms));
        let end = record.last_access_ms + ms(IDLE + bench.fixture.touch_slack());
        assert_eq!(expired.ended_ms, end, "the latest access, the idle limit and the slack");
        assert!(!expired.again);
        assert_eq!(bench.read(expired.locator).await, ReadReply::Missing, "it is gone");
        let reply = bench.claim(expired.locator, &Token::new(&node("b"))).await;
        assert_eq!(reply, ClaimReply::Missing);
    }
    assert_eq!(sweep(bench, &all, Some(LONG)).await, [], "they were handed out already");
    assert_eq!(bench.found(kept.locator).await, kept.record);
}

pub(super) async fn a_session_that_lives_on_is_handed_out_when_it_is_over(bench: &Bench<'_>) {
    let mut all = sessions(bench, 3).await;
    bench.fixture.pass(life(bench) / 2).await;
    bench.store.touch(all[0].locator).await.expect("touch answers");
    bench.written(&mut all[1], &set("n", "1")).await;
    all[2] = bench.claimed(all[2].locator, &node("b")).await;
    bench.fixture.pass(life(bench) / 2 + BEYOND).await;
    assert_eq!(sweep(bench, &all, Some(LONG)).await, [], "the accesses keep them alive");
    for session in &all {
        assert!(matches!(bench.read(session.locator).await, ReadReply::Found(_)));
    }
    bench.fixture.pass(life(bench) / 2 + BEYOND).await;
    let expired = sweep(bench, &all, Some(LONG)).await;
    assert_eq!(locators(&expired), sorted(&all));
}

pub(super) async fn an_absolute_end_is_told_as_one(bench: &Bench<'_>) {
    let owned = bench.session_like(&blank(&node("a")), IDLE).await;
    bench.fixture.pass(IDLE / 2).await;
    bench.store.touch(owned.locator).await.expect("touch answers");
    bench.fixture.pass(IDLE / 2 + BEYOND).await;
    let absolute_ms = owned.record.absolute_ms;
    let expired = sweep(bench, &[owned], Some(LONG)).await;
    assert_eq!(expired.len(), 1, "{expired:?}");
    assert_eq!((expired[0].reason, expired[0].ended_ms), (EndReason::Absolute, absolute_ms));
}

pub(super) async fn a_session_that_was_ended_on_purpose_is_told_as_that(bench: &Bench<'_>) {
    let all = sessions(bench, 2).await;
    let ended = RevokeReply::Revoked { owner: Some(all[0].fence.token.clone()) };
    let reply = bench.store.revoke(all[0].locator, End::Asked).await.expect("revoke answers");
    assert_eq!(reply, ended);
    bench.fixture.pass(life(bench)).await;
    // Over, and not swept yet: the logout came first.
    bench.store.revoke(all[1].locator, End::Asked).await.expect("revoke answers");
    // Its owner is late.
    let reply = bench.store.revoke(all[0].locator, End::OutOfTime).await.expect("revoke answers");
    assert_eq!(reply, ended);
    let expired = sweep(bench, &all, Some(LONG)).await;
    assert_eq!(locators(&expired), sorted(&all), "each once");
    for expired in &expired {
        let session = all.iter().find(|session| session.locator == expired.locator);
        let created_ms = session.expect("one of these").record.created_ms;
        assert_eq!((expired.reason, expired.created_ms), (EndReason::Logout, Some(created_ms)));
        assert!(expired.ended_ms >= created_ms && !expired.again, "{expired:?}");
    }
    for session in &all {
        assert_eq!(bench.read(session.locator).await, ReadReply::Revoked, "the tombstone stands");
    }
}

pub(super) async fn what_a_session_held_is_kept_until_its_end_was_told(bench: &Bench<'_>) {
    let mut all = sessions(bench, 2).await;
    let user = Change { user: Some(Some("zoe".into())), ..set("cart", "[1,2]") };
    for session in &mut all {
        bench.written(session, &user).await;
        let state = bench.store.last_state(session.locator).await.expect("last_state answers");
        assert_eq!(state, None, "it lives");
    }
    bench.store.revoke(all[0].locator, End::Ordered).await.expect("revoke answers");
    bench.fixture.pass(life(bench)).await;
    let expired = sweep(bench, &all, Some(LONG)).await;
    assert_eq!(locators(&expired), sorted(&all));
    for expired in &expired {
        let reason =
            if expired.locator == all[0].locator { EndReason::Ended } else { EndReason::Idle };
        assert_eq!((expired.reason, expired.user.as_deref()), (reason, Some("zoe")));
        let session = all.iter().find(|session| session.locator == expired.locator);
        let held = &session.expect("one of these").record.attributes;
        let state = bench.store.last_state(expired.locator).await.expect("last_state answers");
        let state = state.expect("nobody was told yet");
        assert_eq!((&state.attributes, &state.seal), (held, &Seal::Open));
        bench.store.acknowledge(expired).await.expect("acknowledge answers");
        let state = bench.store.last_state(expired.locator).await.expect("last_state answers");
        assert_eq!(state, None, "whoever was told has it");
    }
}

pub(super) async fn what_its_owner_ends_out_of_time_is_told(bench: &Bench<'_>) {
    let owned = idle_session(bench).await;
    let locator = owned.locator;
    bench.fixture.pass(IDLE + BEYOND).await;
    let ended = RevokeReply::Revoked { owner: Some(owned.fence.token.clone()) };
    for _ in 0..2 {
        let reply = bench.store.revoke(locator, End::OutOfTime).await.expect("revoke answers");
        assert_eq!(reply, ended, "sent again it tells the owner again");
    }
    assert_eq!(bench.read(locator).await, ReadReply::Revoked);
    let created_ms = owned.record.created_ms;
    let expired = sweep(bench, std::slice::from_ref(&owned), Some(LONG)).await;
    assert_eq!(expired.len(), 1, "once, although it was ended twice: {expired:?}");
    let [first] = &expired[..] else { return };
    assert_eq!((first.reason, first.created_ms), (EndReason::Idle, Some(created_ms)));
    assert!(first.ended_ms >= created_ms + ms(IDLE) && !first.again, "{first:?}");
    assert_eq!(bench.read(locator).await, ReadReply::Revoked, "the tombstone stands");
    bench.fixture.pass(life(bench)).await;
    assert_eq!(sweep(bench, &[owned], Some(LONG)).await, [], "not by its time as well");
}

pub(super) async fn what_is_acknowledged_is_gone_and_all_else_comes_again(bench: &Bench<'_>) {
    const HOLD: Duration = Duration::from_millis(1_000);
    let all = sessions(bench, 4).await;
    bench.fixture.pass(life(bench)).await;
    let first = sweep(bench, &all, Some(HOLD)).await;
    assert_eq!(locators(&first), sorted(&all));
    for expired in &first[..2] {
        for _ in 0..2 {
            bench.store.acknowledge(expired).await.expect("acknowledge answers");
        }
    }
    bench.fixture.pass(HOLD + BEYOND).await;
    let mut again = sweep(bench, &all, Some(LONG)).await;
    assert!(again.iter().all(|expired| expired.again), "{again:?}");
    for expired in &mut again {
        expired.again = false;
    }
    again.sort_by_key(|expired| expired.locator);
    let mut wanted = first[2..].to_vec();
    wanted.sort_by_key(|expired| expired.locator);
    assert_eq!(again, wanted, "the others, and the same is told");
}

pub(super) async fn nothing_is_kept_when_nobody_is_to_be_told(bench: &Bench<'_>) {
    let all = sessions(bench, 3).await;
    bench.fixture.pass(life(bench)).await;
    let expired = sweep(bench, &all, None).await;
    assert_eq!(locators(&expired), sorted(&all), "for whoever counts them");
    assert_eq!(sweep(bench, &all, Some(LONG)).await, []);
}

pub(super) async fn sweeps_at_once_hand_out_each_to_one_of_them(bench: &Bench<'_>) {
    let all = sessions(bench, 30).await;
    bench.fixture.pass(life(bench)).await;
    let sweeps = (0..4).map(|_| sweep(bench, &all, Some(LONG)));
    let mut expired: Vec<Expired> = join_all(sweeps).await.into_iter().flatten().collect();
    // A sweep leaves out what another one has locked at that moment.
    expired.extend(sweep(bench, &all, Some(LONG)).await);
    assert_eq!(locators(&expired), sorted(&all));
}

pub(super) async fn in_the_grace_nothing_is_swept(bench: &Bench<'_>) {
    let owned = idle_session(bench).await;
    bench.fixture.pass(life(bench)).await;
    let Some(remembered) = bench.fixture.change_identity().await else { return };
    // The sweep may be the first that the changed server hears.
    assert_eq!(sweep(bench, std::slice::from_ref(&owned), Some(LONG)).await, []);
    if remembered == Remembered::Nothing {
        return;
    }
    bench.fixture.pass(bench.fixture.lease() + BEYOND).await;
    assert_eq!(sweep(bench, &[owned], Some(LONG)).await.len(), 1, "the grace is over");
}

pub(super) async fn what_was_put_back_is_told_when_it_is_over(bench: &Bench<'_>) {
    let mut owned = idle_session(bench).await;
    let Some(remembered) = bench.fixture.change_identity().await else { return };
    if remembered == Remembered::Everything {
        // As if it had lost the claim.
        owned.record.epoch += 1;
    }
    let reply = bench.store.restore(owned.locator, &owned.record).await.expect("restore answers");
    assert_eq!(reply, RestoreReply::Restored);
    bench.fixture.pass(bench.fixture.lease().max(life(bench)) + BEYOND).await;
    let expired = sweep(bench, &[owned], Some(LONG)).await;
    assert_eq!(expired.len(), 1, "an emptied server hears of it by its owner");
}
