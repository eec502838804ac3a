//! Random histories: the database must answer as the specification does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use understudy_runtime::clock::SystemClock;
use understudy_runtime::lease::LeaseStore;
use understudy_session::record::{Fence, Locator, OpId, RecentOps, Record, Token};
use understudy_session::store::memory::MemoryStore;
use understudy_session::store::{
    ClaimReply, CreateReply, ReadReply, SessionStore, ValidateReply, Write, WriteReply,
};

use crate::bench::{BUCKET, HOUR_MS, LEASE, found, node, postgres, record, set, sqlite};

/// Takes out of a record what depends on the clock of its store.
fn timeless(mut record: Box<Record>) -> Box<Record> {
    record.created_ms = 0;
    record.last_access_ms = 0;
    record.absolute_ms = 0;
    record
}

fn timeless_claim(reply: ClaimReply) -> ClaimReply {
    match reply {
        ClaimReply::Claimed { epoch, version, record, .. } => {
            ClaimReply::Claimed { epoch, version, now_ms: 0, record: record.map(timeless) }
        }
        ClaimReply::Owned { node, record, .. } => {
            ClaimReply::Owned { node, remaining_ms: 0, now_ms: 0, record: timeless(record) }
        }
        other @ (ClaimReply::Grace { .. }
        | ClaimReply::Missing
        | ClaimReply::Revoked
        | ClaimReply::Expired) => other,
    }
}

/// Does one random step; gives the answer without times, as text.
async fn step(
    store: &dyn SessionStore,
    leases: &dyn LeaseStore,
    fences: &mut BTreeMap<u8, (Fence, Record)>,
    random: &mut StdRng,
) -> String {
    let nodes = [node("a"), node("b"), node("c")];
    let own = &nodes[random.random_range(0..nodes.len())];
    let session = random.random_range(0..3_u8);
    let locator = Locator::from_bytes([session; 16]);
    let token = Token::from_text(&format!("{own}|{:016x}", random.random::<u64>()));
    let (fence, copy) = fences
        .get(&session)
        .cloned()
        .unwrap_or_else(|| (Fence { token: token.clone(), epoch: 1 }, record(&token)));
    match random.random_range(0..13_u8) {
        0 => {
            // Some are over as soon as they begin.
            let lifetime = if random.random_bool(0.2) { 0 } else { HOUR_MS };
            let reply = store.create(locator, &record(&token), lifetime).await.unwrap();
            let created = matches!(reply, CreateReply::Created { .. });
            if created {
                let copy = found(store, locator).await;
                fences.insert(session, (Fence { token, epoch: 1 }, copy));
            }
            format!("created {created}")
        }
        1..=3 => {
            let known = random.random_bool(0.5).then_some(copy.version);
            let reply = store.claim(locator, &token, known).await.unwrap();
            if let ClaimReply::Claimed { epoch, .. } = reply {
                // Now and then a node goes on with its old fence.
                if random.random_bool(0.8) {
                    fences.insert(session, (Fence { token, epoch }, found(store, locator).await));
                }
            }
            format!("{:?}", timeless_claim(reply))
        }
        4 => match store.read(locator).await.unwrap() {
            ReadReply::Found(record) => format!("{:?}", timeless(record)),
            other @ (ReadReply::Missing | ReadReply::Revoked) => format!("{other:?}"),
        },
        5..=7 => random_write(store, fences, (session, fence, copy), random).await,
        8 => {
            let version = (copy.version + random.random_range(0..3)).saturating_sub(1);
            match store.validate(locator, &fence, version).await.unwrap() {
                ValidateReply::Valid { .. } => "valid".into(),
                other => format!("{other:?}"),
            }
        }
        9 => {
            let mut ahead = copy;
            ahead.version += random.random_range(0..3);
            ahead.owner = random.random_bool(0.9).then_some(fence.token);
            format!("{:?}", store.restore(locator, &ahead).await.unwrap())
        }
        10 if random.random_bool(0.3) => format!("{:?}", store.revoke(locator).await.unwrap()),
        10 => format!("released {}", store.release(locator, &fence).await.unwrap()),
        11 => format!("{:?} {}", store.touch(locator).await, store.sweep(10).await.unwrap()),
        _ if random.random_bool(0.5) => format!("{:?}", leases.drop_node(BUCKET, own).await),
        _ => {
            let renewed = leases.renew(BUCKET, own, Duration::from_secs(60)).await.unwrap();
            format!("renewed {} {}", renewed.continuous, renewed.evicted)
        }
    }
}

async fn random_write(
    store: &dyn SessionStore,
    fences: &mut BTreeMap<u8, (Fence, Record)>,
    (session, fence, copy): (u8, Fence, Record),
    random: &mut StdRng,
) -> String {
    let (mut change, mut after) = set(&copy, "n", &random.random::<u16>().to_string());
    if random.random_bool(0.3) {
        change.remove.push("weird \"name\"\u{0}".into());
        change.user = Some(None);
        change.previous_secret = Some(None);
        change.idle_ms = Some(HOUR_MS + 1);
        change.recent = Some(RecentOps { since_version: copy.version, entries: Vec::new() });
        understudy_session::spec::apply(&mut after, &change);
    }
    let base_version = (copy.version + u64::from(random.random_bool(0.1)))
        .saturating_sub(u64::from(random.random_bool(0.1)));
    let op_id = match copy.last_op {
        Some(op) if random.random_bool(0.1) => op,
        _ => OpId(random.random()),
    };
    let locator = Locator::from_bytes([session; 16]);
    let write =
        Write { locator, fence: &fence, base_version, op_id, change: &change, after: &after };
    let reply = store.write(write).await.unwrap();
    match reply {
        WriteReply::Written { version, .. } => {
            let after = found(store, locator).await;
            fences.insert(session, (fence, after));
            format!("written {version}")
        }
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn random_histories_get_the_answers_of_the_specification() {
    for bench in [Some(sqlite().await), postgres().await].into_iter().flatten() {
        for _ in 0..3 {
            // Tombstones stand for a minute, so begin anew now and then.
            bench.clear().await;
            let memory = MemoryStore::new(Arc::new(SystemClock), LEASE, Duration::ZERO);
            let (mut one, mut two) = (BTreeMap::new(), BTreeMap::new());
            let seed: u64 = rand::random();
            let mut first = StdRng::seed_from_u64(seed);
            let mut second = StdRng::seed_from_u64(seed);
            for number in 0..1_000 {
                let wanted = step(&memory, &memory, &mut one, &mut first).await;
                let given = step(&bench.store, &bench.leases, &mut two, &mut second).await;
                assert_eq!(given, wanted, "step {number} of seed {seed} on {:?}", bench.database);
            }
        }
    }
}
