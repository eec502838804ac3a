//! Many at once. Each step is atomic, so exactly one order of them must explain the answers.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::bench::{Bench, LONG, Owned, blank, ms, node, set};
use crate::record::{Change, Fence, OpId, Token};
use crate::store::{ClaimReply, CreateReply, End, WriteReply};

pub(super) async fn only_one_of_many_creates_wins(bench: &Bench<'_>) {
    let locator = bench.locator().await;
    let records: Vec<_> = (0..16).map(|_| blank(&node("a"))).collect();
    let creates = records.iter().map(|record| bench.store.create(locator, record, ms(LONG)));
    let replies = join_all(creates).await;
    let won = |reply: &&_| matches!(reply, &&Ok(CreateReply::Created { .. }));
    assert_eq!(replies.iter().filter(won).count(), 1, "{replies:?}");
    let winner = replies.iter().position(|reply| won(&reply)).expect("one of them");
    assert_eq!(bench.found(locator).await.owner, records[winner].owner);
}

pub(super) async fn only_the_last_of_many_claims_can_write(bench: &Bench<'_>) {
    let session = bench.session(&node("a")).await;
    let tasks = (0..16).map(|i| {
        let (store, locator) = (bench.store.clone(), session.locator);
        tokio::spawn(async move {
            let token = Token::new(&node(&format!("node-{i}")));
            let reply = store.claim(locator, &token, None).await.expect("claim answers");
            match reply {
                ClaimReply::Claimed { epoch, .. } => Fence { token, epoch },
                other => panic!("no lease is live: {other:?}"),
            }
        })
    });
    let fences: Vec<Fence> =
        join_all(tasks).await.into_iter().map(|fence| fence.expect("no panic")).collect();
    let epochs: BTreeSet<u64> = fences.iter().map(|fence| fence.epoch).collect();
    assert_eq!(epochs, (2..18).collect(), "each claim makes the next epoch");
    for fence in fences {
        let last = fence.epoch == 17;
        let owned = Owned { fence, ..session.clone() };
        let reply = bench.write(&owned, &set("n", "1"), OpId::random()).await;
        assert_eq!(matches!(reply, WriteReply::Written { .. }), last, "{owned:?}: {reply:?}");
    }
}

pub(super) async fn concurrent_writes_make_each_version_once(bench: &Bench<'_>) {
    let session = bench.session(&node("a")).await;
    let writer = |i: u64| {
        let mut owned = session.clone();
        async move {
            let mut made = Vec::new();
            while made.len() < 25 {
                let change = set(&format!("writer-{i}"), &made.len().to_string());
                match bench.write(&owned, &change, OpId::random()).await {
                    WriteReply::Written { version, .. } => {
                        made.push(version);
                        owned.record.version = version;
                    }
                    WriteReply::Conflict { version } => owned.record.version = version,
                    other => panic!("one fence, no other owner: {other:?}"),
                }
                // A store that keeps the record as one value takes it from here.
                owned.record = crate::record::Record {
                    version: owned.record.version,
                    ..bench.found(owned.locator).await
                };
            }
            made
        }
    };
    let made: Vec<u64> = join_all((0..8).map(writer)).await.concat();
    let versions: BTreeSet<u64> = made.iter().copied().collect();
    assert_eq!(made.len(), versions.len(), "no version was made twice");
    assert_eq!(versions, (2..202).collect(), "and none left out");
    assert_eq!(bench.found(session.locator).await.version, 201);
}

pub(super) async fn a_write_that_is_sent_many_times_enters_once(bench: &Bench<'_>) {
    let session = bench.session(&node("a")).await;
    let (change, op_id) = (set("n", "1"), OpId::random());
    let replies = join_all((0..16).map(|_| bench.write(&session, &change, op_id))).await;
    let written = replies.iter().filter(|reply| matches!(reply, WriteReply::Written { .. }));
    assert_eq!(written.count(), 1, "{replies:?}");
    let others = replies.iter().filter(|reply| **reply == WriteReply::Duplicate { version: 2 });
    assert_eq!(others.count(), 15, "{replies:?}");
}

pub(super) async fn nothing_is_written_after_a_revocation(bench: &Bench<'_>) {
    let session = bench.session(&node("a")).await;
    let writes = async {
        let mut owned = session.clone();
        loop {
            match bench.write(&owned, &set("n", "1"), OpId::random()).await {
                WriteReply::Written { version, .. } => owned.record.version = version,
                WriteReply::Revoked => return,
                other => panic!("the owner writes until it is over: {other:?}"),
            }
        }
    };
    let revoke = async {
        tokio::task::yield_now().await;
        bench.store.revoke(session.locator, End::Asked).await.expect("revoke answers")
    };
    futures_util::future::join(writes, revoke).await;
    let reply = bench.write(&session, &set("n", "2"), OpId::random()).await;
    assert_eq!(reply, WriteReply::Revoked);
}

/// A store may send them together; what is wrong with one must be no matter for the next.
pub(super) async fn writes_of_many_sessions_at_once_are_answered_each_for_itself(
    bench: &Bench<'_>,
) {
    const SESSIONS: usize = 120;
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let mut owned = bench.session(&node("a")).await;
        let wanted = match number % 6 {
            0 => {
                bench.claimed(owned.locator, &node("b")).await;
                WriteReply::Fenced
            }
            1 => {
                bench.store.revoke(owned.locator, End::Asked).await.expect("revoke answers");
                WriteReply::Revoked
            }
            2 => {
                owned.record.version = 7;
                WriteReply::Regressed { version: 1 }
            }
            3 => {
                let stale = owned.clone();
                bench.written(&mut owned, &set("n", "0")).await;
                owned = stale;
                WriteReply::Conflict { version: 2 }
            }
            4 => {
                owned.locator = bench.locator().await;
                WriteReply::Missing
            }
            _ => WriteReply::Written { version: 2, now_ms: 0 },
        };
        sessions.push((owned, wanted));
    }
    let changes: Vec<Change> = (0..SESSIONS).map(|n| set("number", &n.to_string())).collect();
    let writes = sessions.iter().zip(&changes);
    let writes = writes.map(|((owned, _), change)| bench.write(owned, change, OpId::random()));
    let replies = join_all(writes).await;
    for (number, (mut reply, (owned, wanted))) in replies.into_iter().zip(sessions).enumerate() {
        if let WriteReply::Written { now_ms, .. } = &mut reply {
            *now_ms = 0; // whatever the clock says
            let stored = bench.found(owned.locator).await;
            assert_eq!(stored.attributes.get("number").map(|it| &**it), Some(&*number.to_string()));
        }
        assert_eq!(reply, wanted, "session {number}");
    }
}
